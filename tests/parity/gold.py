"""`aligned_kd` against TRL's GOLD trainer: a teacher with characters, a student with byte pairs,
and one answer that they divide otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl.experimental.gold.gold_trainer import ULDLoss

from distill.attackers import aligned_kd
from distill.bridge import Bridge
from distill.completions import Completion, Logprobs
from distill.embedded import byte_pair_tokenizer, character_tokenizer, llama
from distill.models import LanguageModel
from distill.rendering import completion_ids, text_ids

LOOSER = 10.0
"""How much further apart these may be: whole networks lie before the losses."""
TEXT, QUESTION = "12+34=46#46", "1+1="
BETA = 0.3


class Measured(NamedTuple):
    """A loss, and its slope at the student's embeddings."""

    value: Tensor
    slope: Tensor


def pairs() -> Iterator[tuple[str, Measured, Measured]]:
    """What is compared: a name, our loss and TRL's."""
    teacher = _model(character_tokenizer("0123456789+=#"), 1)
    student = _model(byte_pair_tokenizer([TEXT, QUESTION] * 4, 275), 0)
    for name, compare, pairing in (
        ("ULD, positions", "sorted", "positions"),
        ("GOLD, sorted", "sorted", "bytes"),
        ("GOLD, hybrid", "hybrid", "bytes"),
    ):
        settings = aligned_kd.Settings(
            released="full", compare=compare, pairing=pairing, beta=BETA, ce_weight=0.0
        )
        yield (
            name,
            _measured(student, lambda s=settings: _ours(s, teacher, student)),
            _measured(student, lambda s=settings: _theirs(s, teacher, student)),
        )


def _model(tokenizer: Any, seed: int) -> LanguageModel:
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=seed)
    return LanguageModel(network, tokenizer)


def _measured(student: LanguageModel, loss: Any) -> Measured:
    student.network.zero_grad()
    value = loss()
    value.backward()
    return Measured(value.detach(), student.network.get_input_embeddings().weight.grad.clone())


def _rows(model: LanguageModel) -> tuple[list[int], list[int]]:
    """Tokens of question and answer, its end with it."""
    return text_ids(model.tokenizer, QUESTION), completion_ids(model.tokenizer, TEXT, True)


def _logits(model: LanguageModel) -> Tensor:
    prompt, answer = _rows(model)
    return model.network(input_ids=torch.tensor([prompt + answer])).logits


def _ours(settings: Any, teacher: LanguageModel, student: LanguageModel) -> Tensor:
    prompt, answer = _rows(teacher)
    with torch.no_grad():
        said_TV = torch.log_softmax(_logits(teacher)[0, len(prompt) - 1 : -1], -1)
    values_TK, ids_TK = said_TV.sort(-1, descending=True)
    released = Logprobs(ids_TK.int().numpy(), values_TK.numpy())
    completion = Completion("p", QUESTION, TEXT, tuple(answer[:-1]), True, released)
    bridge = Bridge.between(teacher.tokenizer, student.tokenizer)
    attacker = aligned_kd.Attacker(settings)
    example = attacker._example(completion, bridge, student, 64)
    return attacker._loss(bridge, student.network, [example], 0, torch.device("cpu"))


def _theirs(settings: Any, teacher: LanguageModel, student: LanguageModel) -> Tensor:
    hybrid = settings.compare == "hybrid"
    config = SimpleNamespace(
        uld_crossentropy_weight=0.0,
        uld_distillation_weight=1.0,
        uld_student_temperature=1.0,
        uld_teacher_temperature=1.0,
        uld_skip_student_eos=False,
        uld_skip_teacher_eos=False,
        use_extended_uld=settings.pairing == "bytes",
        uld_token_merge_strategy="bayesian",
        uld_use_hybrid_loss=hybrid,
        uld_hybrid_matched_weight=None,
        uld_hybrid_unmatched_weight=None,
        beta=settings.beta,
    )
    loss = ULDLoss(config, student.tokenizer, teacher.tokenizer)
    if hybrid:  # matched by what tokens spell, as ours are, and not by their names
        spelled = Bridge.between(teacher.tokenizer, student.tokenizer).student_T
        loss._vocab_mapping = {at: int(one) for at, one in enumerate(spelled) if one >= 0}
        loss._teacher_matched_ids = {*loss._vocab_mapping}
        loss.mapping_tensor = torch.tensor(spelled)
    sides = [_side(student), _side(teacher)]
    with torch.no_grad():
        taught = _logits(teacher)
    labels, ids, offsets = ([side[name] for side in sides] for name in ("labels", "ids", "offsets"))
    return loss(_logits(student), taught, *labels, *ids, *offsets)


def _side(model: LanguageModel) -> dict[str, Tensor]:
    """Labels, token ids and byte offsets of one tokenization, as the trainer makes them."""
    prompt, answer = _rows(model)
    begun = [answer[: at + 1] for at in range(len(answer))]
    ends = [len(model.tokenizer.decode(ids, skip_special_tokens=True)) for ids in begun]
    starts = [0, *ends[:-1]]
    nothing = [(0, 0)] * len(prompt)
    return {
        "labels": torch.tensor([[-100] * len(prompt) + answer]),
        "ids": torch.tensor([prompt + answer]),
        "offsets": torch.tensor([nothing + [*zip(starts, ends, strict=True)]]),
    }
