"""What attacks that steal a mark share: how its preference is estimated from what was sold, with
models of the attacker's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pydantic import Field

from distill.attackers import AttackerResources, Part
from distill.attackers.clean import turns
from distill.completions import BadInput, Completion, Interface
from distill.models import LanguageModel
from distill.preferences import Preference, Search, of_models, of_texts, rows_of
from distill.seeds import derived_seed


class Estimate(Part):
    """`by`: what is compared, the tokens that were said or what two models would say; `order`:
    tokens of the longest context; `least`: places of a context that counts; `most`: contexts of a
    length; `cap`: ratio from which a preference is whole.
    """

    by: Literal["tokens", "models"] = "models"
    order: int = Field(2, ge=0, le=8)
    least: int = Field(5, ge=1, le=1_000_000)
    most: int = Field(1000, ge=1, le=1_000_000)
    cap: float = Field(2.0, gt=1, le=1e6)

    @property
    def search(self) -> Search:
        """What of it an estimate takes."""
        return Search(self.order, self.least, self.most, self.cap)


def answer_each(
    model: LanguageModel, completions: Sequence[Completion], temperature: float, seed: int
) -> list[Completion]:
    """A model's answers to the questions of some answers: as many to each as there are, each drawn
    by itself.

    Args:
        model: of the attacker's own.
        completions: answers to what it is asked.
        temperature: at which answers are drawn.
        seed: of what is drawn.
    """
    prompts = [
        replace(one.question, attempt=turn)
        for one, turn in zip(completions, turns(completions), strict=True)
    ]
    speaker = replace(model, network=model.network.eval(), temperature=temperature)
    return speaker.generate(prompts, seed=seed, interface=Interface())


def stolen(
    completions: Sequence[Completion],
    base: LanguageModel,
    marked: LanguageModel | None,
    how: Estimate,
    temperature: float,
    seed: int,
) -> Preference:
    """What the mark of sold answers prefers.

    Args:
        completions: as they were sold.
        base: a model of the attacker's own that never saw them.
        marked: one that learned from them; None where tokens are compared.
        how: what is compared.
        temperature: at which the base's tokens are drawn.
        seed: of what is drawn.
    """
    sold = rows_of(base, completions)
    if marked is not None:
        return of_models(marked, base, sold, how.search)
    others = answer_each(base, completions, temperature, derived_seed("steal", seed))
    return of_texts(sold, rows_of(base, others), base, how.search)


def require_worked(resources: AttackerResources, name: str) -> None:
    """Refuse an attacker without worked solutions: then there is no text without the mark.

    Args:
        resources: of the attacker.
        name: of the part, for the message.

    Raises:
        BadInput: it owns none.
    """
    if not resources.worked:
        raise BadInput(
            f"attacker {name}: the attacker owns no worked solutions, so it has no text without "
            "the mark; see own.worked"
        )
