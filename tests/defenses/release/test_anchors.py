"""Anchors, counted by hand and by an oracle that looks at characters."""

from __future__ import annotations

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from defenses import ProviderResources
from defenses.release import split_answer
from defenses.release.anchors import Defense, Settings, importance, most, uses
from distill.answer_format import AnswerFormat
from distill.completions import Completion
from distill.generation import uniform
from experiments.tasks import addition, trace
from tests.defenses.release.texts import LINES, STEPS, edited, final_answer

ADDITION, TRACE = "760=13;481=13;351=09 # 933", "c=3;a=3+4=7;b=7-3=4 # 4"
PROSE = (
    "She sells 16 - 3 - 4 = 9 eggs.\n"
    "Nine it is.\n"
    "She makes 9 * 2 = $18 a day.\n"
    "In 7 days $18 * 7 = 126.\n"
    "A: 126"
)


def released(text: str, prompt: str = "?", form: AnswerFormat = STEPS, **settings: object) -> str:
    return edited(Defense, Settings(**settings), text, prompt, form)


def changed(text: str, edited: str, separator: str = ";") -> list[int]:
    return [
        i
        for i, (a, b) in enumerate(zip(text.split(separator), edited.split(separator), strict=True))
        if a != b
    ]


@pytest.mark.parametrize(
    ("steps", "counts"),
    [
        (["c=3", "a=3+4=7", "b=7-3=4"], {0: 2, 1: 1, 2: 0}),
        (["760=13", "481=13", "351=09"], {0: 0, 1: 0, 2: 0}),
        (PROSE.split("\n")[:-1], {0: 1, 2: 1, 3: 0}),
        (["a=13", "b=13+1=14", "c=113+13.5=3", "d=13"], {0: 1, 1: 0, 2: 0, 3: 0}),
        (["nothing", ""], {}),
    ],
)
def test_uses_by_hand(steps, counts):
    assert uses(steps) == counts


def test_anchors_by_hand():
    steps = ["a=1", "b=1+1=2", "c=2+2=4", "d=2+2=4"]
    assert uses(steps) == {0: 2, 1: 4, 2: 0, 3: 0}
    assert [most(uses(steps), share, 0.5) for share in (0.1, 0.25, 0.5, 0.7, 1.0)] == [
        [],
        [1],
        [1, 0],
        [1, 0, 2],
        [1, 0, 2, 3],
    ]
    # 0.6 * 4 = 2.4: three anchors in 0.4 of all cases
    assert [len(most(uses(steps), 0.6, luck)) for luck in (0.0, 0.39, 0.41, 0.99)] == [3, 3, 2, 2]


@given(st.integers(0, 12), st.floats(0.001, 1), st.floats(0, 1, exclude_max=True))
def test_the_number_of_anchors_is_the_share_on_average(n, share, luck):
    steps = [f"x={i}" for i in range(n)]
    grid = [len(most(uses(steps), share, (i + 0.5) / 1000)) for i in range(1000)]
    assert sum(grid) / 1000 == pytest.approx(share * n, abs=2e-3)
    assert most(uses(steps), share, luck) == list(range(len(most(uses(steps), share, luck))))


@pytest.mark.parametrize(
    ("text", "settings", "places"),
    [
        (ADDITION, {"share": 1 / 3 + 1e-9}, [0]),
        (TRACE, {"share": 1 / 3 + 1e-9}, [0]),
        (TRACE, {"share": 2 / 3 + 1e-9}, [0, 1]),
        (TRACE, {"share": 1.0}, [0, 1, 2]),
    ],
)
def test_only_anchors_are_edited(text, settings, places):
    edited = released(text, **settings)
    assert changed(text, edited) == places and final_answer(edited) == final_answer(text)
    assert all(a == b for a, b in zip(edited, text, strict=True) if b not in "0123456789")


