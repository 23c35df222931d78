"""Examples, how a network reads a batch of them, and the losses of what it says there.

Loss falls on answer tokens alone, and only their positions are projected to the vocabulary. Axes:
B rows, T positions, N positions that carry loss, K released entries, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from distill import lean
from distill.completions import BadInput, Logprobs


@dataclass(frozen=True)
class Example:
    """A prompt and the answer to learn; `answer_ids` ends with end-of-text if the answer was
    finished.

    `cut` says whether something of the answer is missing because it did not fit.
    """

    prompt_ids: list[int]
    answer_ids: list[int]
    logprobs: Logprobs | None = None
    weight: float = 1.0
    cut: bool = False


Loss = Callable[[Any, list[Example], int, torch.device], Tensor]
"""The loss of one batch, of (network, rows, padding token, device)."""


@dataclass(frozen=True)
class AnswerScores:
    """One batch as the network reads it: scores of the N positions that carry loss, their targets,
    and their rows.
    """

    logits_NV: Tensor
    targets_N: Tensor
    row_N: Tensor


def score_answers(
    network: Any, rows: Sequence[Example], pad: int, device: torch.device
) -> AnswerScores:
    """Right-padded rows through the network; token t of an answer is predicted at the position
    before it.

    Args:
        network: a causal language model of transformers, or what has its two parts, a decoder and
            output embeddings.
        rows: B examples, each with at least one answer token.
        pad: the token id that fills rows up.
        device: where the network is.
    """
    width = max(len(row.prompt_ids) + len(row.answer_ids) for row in rows)
    ids = [row.prompt_ids + row.answer_ids for row in rows]
    tokens_BT = torch.tensor([one + [pad] * (width - len(one)) for one in ids], device=device)
    positions = [
        b * width + len(row.prompt_ids) - 1 + t
        for b, row in enumerate(rows)
        for t in range(len(row.answer_ids))
    ]
    targets_N = torch.tensor([token for row in rows for token in row.answer_ids], device=device)
    row_N = torch.tensor([b for b, row in enumerate(rows) for _ in row.answer_ids], device=device)
    decoder, positions_N = network.get_decoder(), torch.tensor(positions, device=device)
    if lean.fits(decoder):
        states_NH = lean.states(decoder, tokens_BT, positions_N)
    elif not has_plain_head(network):
        return AnswerScores(_scores(network, tokens_BT, positions), targets_N, row_N)
    else:  # Causal attention never looks right, so right padding needs no mask.
        states_BTH = decoder(input_ids=tokens_BT, use_cache=False).last_hidden_state
        states_NH = states_BTH.flatten(0, 1)[positions_N]
    return AnswerScores(network.get_output_embeddings()(states_NH), targets_N, row_N)


def _scores(network: Any, tokens_BT: Tensor, positions: Sequence[int]) -> Tensor:
    """Scores (N, V) by the network's whole forward pass, at the columns where any row has loss."""
    width = tokens_BT.shape[1]
    columns = sorted({position % width for position in positions})
    places = torch.tensor(
        [
            position // width * len(columns) + columns.index(position % width)
            for position in positions
        ],
        device=tokens_BT.device,
    )
    kept_columns = torch.tensor(columns, device=tokens_BT.device)
    logits_BSV = network(input_ids=tokens_BT, use_cache=False, logits_to_keep=kept_columns).logits
    return torch.as_tensor(logits_BSV.flatten(0, 1)[places])


_plain_heads: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def has_plain_head(network: Any) -> bool:
    """Whether a network's scores are its output embeddings of its last states, and nothing more:
    Gemma 2 caps them, others scale them. It is tried on a token, once.

    Args:
        network: a causal language model of transformers.
    """
    if type(network).forward is nn.Module.forward:
        return True  # its two parts are all that it has
    if network not in _plain_heads:
        _plain_heads[network] = _tried_head(network)
    return _plain_heads[network]


def _tried_head(network: Any) -> bool:
    was_training = network.training
    network.eval()
    token_11 = torch.zeros(1, 1, dtype=torch.long, device=network.device)
    with torch.no_grad():
        states = network.get_decoder()(input_ids=token_11, use_cache=False).last_hidden_state
        plain_V = network.get_output_embeddings()(states).float().flatten()
        whole_V = network(input_ids=token_11, use_cache=False).logits.float().flatten()
    network.train(was_training)
    return torch.allclose(plain_V, whole_V, rtol=1e-3, atol=1e-3)


def cross_entropy(logits_NV: Tensor, targets_N: Tensor) -> Tensor:
    """Mean negative log-likelihood of the targets `[]`, nats a token.

    Args:
        logits_NV: scores.
        targets_N: token ids.
    """
    return functional.cross_entropy(logits_NV.float(), targets_N)


def weighted_cross_entropy(logits_NV: Tensor, targets_N: Tensor, weights_N: Tensor) -> Tensor:
    """Weighted mean negative log-likelihood `[]`, nats; weights of any sign, divided by their
    number and not by their sum.

    Args:
        logits_NV: scores.
        targets_N: token ids.
        weights_N: of each position.
    """
    nats_N = functional.cross_entropy(logits_NV.float(), targets_N, reduction="none")
    return (weights_N * nats_N).mean()


def imitation(network: Any, rows: list[Example], pad: int, device: torch.device) -> Tensor:
    """Cross-entropy of the answers' tokens `[]`, nats a token; each token counts with its example's
    weight.

    Args:
        network: a causal language model.
        rows: B answers to their prompts.
        pad: id behind the shorter ones.
        device: of the network.
    """
    scores = score_answers(network, rows, pad, device)
    if all(row.weight == 1 for row in rows):
        return cross_entropy(scores.logits_NV, scores.targets_N)
    weights_N = torch.tensor([row.weight for row in rows], device=device)[scores.row_N]
    return weighted_cross_entropy(scores.logits_NV, scores.targets_N, weights_N)


def released_logprobs(
    rows: Sequence[Example], device: torch.device
) -> tuple[Tensor, Tensor, Tensor | None]:
    """What was released for the positions that carry loss.

    Args:
        rows: B answers with what was released for them.
        device: of the result.

    Returns:
        Token ids `[N, K]`, logprobs `[N, K]` in nats, and the log of each row's tail `[N]` where
        all examples have it, else None.

    Raises:
        BadInput: an example has no logprobs.
    """
    released = [row.logprobs for row in rows if row.logprobs is not None]
    if len(released) < len(rows):
        raise BadInput(
            "student: a divergence needs logprobs in every answer; the interface profile gave none"
        )

    def joined(parts: Sequence[np.ndarray], kind: type) -> Tensor:
        return torch.from_numpy(np.concatenate(parts).astype(kind)).to(device)

    ids_NK = joined([one.ids_TK for one in released], np.int64)
    values_NK = joined([one.values_TK for one in released], np.float32)
    tails = [one.tail_T for one in released if one.tail_T is not None]
    return ids_NK, values_NK, joined(tails, np.float32) if len(tails) == len(released) else None
