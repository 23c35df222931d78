"""Image regression: a language model's logprobs lie on an image of low dimension, and edits that
leave it show.

Logits are W h with W of V rows and d columns, so a row of logprobs is a point of a (d +
1)-dimensional space (the constants are its last direction) of V-dimensional ones: the softmax
bottleneck (Yang et al. 2018, 1711.03953), known as a leak of production interfaces (Finlayson et
al. 2024, 2403.09539; Carlini et al. 2024, 2403.06634). Whoever has that space fits each released
row by it in L1 (iteratively reweighted least squares), where few edited entries have no say, and
reads the row off the fit. `known`: most rows are clean, and the space is spanned by their main
singular directions. `blind`: every row may be edited, and space and rows are fitted together, entry
by entry. Entries that were withheld or drained to zero are missing and not wrong.

It undoes edits of few entries and interpolation with one token exactly, thins out noise that is
independent for each entry (`known`), and gains nothing against maps that are dense and not
log-linear (uniform smoothing, reverse sigmoid: see `repair/invert`) or that stay on the image.
Gradient redirection without a floor is undone by `known`; where every row has it, as it drains the
same tokens over and over, `blind` finds the space only in part (V 300, d 16, eps 0.5: median L1
0.40 after 192 rows, 0.05 after 640). A row that `blind` does not explain, of which fewer than half
the entries agree with the image that it found, stays as it was released: where the same tokens
drain in every row, as by one direction for all contexts, there is none. It needs V well above d; a
head with a bias has one dimension more. Axes: N rows, V vocabulary, R = d + 1 directions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from distill.attackers import AttackerResources, Base, Part
from distill.attackers.repair import dense, rows_of, sparse, with_logprobs
from distill.completions import BadInput, Completion, Logprobs, digest

FINEST = 1e-6  # nats; below it residuals are rounding of float32 logprobs
ON_IMAGE = 1e-4  # nats; a row that is fitted this well everywhere is released as it is
CLOSE = 0.01  # nats; an entry that is off by less agrees with the fit of its row
FAR = 3.0  # nats; the most that an entry is off its row and token when the blind form begins
AT_ONCE = 1 << 23  # numbers of all normal equations that are worked on together


def weighted_fit(x_NV: np.ndarray, weights_NV: np.ndarray, basis_VR: np.ndarray) -> np.ndarray:
    """Coefficients `[N, R]` of each row's weighted least squares fit by the basis; weight 0 is a
    missing entry.

    Args:
        x_NV: rows.
        weights_NV: of each entry, at least 0.
        basis_VR: directions.
    """
    size, width = basis_VR.shape
    out_NR = np.empty((len(x_NV), width))
    step = max(1, AT_ONCE // (size * width))
    for rows in (slice(first, first + step) for first in range(0, len(x_NV), step)):
        scaled_NRV = basis_VR.T * weights_NV[rows, None]
        normal_NRR = scaled_NRV @ basis_VR
        # A ridge far below rounding of the data, for directions that a row's entries say nothing
        # about.
        ridge_N = 1e-12 * np.trace(normal_NRR, axis1=1, axis2=2) / width + 1e-300
        normal_NRR += ridge_N[:, None, None] * np.eye(width)
        out_NR[rows] = np.linalg.solve(normal_NRR, scaled_NRV @ x_NV[rows][..., None])[..., 0]
    return out_NR


def robust(there_NV: np.ndarray, residuals_NV: np.ndarray, scale: float) -> np.ndarray:
    """Weights whose least squares step is one of L1's: 1 over the residual, which counts as `scale`
    at least.

    Args:
        there_NV: which entries there are.
        residuals_NV: of the fit before.
        scale: the least that a residual counts as, nats.

    Returns:
        `[N, V]` in 1 / nats; 0 where there is no entry.
    """
    weights_NV: np.ndarray = there_NV / np.maximum(np.abs(residuals_NV), scale)
    return weights_NV


def scales(rounds: int) -> np.ndarray:
    """The scale of each round, from a nat down to FINEST: first all entries have a say, in the end
    those that agree.

    Args:
        rounds: how many there are.

    Returns:
        `[rounds]` in nats, falling geometrically.
    """
    return np.geomspace(1.0, FINEST, rounds)


def l1_fit(
    x_NV: np.ndarray, there_NV: np.ndarray, basis_VR: np.ndarray, rounds: int = 30
) -> np.ndarray:
    """Each row's L1 fit `[N, V]` by the basis, from the entries that are there.

    Args:
        x_NV: rows.
        there_NV: which entries there are.
        basis_VR: directions.
        rounds: of reweighting.
    """
    fit_NV: np.ndarray = weighted_fit(x_NV, there_NV.astype(float), basis_VR) @ basis_VR.T
    for scale in scales(rounds):
        fit_NV = weighted_fit(x_NV, robust(there_NV, x_NV - fit_NV, scale), basis_VR) @ basis_VR.T
    return fit_NV


def known_span(x_NV: np.ndarray, d: int, rounds: int = 20) -> np.ndarray:
    """The constant and the d main singular directions `[V, R]` of centred whole rows, of which over
    half are clean.

    Least trimmed squares: the half of the rows that is fitted best makes the next fit.

    Args:
        x_NV: logprobs of whole rows.
        d: hidden size.
        rounds: at most.
    """
    centred_NV = x_NV - x_NV.mean(-1, keepdims=True)
    fitted = np.arange(len(x_NV))
    for _ in range(rounds):
        basis_dV = np.linalg.svd(centred_NV[fitted], full_matrices=False)[2][:d]
        miss_N = np.abs(centred_NV - centred_NV @ basis_dV.T @ basis_dV).sum(-1)
        best = np.sort(np.argsort(miss_N, kind="stable")[: (len(x_NV) + d + 1) // 2])
        if np.array_equal(best, fitted):
            break
        fitted = best
    return np.concatenate([np.full((x_NV.shape[1], 1), x_NV.shape[1] ** -0.5), basis_dV.T], -1)


def blind_span(x_NV: np.ndarray, there_NV: np.ndarray, d: int, rounds: int = 60) -> np.ndarray:
    """The directions `[V, R]` of which all rows are combinations but for few entries of each: L1
    matrix completion.

    Rows and tokens take turns at being fitted by the other, with one weight for each entry.

    Args:
        x_NV: logprobs.
        there_NV: which entries there are.
        d: hidden size.
        rounds: of reweighting.
    """
    median: Any = np.ma.median  # numpy gives it no types
    there_alone_NV = np.ma.masked_array(x_NV, ~there_NV)
    centred_NV = there_alone_NV - median(there_alone_NV, -1, keepdims=True)
    middle_V = median(centred_NV, 0)
    # Medians and clipped distances from them: one entry of many nats would else be a direction to
    # begin with.
    start_NV = (centred_NV - middle_V).clip(-FAR, FAR).filled(0) + middle_V.filled(0)
    basis_VR = np.concatenate(
        [np.ones((x_NV.shape[1], 1)), np.linalg.svd(start_NV, full_matrices=False)[2][:d].T], -1
    )
    weights_NV = there_NV.astype(float)
    for scale in scales(rounds):
        basis_VR = np.linalg.qr(basis_VR)[0]
        rows_NR = weighted_fit(x_NV, weights_NV, basis_VR)
        basis_VR = weighted_fit(x_NV.T, weights_NV.T, rows_NR)
        weights_NV = robust(there_NV, x_NV - rows_NR @ basis_VR.T, scale)
    return np.linalg.qr(basis_VR)[0]


def is_explained(miss_NV: np.ndarray, there_NV: np.ndarray) -> np.ndarray:
    """Whether at least half of each row's entries lie on its fit `[N]`: else what was found is not
    the image that the row comes from, or too much of the row was edited.

    Args:
        miss_NV: how far each entry is off, nats.
        there_NV: which entries there are.
    """
    close_NV = there_NV & (miss_NV < CLOSE)
    explained_N: np.ndarray = 2 * close_NV.sum(-1) >= there_NV.sum(-1)
    return explained_N


def repair(
    p_NV: np.ndarray, form: Literal["known", "blind"], d: int, most: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities read off the image that at most `most` of the rows span, and which rows
    changed; 0 is missing.

    What lies on the image stays, as do rows that `blind` cannot explain, and rows with fewer than
    d + 1 entries, which can come from anywhere on it. A token that is named fewer than d + 1 times
    has no place on it and keeps its share.

    Args:
        p_NV: rows of probabilities; 0 is withheld.
        form: `known` fits whole rows alone, `blind` all.
        d: hidden size of the model whose image it is.
        most: rows that it is learned from.
        rng: draws them.

    Returns:
        Probabilities `[N, V]`, and whether each row changed `[N]`.

    Raises:
        BadInput: no row has d + 1 entries, or fewer than d + 1 different rows (for `known`, whole
            ones) span the image.
    """
    there_NV = p_NV > 0
    fullest = int(there_NV.sum(-1).max(initial=0))
    if fullest <= d:
        raise BadInput(
            f"attacker repair/image: the fullest row has {fullest} logprobs; hidden={d} needs "
            f"{d + 1} or more"
        )
    x_NV = np.log(np.where(there_NV, p_NV, 1))
    whole_N = np.asarray(there_NV.all(-1))
    fit_for = np.flatnonzero(whole_N) if form == "known" else np.arange(len(p_NV))
    learn = fit_for[
        np.unique(x_NV[fit_for], axis=0, return_index=True)[1]
    ]  # a row met again spans nothing more
    if len(learn) <= d:
        raise BadInput(
            f"attacker repair/image: {len(learn)} different {'whole ' * (form == 'known')}rows; "
            f"form {form} "
            f"with hidden={d} needs {d + 1} or more"
        )
    learn = rng.permutation(learn)[:most]
    placed_V = there_NV[learn].sum(0) > d
    x, there = x_NV[:, placed_V], there_NV[:, placed_V]
    span = known_span(x[learn], d) if form == "known" else blind_span(x[learn], there[learn], d)
    readable = np.flatnonzero(there.sum(-1) > d)
    fit = l1_fit(x[readable], there[readable], span)
    miss = np.where(there[readable], np.abs(x[readable] - fit), 0)
    off = np.asarray(~whole_N[readable] | (miss.max(-1, initial=0) > ON_IMAGE))
    if form == "blind":
        off &= is_explained(miss, there[readable])
    logs_NV = np.where(there_NV, x_NV, -np.inf)
    logs_NV[np.ix_(readable[off], placed_V)] = fit[off]
    changed_N = np.isin(np.arange(len(p_NV)), readable[off])
    out_NV = np.exp(logs_NV - logs_NV.max(-1, keepdims=True))
    return out_NV / out_NV.sum(-1, keepdims=True), changed_N


