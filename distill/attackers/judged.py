"""Judge stealing: the student samples answers, the released teacher gives each a score, and what it
scores higher is made likelier.

A campaign of 2026 is reported to have had a teacher grade answers by rubrics, as the reward of its
student's training, and JudgeStealer (2608.26982, of which this project knows no more than that)
steals how a teacher judges from its scores of single answers. Here a share of the steps is
fine-tuning on the sold answers; then, in rounds, the student answers the sold questions several
times, the teacher scores answers one by one, and GRPO's update (2402.03300) moves the student, the
recipe's steps in all at most. Every score is bought like an answer, behind the defence. By
`instruction` the teacher is asked in words, and the reply holds a number from 0 to 10. By
`likelihood` it is made to begin its answer with the student's, and the score is the mean logprob
of a token, which takes no teacher that follows instructions, but an interface that lets a caller
begin the answer. Answers to a question that are all alike are not sent, as no score could rank
them, and no more are sent than the steps have use for.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, field_validator

from distill.attackers import NOTHING, AttackerResources, Base, Part, sft
from distill.attackers.clean import groups
from distill.attackers.follow import copy_model, join_trainings, sample_completions
from distill.attackers.follow.grpo import Policy, advantages, policy_pass
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.losses import RESOLUTION
from distill.models import LanguageModel
from distill.rendering import text_ids, turns
from distill.seeds import derived_seed
from distill.specs import TrainingConfig
from distill.trainer import Trained

HIGHEST = 10.0
TEMPLATE = """Grade an answer to a question.

Question:
{question}

Answer:
{answer}

