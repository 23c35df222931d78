"""What all cleaning shares: groups, edits, where reasoning ends, and a model of its own with what
surprises it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from defenses.release import split_answer as providers
from distill.answer_format import AnswerFormat
from distill.attackers import sft
from distill.attackers.clean import groups, split_answer, surprisal, train_own_model, with_text
from distill.completions import Completion, Logprobs
from tests.distill.attackers.clean.traces import CLEAN, OWN, RECIPE, WORKED, fresh

HASH = AnswerFormat(thinking="none")


@given(st.lists(st.sampled_from("pqr")))
def test_groups_are_in_order_of_appearance_and_hold_every_answer_once(prompts):
    answers = [Completion(str(i), prompt, "") for i, prompt in enumerate(prompts)]
    grouped = groups(answers)
    assert [group[0].prompt for group in grouped] == list(dict.fromkeys(prompts))
    assert all(
        group == [one for one in answers if one.prompt == group[0].prompt] for group in grouped
    )


def test_another_text_drops_what_spelt_the_old_one_and_the_same_text_keeps_it():
    rows = Logprobs(np.zeros((2, 1), "i4"), np.zeros((2, 1), "f4"))
    answer = replace(CLEAN[0], logprobs=rows, finished=False)
    assert with_text(answer, answer.text) is answer
    assert with_text(answer, "x") == Completion(
        answer.prompt_id, answer.prompt, "x", (), False, None
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("c=3 # 4", ("c=3", " # 4")),
        ("a#b  # 4", ("a#b", "  # 4")),
        ("c=3", ("c=3", "")),
        (" # 4", ("", " # 4")),
        ("", ("", "")),
    ],
)
def test_where_reasoning_ends_by_hand(text, parts):
    assert split_answer(text, HASH) == parts


@given(st.text("ab# \n"))
def test_attacker_and_provider_divide_alike(text):
    assert (
        split_answer(text, HASH) == providers(text, HASH)
        and "".join(split_answer(text, HASH)) == text
    )


def test_surprisal_is_the_mean_over_an_answers_tokens_and_its_end_in_float64():
    model, answer = fresh(3), CLEAN[0]
    ids = [
        model.tokenizer(text, add_special_tokens=False).input_ids
        for text in (answer.prompt, answer.text)
    ]
    whole = torch.tensor([[*ids[0], *ids[1], model.tokenizer.eos_token_id]])
    with torch.no_grad():
        logprobs = model.network(input_ids=whole).logits[0].double().log_softmax(-1)
    nats = [-float(logprobs[t - 1, whole[0, t]]) for t in range(len(ids[0]), whole.shape[1])]
    assert len(nats) == len(answer.text) + 1  # a token a character
    assert surprisal(model, [CLEAN[1], answer])[1] == pytest.approx(sum(nats) / len(nats), rel=1e-5)


def test_what_the_context_does_not_hold_is_infinitely_surprising():
    assert surprisal(fresh(0), [replace(CLEAN[0], text="1" * 99)]) == [math.inf]


def test_an_own_model_is_trained_for_its_share_of_the_steps_from_the_seed_and_reads_as_in_use():
    recipe = RECIPE.model_copy(update={"steps": 10})
    ten, four = ((replace(OWN, recipe=recipe.model_copy(update={"steps": n}))) for n in (10, 4))

    def weights(resources, seed, share=1.0):
        return torch.cat(
            [
                p.flatten()
                for p in train_own_model(WORKED[:20], resources, seed, share).network.parameters()
            ]
        )

    assert torch.equal(weights(ten, 0, 0.4), weights(four, 0)) and not torch.equal(
        weights(ten, 0), weights(four, 0)
    )
    assert not torch.equal(weights(four, 1), weights(four, 0)) and torch.equal(
        weights(four, 1), weights(four, 1)
    )
    by_hand = sft.Attacker(sft.Settings()).train(WORKED[:20], fresh(1), four.recipe, seed=1)
    assert torch.equal(
        weights(four, 1), torch.cat([p.flatten() for p in by_hand.network.parameters()])
    )
    net = train_own_model(WORKED[:20], four, 0, 0.01).network  # one step at least
    assert not net.training and not torch.equal(net.lm_head.weight, fresh(0).network.lm_head.weight)