def test_a_prose_anchor_is_edited_where_it_is_concluded_alone():
    text = released(PROSE, form=LINES, share=1 / 3 + 1e-9)
    assert changed(PROSE, text, "\n") == [0] and text.startswith("She sells 16 - 3 - 4 = ")
    assert text[len("She sells 16 - 3 - 4 = ")] != "9" and text.endswith("A: 126")


@pytest.mark.parametrize(
    "task", [addition.Task(addition.Settings(digits=3)), trace.Task(trace.Settings(statements=5))]
)
def test_edits_the_share_of_steps_by_one_digit_each_and_keeps_the_answer(task):
    items = task.items("train", 300, 0)
    count = 0
    for item in items:
        text = released(item.solution, item.prompt.text, share=0.4)
        assert task.final(text) == item.reference and set(text) <= set(task.alphabet)
        places = changed(item.solution, text)
        assert sum(a != b for a, b in zip(text, item.solution, strict=True)) == len(places)
        count += len(places)
    # floor or ceil of share * steps each, so within four standard deviations of at most 1/2
    steps = items[0].solution.count(";") + 1
    assert abs(count - 300 * 0.4 * steps) <= 4 * 0.5 * 300**0.5


@given(st.text("a1=;# +.0"), st.floats(0, 1), st.text("k", min_size=1, max_size=2))
def test_says_the_same_again_and_keeps_the_final_answer(text, share, key):
    edited = released(text, share=share, key=key)
    assert edited == released(text, share=share, key=key) and len(edited) == len(text)
    assert final_answer(edited) == final_answer(text)


def test_share_0_is_the_model_itself_and_keys_differ(teacher):
    assert Defense(Settings(share=0.0))(teacher) is teacher
    assert len({released(ADDITION, key=str(key)) for key in range(20)}) > 3


def test_the_config_is_the_default():
    assert (
        Settings(**yaml.safe_load(open("configs/defense/release/anchors.yaml"))["settings"])
        == Settings()
    )


def test_importance_is_the_surprisal_that_leaving_a_step_out_adds(teacher):
    """Against the network's own scores, a row at a time."""
    answer = Completion("a", "12+34=", "2+4=6;1+3=4;46=46 # 46")
    reasoning, rest = split_answer(answer.text, STEPS)
    steps = STEPS.split_steps(reasoning)

    def final_nats(remaining):
        text, prompt = "".join(a + b for a, b in remaining), answer.question
        ids = teacher.encode(prompt) + teacher.tokenizer(text, add_special_tokens=False).input_ids
        final = teacher.tokenizer(rest, add_special_tokens=False).input_ids
        final = [*final, teacher.tokenizer.eos_token_id]
        with torch.inference_mode():
            scores = teacher.network(input_ids=torch.tensor([ids + final])).logits[0]
        logprobs = scores.float().log_softmax(-1)[len(ids) - 1 : -1]
        return -sum(float(row[token]) for row, token in zip(logprobs, final, strict=True))

    left_out = [[*steps[:i], *steps[i + 1 :]] for i in range(len(steps))]
    expected = [final_nats(some) - final_nats(steps) for some in left_out]
    assert importance(teacher, answer, steps, rest) == pytest.approx(expected, abs=1e-4)
    assert len({round(nats, 3) for nats in expected}) == 3


def test_the_step_that_the_proxy_misses_most_is_the_anchor(teacher):
    answer = Completion("a", "12+34=", "2+4=6;1+3=4;46=46 # 46")
    resources = ProviderResources(proxy=teacher, format=STEPS)
    defense = Defense(Settings(find="counterfactual", share=0.3), resources)
    assert defense.traits.needs == ("proxy",)
    reasoning, rest = split_answer(answer.text, STEPS)
    steps = STEPS.split_steps(reasoning)
    missed = importance(teacher, answer, steps, rest)
    luck = uniform("anchors", "luck", answer.prompt)
    assert luck < 0.9  # so that there is one
    assert changed(answer.text, defense.edit(answer).text) == [missed.index(max(missed))]
    every = Defense(Settings(find="counterfactual", share=1.0), resources).edit(answer).text
    assert changed(answer.text, every) == [0, 1, 2]