class Settings(Part):
    """`form`: see above; `hidden`: d, the teacher's hidden size; `most`: rows from which the space
    is learned.
    """

    form: Literal["known", "blind"] = "blind"
    hidden: int = Field(64, ge=1, le=1_000_000)
    most: int = Field(2000, ge=2, le=1_000_000)


class Attacker(Base):
    needs_interface = "full"
    paper = "Finlayson et al. 2024, 2403.09539; Yang et al. 2018, 1711.03953"

    def clean(
        self, completions: Sequence[Completion], resources: AttackerResources, *, seed: int
    ) -> list[Completion]:
        """Every answer with its rows read off the image; a row that lies on it
        stays, bit for bit.
        """
        released = [rows_of(one, "repair/image") for one in completions]
        size = max((int(one.ids_TK.max(initial=-1)) for one in released), default=-1) + 1
        p_NV = np.concatenate([np.zeros((0, size)), *(dense(one, size) for one in released)])
        rng = np.random.default_rng(int(digest(f"image/{seed}"), 16))
        out_NV, changed_N = repair(
            p_NV, self.settings.form, self.settings.hidden, self.settings.most, rng
        )
        cuts = np.cumsum([len(one.ids_TK) for one in released])[:-1]
        parts = zip(released, np.split(out_NV, cuts), np.split(changed_N, cuts), strict=True)
        return with_logprobs(completions, [_replace_rows(*part) for part in parts])


def _replace_rows(rows: Logprobs, out_TV: np.ndarray, changed_T: np.ndarray) -> Logprobs:
    """The rows with those that changed replaced, which may have more entries."""
    if not changed_T.any():
        return rows
    new, (count, size) = sparse(out_TV, out_TV.shape[1]), out_TV.shape
    width = max(size, rows.ids_TK.shape[1])
    ids, values = (
        np.full((count, width), -1, np.int32),
        np.full((count, width), -np.inf, np.float32),
    )
    for from_, which_T in ((rows, ~changed_T), (new, changed_T)):
        ids[which_T, : from_.ids_TK.shape[1]] = from_.ids_TK[which_T]
        values[which_T, : from_.ids_TK.shape[1]] = from_.values_TK[which_T]
    return Logprobs(ids, values)