Rubric: 10 if every step is sound and the final answer is right; about 5 if the steps are mostly \
sound and the final answer is wrong; 0 if neither is.
Reply with one line, "Score: N", where N is a number from 0 to 10, and nothing else."""
NUMBER = r"([0-9]{1,2}(?:\.[0-9]{1,4})?)(?: ?/ ?10)?\.?"
ALONE = re.compile(NUMBER)
LABELLED = re.compile(rf"\bscore(?: is|:| ?=) ?{NUMBER}$", re.IGNORECASE)
EMPHASIS = str.maketrans("", "", "*_`")


def read_score(reply: str) -> float | None:
    """The score in a judge's reply, 0 to 10: of a line that ends in `score: N`, or of a reply that
    is a number and nothing else; `N/10` is N. None where there is none, or several that differ.

    Args:
        reply: of the judge, all of it.
    """
    words = reply.translate(EMPHASIS).strip()
    lines = [line.strip() for line in words.splitlines()]
    numbers = {float(match[1]) for line in lines if (match := LABELLED.search(line))}
    if not numbers and (alone := ALONE.fullmatch(words)):
        numbers = {float(alone[1])}
    return numbers.pop() if len(numbers) == 1 and max(numbers) <= HIGHEST else None


def mean_logprob(rows: Logprobs | None, ids: Sequence[int]) -> float | None:
    """The mean log-probability that released rows give to tokens, nats a token.

    A token that a row leaves out has at most the least that the row names and at most all that it
    leaves out, and is taken to have that; no token is taken to have less than `RESOLUTION`.

    Args:
        rows: one a token at least; None where none were released.
        ids: T tokens.

    Returns:
        None where there is no token, or a row too few, or one in which nothing was released.
    """
    if rows is None or not 0 < len(ids) <= len(rows.ids_TK):
        return None
    ids_TK, values_TK = rows.ids_TK[: len(ids)], rows.values_TK[: len(ids)].astype(float)
    named_TK = ids_TK >= 0
    if not named_TK.any(1).all():
        return None
    if rows.tail_T is None:
        left_T = np.log(np.clip(1 - np.exp(values_TK).sum(1, where=named_TK), RESOLUTION, None))
    else:
        left_T = rows.tail_T[: len(ids)].astype(float)
    bound_T = np.minimum(left_T, values_TK.min(1, where=named_TK, initial=0.0))
    match_TK = ids_TK == np.array(ids)[:, None]
    named_T = values_TK.max(1, where=match_TK, initial=-np.inf)
    values_T = np.where(match_TK.any(1), named_T, bound_T)
    return float(np.maximum(values_T, math.log(RESOLUTION)).mean())


def gains(scores_GK: np.ndarray) -> np.ndarray:
    """What each answer gains by its score: GRPO's advantage in its group (2402.03300, eq. 3).

    An answer without a score has its group's mean, and so gains nothing.

    Args:
        scores_GK: G groups of K answers each, any unit; NaN where there is no score.

    Returns:
        `[G, K]`, in standard deviations of the group; 0 in a group of equal scores.
    """
    scored_GK = np.isfinite(scores_GK)
    sums_G1 = scores_GK.sum(1, keepdims=True, where=scored_GK)
    means_G1 = sums_G1 / np.maximum(scored_GK.sum(1, keepdims=True), 1)
    out_GK = advantages(np.where(scored_GK, scores_GK, means_G1))
    least_G1 = scores_GK.min(1, keepdims=True, where=scored_GK, initial=np.inf)
    most_G1 = scores_GK.max(1, keepdims=True, where=scored_GK, initial=-np.inf)
    # By comparison, as the mean of equal numbers may be another by rounding.
    return np.where(scored_GK & (most_G1 > least_G1), out_GK, 0.0)


def question_text(prompt: Prompt) -> str:
    """All that was asked as a judge reads it: a text alone, or each turn behind its role.

    Args:
        prompt: question, system prompt and history.
    """
    spoken = turns(prompt)
    if len(spoken) == 1:
        return prompt.text
    return "\n".join(f"{turn.role}: {turn.content}" for turn in spoken)


Key = tuple[str, str, bool]


def key(answer: Completion) -> Key:
    """What two answers share that no score can tell apart.

    Args:
        answer: of the student.
    """
    return answer.question.conversation, answer.text, answer.finished


def shorten(text: str) -> str:
    """A text for a message: on a line, and no longer than one.

    Args:
        text: of anybody.
    """
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


class Settings(Part):
    """`first`: the least share of the steps on sold answers, the rest is divided among the rounds;
    `samples`: the student's answers a question and round, at `temperature`; `rate`: of the policy
    gradient, times the recipe's learning rate; `clip`, `kl`: as in GRPO.

    `k`, logprobs a token, is read by `likelihood`; `template` by `instruction`.
    """

    by: Literal["likelihood", "instruction"] = "likelihood"
    first: float = Field(0.8, gt=0, lt=1)
    rounds: int = Field(4, ge=1, le=1000)
    samples: int = Field(4, ge=2, le=1000)
    temperature: float = Field(1.0, gt=0)
    rate: float = Field(0.02, gt=0)
    clip: float = Field(0.2, gt=0, lt=1)
    kl: float = Field(0.0, ge=0)
    k: int = Field(20, ge=1, le=1000)
    template: str = Field(TEMPLATE, max_length=20_000)

    @field_validator("template")
    @classmethod
    def _names_both(cls, template: str) -> str:
        parts = [part for part in string.Formatter().parse(template) if part[1] is not None]
        if {part[1:] for part in parts} != {(name, "", None) for name in ("question", "answer")}:
            raise ValueError("must hold {question} and {answer}, and no other braces")
        return template


class Judge:
    """The teacher as an attacker makes it score answers; one that comes again is not sent again.

    Args:
        settings: how it is asked.
        resources: with the teacher and, for `likelihood`, its tokenizer.
        seed: handed to the teacher.
    """

    def __init__(self, settings: Settings, resources: AttackerResources, seed: int) -> None:
        self.settings, self.resources, self.seed = settings, resources, seed
        self.scores: dict[Key, float | None] = {}

    def score(self, answers: Sequence[Completion]) -> np.ndarray:
        """The score of each answer `[answers]`, NaN where none can be read.

        Args:
            answers: of the student.

        Raises:
            BadInput: of most answers so far none can be read.
        """
        fresh = {key(one): one for one in answers if key(one) not in self.scores}
        ask = self._by_likelihood if self.settings.by == "likelihood" else self._by_instruction
        if fresh:
            ask([*fresh.values()])
        return np.array([self.scores[key(one)] for one in answers], float)

    @property
    def unscored(self) -> int:
        """How many answers were sent and got no score."""
        return sum(score is None for score in self.scores.values())

    def _by_instruction(self, answers: Sequence[Completion]) -> None:
        words = self.settings.template
        prompts = [
            Prompt(
                f"{one.prompt_id}/judged-{place}",
                words.format(question=question_text(one.question), answer=one.text),
            )
            for place, one in enumerate(answers)
        ]
        replies = self._asked(prompts, Interface())
        self._note(answers, [read_score(reply.text) for reply in replies])
        unread = next((one.text for one in replies if read_score(one.text) is None), "")
        self._check(
            f"replies of the teacher hold no score from 0 to {HIGHEST:g}, as {shorten(unread)}; "
            "a teacher that follows no instruction takes by=likelihood"
        )

    def _by_likelihood(self, answers: Sequence[Completion]) -> None:
        prompts = [replace(one.question, begin=one.text) for one in answers]
        rows = self._asked(prompts, Interface("top_k", self.settings.k))
        scores = [self._level(one, row) for one, row in zip(answers, rows, strict=True)]
        self._note(answers, scores)
        pairs = zip(answers, scores, strict=True)
        unread = next((one.text for one, score in pairs if score is None), "")
        self._check(
            "answers are begun otherwise by the teacher than they were dictated, or nothing is "
            f"released for them, as for {shorten(unread)}"
        )

    def _level(self, answer: Completion, scored: Completion) -> float | None:
        """The mean logprob of the answer's tokens, as the teacher spells them, and of its end."""
        ids = text_ids(self.resources.tokenizer, answer.text)
        if list(scored.token_ids[: len(ids)]) != ids:
            return None
        end = [self.resources.tokenizer.eos_token_id] * answer.finished
        return mean_logprob(scored.logprobs, ids + end)

    def _asked(self, prompts: Sequence[Prompt], interface: Interface) -> list[Completion]:
        assert self.resources.teacher is not None
        return self.resources.teacher.generate(prompts, seed=self.seed, interface=interface)

    def _note(self, answers: Sequence[Completion], scores: Sequence[float | None]) -> None:
        self.scores |= dict(zip(map(key, answers), scores, strict=True))

    def _check(self, what: str) -> None:
        """BadInput where most answers have no score."""
        if 2 * self.unscored > len(self.scores):
            raise BadInput(f"attacker judged: {self.unscored} of {len(self.scores)} {what}")


