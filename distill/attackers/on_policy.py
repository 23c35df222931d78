"""On-policy distillation in phases: the student answers, the teacher scores what it said, the
student learns from that.

GKD (Agarwal et al. 2024, 2306.13649) with the student's own answers, in phases instead of steps, so
that the training loop, and what a provider sees, stay the same: sold answers first, then in every
phase one answer of the student to each question, whose tokens the teacher is made to begin its
answer with and scores on the way. It takes an interface that lets a caller begin the answer and
gives logprobs for what was begun. The loss is a divergence over the released tokens and a tail
bucket (distill/losses.py): forward KL unless told otherwise, on the sold answers always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from distill import losses
from distill.attackers import NOTHING, AttackerResources, Base, Part, logprob_kd
from distill.attackers.follow import join_trainings
from distill.completions import Completion, Interface, Logprobs
from distill.models import LanguageModel
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained


def score_completions(
    resources: AttackerResources, completions: Sequence[Completion], k: int, seed: int
) -> list[Completion]:
    """The student's answers with the teacher's top-k logprobs for each of their tokens and, if
    finished, their end.

    Args:
        resources: with the teacher.
        completions: that the student wrote.
        k: logprobs a token.
        seed: handed to the teacher.
    """
    assert resources.teacher is not None
    prompts = [replace(one.question, begin=one.text) for one in completions]
    scores = resources.teacher.generate(prompts, seed=seed, interface=Interface("top_k", k))
    scored = []
    for written, scored_as in zip(completions, scores, strict=True):
        rows, length = scored_as.logprobs, len(written.token_ids) + written.finished
        if (
            rows is None
            or scored_as.token_ids[: len(written.token_ids)] != written.token_ids
            or len(rows.ids_TK) < length
        ):
            # the student wrote what the teacher's tokenizer spells otherwise, or nothing was
            # released
            continue
        scored.append(
            replace(written, logprobs=Logprobs(rows.ids_TK[:length], rows.values_TK[:length]))
        )
    return scored


class Settings(Part):
    """`first`: share of the steps on the sold answers, the rest is divided among the phases; `k`:
    logprobs a token.

    `beta` is read by `jsd`.
    """

    phases: int = Field(3, ge=1, le=1000)
    first: float = Field(0.5, gt=0, lt=1)
    temperature: float = Field(0.7, gt=0)
    k: int = Field(20, ge=1, le=1000)
    divergence: losses.Divergence = "forward"
    beta: float = Field(0.5, ge=0, le=1)


class Attacker(Base):
    needs_interface = "top_k"
    needs = ("teacher", "prefill")
    paper = "Agarwal et al. 2024, 2306.13649"

    def train(
        self,
        completions: Sequence[Completion],
        model: LanguageModel,
        recipe: TrainingConfig,
        *,
        seed: int,
        resources: AttackerResources = NOTHING,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Logprob distillation on sold answers, then on the student's own, the recipe's steps in
        all.
        """
        s, passive = self.settings, logprob_kd.Attacker(logprob_kd.Settings.model_validate({}))
        chosen_loss = {"divergence": s.divergence, "beta": s.beta}
        learner = logprob_kd.Attacker(logprob_kd.Settings.model_validate(chosen_loss))
        first = max(1, round(s.first * recipe.steps))
        whole = passive.train(
            completions, model, recipe.model_copy(update={"steps": first}), seed=seed
        )
        each = recipe.model_copy(
            update={
                "steps": max(1, (recipe.steps - first) // s.phases),
                "learning_rate": recipe.learning_rate / 2,
            }
        )
        by_prompt = {one.question.conversation: one.question for one in completions}
        questions = [*by_prompt.values()]
        for phase in range(s.phases):
            phase_seed = derived_seed("on_policy", seed, phase)
            warm = replace(model, network=whole.network.eval(), temperature=s.temperature)
            scored = score_completions(
                resources,
                warm.generate(questions, seed=phase_seed, interface=Interface()),
                s.k,
                seed,
            )
            more = (
                learner.train(scored, model, each, seed=phase_seed)
                if scored
                else Trained(whole.network)
            )
            whole = join_trainings([whole, replace(more, asked=len(questions))])
        return whole
