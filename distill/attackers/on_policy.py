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
from distill.attackers.follow import joined
from distill.completions import Completion, Interface, Logprobs, Prompt
from distill.models import LanguageModel
from distill.student import StudentSettings, Trained


def scored(
    own: AttackerResources, said: Sequence[Completion], k: int, seed: int
) -> list[Completion]:
    """The student's answers with the teacher's top-k logprobs for each of their tokens and, if
    finished, their end.
    """
    assert own.teacher is not None
    prompts = [Prompt(one.prompt_id, one.prompt, begin=one.text) for one in said]
    told = own.teacher.generate(prompts, seed=seed, interface=Interface("top_k", k))
    held = []
    for mine, theirs in zip(said, told, strict=True):
        rows, length = theirs.logprobs, len(mine.token_ids) + mine.finished
        if (
            rows is None
            or theirs.token_ids[: len(mine.token_ids)] != mine.token_ids
            or len(rows.ids_TK) < length
        ):
            # the student wrote what the teacher's tokenizer spells otherwise, or nothing was
            # released
            continue
        held.append(replace(mine, logprobs=Logprobs(rows.ids_TK[:length], rows.values_TK[:length])))
    return held


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
    needs = ("teacher",)
    paper = "Agarwal et al. 2024, 2306.13649"

    def train(
        self,
        said: Sequence[Completion],
        model: LanguageModel,
        recipe: StudentSettings,
        *,
        seed: int,
        own: AttackerResources = NOTHING,
        checkpoint: Path | None = None,
    ) -> Trained:
        """Logprob distillation on sold answers, then on the student's own, the recipe's steps in
        all.
        """
        s, passive = self.settings, logprob_kd.Attacker(logprob_kd.Settings.model_validate({}))
        told = {"divergence": s.divergence, "beta": s.beta}
        learner = logprob_kd.Attacker(logprob_kd.Settings.model_validate(told))
        first = max(1, round(s.first * recipe.steps))
        whole = passive.train(said, model, recipe.model_copy(update={"steps": first}), seed=seed)
        each = recipe.model_copy(
            update={
                "steps": max(1, (recipe.steps - first) // s.phases),
                "learning_rate": recipe.learning_rate / 2,
            }
        )
        questions = [
            Prompt(one.prompt_id, one.prompt) for one in {one.prompt: one for one in said}.values()
        ]
        for phase in range(s.phases):
            warm = replace(model, network=whole.network.eval(), temperature=s.temperature)
            mine = scored(
                own, warm.generate(questions, seed=seed + phase, interface=Interface()), s.k, seed
            )
            more = (
                learner.train(mine, model, each, seed=seed + phase + 1)
                if mine
                else Trained(whole.network)
            )
            whole = joined([whole, replace(more, asked=len(questions))])
        return whole
