"""Rows of which an attacker knows both sides: its own model's, and what its copy of the defence
makes of them.

Axes: R rows of the table, T positions, A atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from distill.attackers import AttackerResources
from distill.attackers.clean import groups, train_own_model
from distill.attackers.repair import atoms, rows_of
from distill.completions import BadInput, Completion, Interface, Logprobs


def align(clean: Logprobs, defended: Logprobs, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `most` defended entries of each row as atoms, and the clean atoms of the same
    tokens.

    Args:
        clean: T rows.
        defended: the same rows behind the defence.
        most: A - 1, entries of a row.

    Returns:
        Clean and defended atoms `[T, A]`.
    """
    ids_TA = defended.ids_TK[:, :most]
    same_TAK = (ids_TA[:, :, None] == clean.ids_TK[:, None, :]) & (ids_TA[:, :, None] >= 0)
    known_TA = (same_TAK * np.exp(clean.values_TK.astype(np.float64))[:, None]).sum(-1)
    rest_T1 = np.maximum(1 - known_TA.sum(-1, keepdims=True), 0)
    return np.concatenate([known_TA, rest_T1], -1), atoms(defended, most)


def shadow(
    completions: Sequence[Completion],
    resources: AttackerResources,
    name: str,
    *,
    seed: int,
    most: int,
    table: int,
) -> tuple[np.ndarray, np.ndarray]:
    """At most `table` clean `[R, A]` and defended `[R, A]` rows of a model that learned the texts
    of the answers.

    It is asked the same questions, at temperature 1, and releases as many entries as part `name`
    was sold.

    Args:
        completions: answers that were sold.
        resources: with the rebuilt defence, `fresh` and `recipe`.
        name: of the part, for messages.
        seed: of the model and its draws.
        most: A - 1, entries of a row.
        table: rows at most.
    """
    assert resources.defense is not None
    k = max(rows_of(one, name).ids_TK.shape[1] for one in completions)
    model = replace(train_own_model(completions, resources, seed), temperature=1.0)
    prompts = [
        replace(one.question, attempt=i)
        for held in groups(completions)
        for i, one in enumerate(held)
    ]
    clean = model.generate(prompts, seed=seed, interface=Interface("top_k", k))
    pairs = list(zip(clean, resources.defense(clean), strict=True))
    rows = [align(rows_of(a, name), rows_of(b, name), most) for a, b in pairs]
    same_width([one[1] for one in rows], name)
    clean_RA, defended_RA = (np.concatenate(side) for side in zip(*rows, strict=True))
    sample = np.sort(np.random.default_rng(seed % 2**32).permutation(len(clean_RA))[:table])
    return clean_RA[sample], defended_RA[sample]


def fitting(completions: Sequence[Completion], name: str, width: int) -> list[np.ndarray]:
    """The atoms of all answers' rows, as many as the table has.

    Args:
        completions: answers that were sold.
        name: of the part, for messages.
        width: A.

    Returns:
        Probabilities `[T, A]` of each answer, T its tokens.

    Raises:
        BadInput: a row has fewer entries.
    """
    all_atoms = [atoms(rows_of(one, name), width - 1) for one in completions]
    same_width([np.zeros((0, width)), *all_atoms], name)
    return all_atoms


def same_width(all_atoms: Sequence[np.ndarray], name: str) -> None:
    """Refuse rows of different widths.

    Args:
        all_atoms: `[T, A]` of each answer, see `atoms`.
        name: of the part that asks, for its message.

    Raises:
        BadInput: not all have the same A.
    """
    widths = sorted({one.shape[1] - 1 for one in all_atoms})
    if len(widths) > 1:
        raise BadInput(
            f"attacker {name}: an answer's rows have {widths[0]} entries, others {widths[-1]} or "
            "more; all "
            "rows sold, and those of the rebuilt defence, must have as many"
        )
