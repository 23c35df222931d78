"""Distillability: the teacher is tuned by reinforcement to say what a proxy finds unlikely, and
still to be right.

Zhan et al. 2026 (2604.18963): reward = task reward - beta KL(teacher || clean) + eta times the
likelihood ratio of teacher to frozen proxy, each reward normalised within its group of answers to
one prompt. No code is public. Ours: eta > 0 makes answers unlikely to the proxy and hard to learn,
eta < 0 likely and easy; the ratio is a mean over an answer's tokens (its sum would reward length)
of the policy that sampled it; one step a round, so that no ratio needs clipping; every token weighs
the same; the KL is exact over V at the sampled positions and enters as a loss. The expected ratio
is itself a KL to the proxy: a teacher that hardly varies has little to choose from and may only be
made surer. With eta well above 1 the ratio outweighs being right. Proxy and teacher share a
tokenizer here. Axes: G prompts, S answers a prompt, N answer tokens, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from defenses import DefenseSettings, Strength, Traits, require_proxy, require_traces
from defenses.trained import Row, Tuned, answer_logits, fixed_logits, learned, learner, rows, tune
from distill.completions import BadInput, Completion, Interface, digest
from distill.models import LanguageModel


def normalise(rewards_GS: Tensor) -> Tensor:
    """Rewards with mean 0 and standard deviation 1 in each group (Shao et al. 2024, 2402.03300); 0
    where all agree.

    Args:
        rewards_GS: of G groups of S answers.

    Returns:
        `[G, S]`.
    """
    # The constant is above the rounding of equal answers that were scored in one batch, which would
    # become rewards.
    centred_GS = rewards_GS - rewards_GS.mean(-1, keepdim=True)
    return centred_GS / (rewards_GS.std(-1, correction=0, keepdim=True) + 1e-4)


def token_means(values_N: Tensor, lengths: Sequence[int]) -> Tensor:
    """Mean over each answer's tokens of values that lie answer after answer.

    Args:
        values_N: one a token.
        lengths: tokens of each answer, N together.

    Returns:
        `[answers]`, in the unit of the values.
    """
    return torch.stack([part.mean() for part in values_N.split(list(lengths))])


def objective(
    scores_NV: Tensor, clean_NV: Tensor, targets_N: Tensor, advantages_N: Tensor, beta: float
) -> Tensor:
    """Mean over tokens of -advantage log p(token) + beta KL(p || clean), nats `[]`; its gradient is
    the policy gradient.

    Args:
        scores_NV: of the model that is tuned, nats.
        clean_NV: of the model as it was.
        targets_N: the tokens that were sampled.
        advantages_N: of their answers.
        beta: weight of KL.
    """
    policy_NV = torch.log_softmax(scores_NV, -1)
    logprobs_N = policy_NV.gather(-1, targets_N[:, None])[:, 0]
    kl_N = (policy_NV.exp() * (policy_NV - torch.log_softmax(clean_NV, -1))).sum(-1)
    return (beta * kl_N - advantages_N * logprobs_N).mean()


def sample_answers(
    model: LanguageModel, traces: Sequence[Completion], samples: int, seed: int
) -> list[Completion]:
    """`samples` answers to the prompt of each trace, at temperature 1 from all of the model's own
    distribution.

    Args:
        model: that is tuned.
        traces: whose prompts are asked.
        samples: answers a prompt.
        seed: of the sampling.
    """
    # By its place in the list, not by its prompt alone: the answers of a group differ.
    free = replace(
        model,
        temperature=1.0,
        top_p=1.0,
        score_edits=(),
        edits=(),
        drawn_edits=(),
        released_edits=(),
        randomness=lambda prompts, seed: [
            f"{seed}/{place}/{digest(one.conversation)}" for place, one in enumerate(prompts)
        ],
    )
    prompts = [one.question for one in traces for _ in range(samples)]
    return free.generate(prompts, seed=seed, interface=Interface())


class Settings(DefenseSettings):
    """`eta`: weight of the likelihood ratio, above 0 less distillable, below 0 more (0: no
    defence).

    `beta`: weight of the KL to the clean teacher. A round samples `samples` answers to each of
    `batch_size` prompts.
    """

    eta: float = 1.0
    beta: float = Field(0.05, ge=0)
    rounds: int = Field(40, ge=1, le=1000)
    samples: int = Field(8, ge=2, le=1000)
    batch_size: int = Field(16, ge=1, le=100_000)
    learning_rate: float = Field(3e-4, gt=0)


class Defense(Tuned):
    """Answers as a teacher that was rewarded for being right and unlike its proxy."""

    name = "trained/distillability"
    settings: Settings
    traits = Traits(
        acts_on="weights",
        identity={"eta": 0.0},
        strength=Strength("eta", 0.0, 0.1, 3.0, log=True),
        requires_logits=True,
        needs=("proxy", "traces", "grade"),
        learns=True,
        paper="Zhan et al. 2026, 2604.18963",
    )

    def taught(self, model: LanguageModel) -> Mapping[str, Tensor]:
        settings, traces = self.settings, require_traces(self.resources, self.name)
        require_proxy(self.resources, model, self.name)
        self._require_grade()
        policy = replace(model, network=learner(model.network))
        seeds = itertools.count()

        def loss(batch: Sequence[Completion]) -> Tensor:
            return self.loss(model, policy, batch, next(seeds))

        tune(
            policy.network.parameters(),
            loss,
            traces,
            steps=settings.rounds,
            learning_rate=settings.learning_rate,
            batch_size=settings.batch_size,
        )
        return learned(policy.network)

    def loss(
        self, clean: LanguageModel, policy: LanguageModel, batch: Sequence[Completion], seed: int
    ) -> Tensor:
        """What a round minimises, in nats `[]`: `objective` of answers that the policy samples now.

        Args:
            clean: the teacher before it was tuned.
            policy: the teacher as it is; gradients flow into its network.
            batch: traces whose prompts are asked.
            seed: of what is sampled.
        """
        settings = self.settings
        completions = sample_answers(policy, batch, settings.samples, seed)
        samples: list[Row] = rows(clean, completions)
        lengths = [len(row.answer_ids) for row in samples]
        scores_NV, targets_N = answer_logits(policy.network, samples)
        proxy = require_proxy(self.resources, clean, self.name).network
        # What the proxy finds unlikely less what the teacher does: log p - log q, a mean over
        # each answer.
        ratio_N = _surprisals(fixed_logits(proxy, samples), targets_N)
        ratio_N = ratio_N - _surprisals(scores_NV.detach(), targets_N)
        ratio_GS = token_means(ratio_N, lengths).reshape(len(batch), settings.samples)
        grade = self._require_grade()
        right = torch.tensor([float(grade(each)) for each in completions], device=ratio_GS.device)
        right_GS = right.reshape(ratio_GS.shape)
        advantages = (normalise(right_GS) + settings.eta * normalise(ratio_GS)).flatten()
        advantages_N = advantages.repeat_interleave(torch.tensor(lengths, device=advantages.device))
        clean_NV = fixed_logits(clean.network, samples)
        return objective(scores_NV, clean_NV, targets_N, advantages_N, settings.beta)

    def _require_grade(self) -> Callable[[Completion], bool]:
        """Whether an answer is right; BadInput if nobody can tell."""
        if self.resources.grade is None:
            raise BadInput(
                f"defense {self.name}: needs a grade, which says whether an answer is right; "
                "there is none"
            )
        return self.resources.grade


def _surprisals(scores_NV: Tensor, targets_N: Tensor) -> Tensor:
    """-log p of each target, nats."""
    return functional.cross_entropy(scores_NV, targets_N, reduction="none")
