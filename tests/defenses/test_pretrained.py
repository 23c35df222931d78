"""Models from local folders against transformers alone: row by row, without padding, cache or
position ids of ours.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill.auxiliary import AuxiliaryModel
from distill.completions import Interface, Prompt
from distill.generation import DecodingStep

SHAPES = ["llama", "gpt2"]


@pytest.fixture(scope="module", params=SHAPES)
def shape(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def plain(folders, shape):
    """A function from prompt to ids, and networks by role, as transformers has them."""
    tokenizer = AutoTokenizer.from_pretrained(folders[shape])

    def encode(prompt: Prompt) -> list[int]:
        if shape == "gpt2":
            return tokenizer(prompt.text).input_ids
        turns = [{"role": "user", "content": prompt.text}]
        return tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)

    paths = {"teacher": folders[shape], "proxy": folders[shape] / "proxy"}
    return encode, {
        role: AutoModelForCausalLM.from_pretrained(path).eval() for role, path in paths.items()
    }


@torch.no_grad()
def forward(network: Any, ids: list[int]) -> torch.Tensor:
    """Scores after every token of one row: no padding, no mask, no cache."""
    return network(torch.tensor([ids])).logits[0]


def test_its_prompts_are_padded_and_read(worlds, shape):
    teacher, _, prompts = worlds[shape]
    assert len({len(teacher.encode(prompt)) for prompt in prompts}) == len(prompts)
    assert len(
        {
            answer.text
            for answer in replace(teacher, temperature=0.0).generate(
                prompts, seed=0, interface=Interface()
            )
        }
    ) == len(prompts)


def test_a_tokenizer_without_padding_pads_with_its_end(worlds, shape):
    tokenizer = worlds[shape].teacher.tokenizer
    assert (tokenizer.pad_token_id == tokenizer.eos_token_id) == (shape == "gpt2")


def test_rows_beyond_the_tokenizer_are_there_and_not_said(worlds, shape):
    teacher, _, prompts = worlds[shape]
    assert teacher.network.config.vocab_size - len(teacher.tokenizer) == (
        8 if shape == "gpt2" else 0
    )
    tokens = {
        token
        for answer in teacher.generate(prompts, seed=0, interface=Interface())
        for token in answer.token_ids
    }
    assert max(tokens) < len(teacher.tokenizer)


def test_prompts_are_encoded_as_transformers_does(worlds, shape, plain):
    teacher, _, prompts = worlds[shape]
    assert [teacher.encode(prompt) for prompt in prompts] == [
        plain[0](prompt) for prompt in prompts
    ]


def test_greedy_answers_of_a_padded_batch_are_those_of_generate_row_by_row(worlds, shape, plain):
    teacher, _, prompts = worlds[shape]
    encode, networks = plain
    answers = replace(teacher, temperature=0.0).generate(prompts, seed=0, interface=Interface())
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([encode(prompt)])
        limit = teacher.max_new_tokens
        out = networks["teacher"].generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=limit,
            do_sample=False,
            pad_token_id=teacher.tokenizer.eos_token_id,
        )
        new = out[0, ids.shape[1] :].tolist()
        assert list(answer.token_ids) + [teacher.tokenizer.eos_token_id] * answer.finished == new


def test_released_logprobs_of_a_padded_batch_are_those_of_a_plain_forward_pass(
    worlds, shape, plain
):
    teacher, _, prompts = worlds[shape]
    encode, networks = plain
    for prompt, answer in zip(
        prompts, teacher.generate(prompts, seed=5, interface=Interface("full")), strict=True
    ):
        ids, rows = encode(prompt), answer.logprobs
        expected_TV = torch.log_softmax(
            # What the network has beyond its tokenizer spells nothing and is not released.
            forward(networks["teacher"], ids + list(answer.token_ids))[:, : teacher.tokens],
            -1,
        )[len(ids) - 1 :]
        got_TV = torch.tensor(rows.values_TK).gather(
            -1, torch.tensor(rows.ids_TK).long().argsort(-1)
        )
        assert torch.allclose(got_TV, expected_TV[: len(got_TV)], rtol=0, atol=1e-4)


def test_a_follower_reads_a_padded_batch_as_a_plain_forward_pass_does(worlds, shape, plain):
    teacher, resources, prompts = worlds[shape]
    encode, networks = plain
    follower, seen = AuxiliaryModel(resources.proxy.network), []

    def listening(step: DecodingStep, scores_BV: torch.Tensor) -> torch.Tensor:
        seen.append((list(step.keys), follower.logits(step)))
        return scores_BV

    answers = replace(teacher, score_edits=(listening,)).generate(
        prompts, seed=5, interface=Interface()
    )
    keys = teacher.randomness(prompts, 5)
    assert len(seen) == teacher.max_new_tokens
    for prompt, key, answer in zip(prompts, keys, answers, strict=True):
        ids = encode(prompt)
        expected_TV = forward(networks["proxy"], ids + list(answer.token_ids))[len(ids) - 1 :]
        for index, (row, scores_BV) in enumerate(seen[: len(answer.token_ids)]):
            assert torch.allclose(scores_BV[row.index(key)], expected_TV[index], rtol=0, atol=1e-4)
