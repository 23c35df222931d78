"""What is asked: coverage against brute force, uncertainty by hand, repeats, accounts, prefill and
examples.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers import AttackerResources
from distill.attackers.ask import accounts, few_shot, prefill, repeats, select
from distill.completions import BadInput, Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel

PROMPTS = [Prompt(str(i), text) for i, text in enumerate(["1+1=", "1+2=", "9-9=", "1+1=", "9-8="])]
TOKENIZER = character_tokenizer("0123456789+-= #;")


def model(seed=0, **options):
    network = llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=12, **options)


class TestCoverage:
    def test_by_hand(self):
        line = np.array([[0.0], [1.0], [10.0], [4.0]])
        # From 0 the farthest is 10; then 4 is 4 from either, and 1 is left.
        assert select.farthest_first(line, 3) == [0, 2, 3]
        assert select.farthest_first(np.zeros((3, 2)), 5) == [0, 1, 2]

    @given(
        st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=3, max_size=7),
        st.integers(1, 3),
    )
    def test_its_radius_is_at_most_twice_the_best(self, points, k):
        at = np.array(points, float)

        def radius(indices):
            return max(min(np.linalg.norm(p - at[i]) for i in indices) for p in at)

        best = min(
            radius(chosen) for chosen in itertools.combinations(range(len(at)), min(k, len(at)))
        )
        assert radius(select.farthest_first(at, k)) <= 2 * best + 1e-9

    def test_questions_that_are_alike_are_asked_last(self):
        attacker = select.Attacker(select.Settings(by="coverage"))
        assert [p.id for p in attacker.ask(PROMPTS, 5, AttackerResources(), seed=0)][
            -1
        ] == "3"  # asks what the first did


class TestUncertainty:
    def test_doubt_is_the_surprisal_a_token_of_the_pilots_own_answer(self):
        pilot = model()
        answer = pilot.generate(PROMPTS[:1], seed=0, interface=Interface())[0]
        ids = torch.tensor([[*pilot.encode(PROMPTS[0]), *answer.token_ids, TOKENIZER.eos_token_id]])
        logits = pilot.network(input_ids=ids).logits[0].detach().double().log_softmax(-1)
        start = len(pilot.encode(PROMPTS[0]))
        nats = -sum(float(logits[i - 1, ids[0, i]]) for i in range(start, ids.shape[1]))
        assert select.doubt(pilot, PROMPTS[:1])[0] == pytest.approx(
            nats / (len(answer.token_ids) + 1), rel=1e-5
        )

    def test_the_first_share_is_asked_in_order_and_the_rest_where_doubt_is_largest(
        self, monkeypatch
    ):
        monkeypatch.setattr(
            select, "doubt", lambda pilot, prompts: np.array([0.1, 0.9, 0.5][: len(prompts)])
        )
        attacker = select.Attacker(select.Settings(first=0.5))
        questions = attacker.ask(PROMPTS, 4, AttackerResources(pilot=model()), seed=0)
        assert [p.id for p in questions] == ["0", "1", "3", "4"] and attacker.needs == ("pilot",)
        assert select.Attacker(select.Settings(by="random")).needs == ()


def test_repeats_are_drawn_anew_and_their_first_is_the_plain_answer():
    attacker = repeats.Attacker(repeats.Settings(k=3))
    questions = attacker.ask(PROMPTS[:2], 2, AttackerResources(), seed=0)
    assert [(p.id, p.attempt) for p in questions] == [
        ("0", 0),
        ("0", 1),
        ("0", 2),
        ("1", 0),
        ("1", 1),
        ("1", 2),
    ]
    warm = model(temperature=2.0)
    answers = warm.generate(questions, seed=0, interface=Interface())
    assert answers[0] == warm.generate(PROMPTS[:1], seed=0, interface=Interface())[0]
    assert len({a.text for a in answers[:3]}) > 1


def test_accounts_are_taken_in_turn():
    attacker = accounts.Attacker(accounts.Settings(n=2))
    questions = attacker.ask(PROMPTS, 5, AttackerResources(), seed=0)
    assert [p.account for p in questions] == [f"account-{i}" for i in (0, 1, 0, 1, 0)]


class TestPrefill:
    def test_answers_begin_with_the_text_and_go_on_as_the_model_would(self):
        questions = prefill.Attacker(prefill.Settings(text="12")).ask(
            PROMPTS, 5, AttackerResources(), seed=0
        )
        begun = model().generate(questions, seed=0, interface=Interface())
        assert all(answer.text.startswith("12") for answer in begun)
        # A greedy model goes on as if it had been asked with these tokens at the end of the
        # question.
        longer = [replace(p, text=p.text + "12") for p in PROMPTS]
        plain = model().generate(longer, seed=0, interface=Interface())
        assert [a.text[2:12] for a in begun] == [a.text[:10] for a in plain]

    def test_logprobs_of_what_was_begun_are_the_models_own(self):
        (answer,) = model().generate(
            [Prompt("a", "1+1=", begin="2 #")], seed=0, interface=Interface("full")
        )
        ids = torch.tensor([[*model().encode(PROMPTS[0]), *answer.token_ids]])
        want = model().network(input_ids=ids).logits[0].log_softmax(-1)[3:6]
        got = torch.empty_like(want).scatter_(
            -1,
            torch.from_numpy(answer.logprobs.ids_TK[:3].astype("int64")),
            torch.from_numpy(answer.logprobs.values_TK[:3]),
        )
        assert torch.allclose(got, want, atol=1e-5)


class TestFewShot:
    def test_examples_stand_before_the_question_and_never_give_it_away(self):
        resources = AttackerResources(
            worked=[Completion(str(i), f"{i}+{i}=", f"# {2 * i}") for i in range(1, 4)]
        )
        questions = few_shot.Attacker(few_shot.Settings(n=2, separator=";")).ask(
            PROMPTS, 5, resources, seed=0
        )
        assert (
            questions[0].text.endswith(";1+1=")
            and questions[0].text.count("1+1=") == 1
            and questions[0].id == "0"
        )
        assert questions[0].text in {"2+2= # 4;3+3= # 6;1+1=", "3+3= # 6;2+2= # 4;1+1="}

    def test_too_few_examples_are_one_line(self):
        with pytest.raises(BadInput, match="n=2, but 0 worked solutions are owned"):
            few_shot.Attacker(few_shot.Settings()).ask(PROMPTS, 5, AttackerResources(), seed=0)