class Attacker(Base):
    paper = "JudgeStealer 2026, 2608.26982 (abstract); DeepSeek's campaign, as reported"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        if settings.by == "likelihood":
            self.needs, self.needs_interface = ("teacher", "prefill", "tokenizer"), "top_k"
        else:
            self.needs, self.instruction = ("teacher",), settings.template

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
        """Sold answers first, then rounds of answering, scoring and learning, the recipe's steps in
        all at most: groups that are scored alike teach nothing.

        Raises:
            BadInput: of most answers no score can be read.
        """
        s, sold = self.settings, [answers[0] for answers in groups(completions)]
        rest = max(0, recipe.steps - max(1, round(s.first * recipe.steps)))
        rounds = min(s.rounds, rest)
        # A round has no use for more steps than a pass over its answers takes.
        steps = min(rest // max(rounds, 1), -(-len(sold) * s.samples // recipe.batch_size))
        plain = recipe.model_copy(update={"steps": recipe.steps - rounds * steps})
        trainings = [sft.Attacker(sft.Settings()).train(completions, model, plain, seed=seed)]
        student = replace(model, network=trainings[0].network)
        start, policy = copy_model(student).network, Policy(steps, s.rate, s.clip, s.kl)
        judge = Judge(s, resources, seed)
        for turn in range(rounds):
            turn_seed = derived_seed("judged", seed, turn)
            drawn = sample_completions(student, sold, s.samples, s.temperature, turn_seed)
            sent = self._picked(drawn, steps * recipe.batch_size, turn_seed)
            worth = gains(judge.score(sent).reshape(-1, s.samples)).ravel()
            done = policy_pass(student, start, sent, worth, recipe, policy, seed=turn_seed)
            trainings.append(done)
        whole = join_trainings(trainings)
        return replace(whole, asked=len(judge.scores), unscored=judge.unscored)

    def _picked(self, drawn: Sequence[Completion], most: int, seed: int) -> list[Completion]:
        """Whole groups of unlike answers, until there are `most` answers."""
        size = self.settings.samples
        whole = [drawn[start : start + size] for start in range(0, len(drawn), size)]
        unlike = [group for group in whole if len(set(map(key, group))) > 1]
        order = np.random.default_rng([seed, 7]).permutation(len(unlike))[: -(-most // size)]
        return [one for place in order for one in unlike[place]]
