"""Decoy calls: names like the true ones, and what an honest user's program makes of them."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from defenses import ProviderResources
from defenses.release.decoy_calls import (
    WORD,
    Defense,
    Settings,
    crossed,
    decoy_names,
    is_name,
)
from distill.answer_format import AnswerFormat
from distill.completions import Completion, Interface, Prompt
from distill.recordings import RecordedModel, by_question
from distill.tool_calls import only_defined, row_of
from tests.defenses.release.texts import STEPS, edited

TOOLS = ("get_weather", "search_flights")
CALLS = "two;three # get_weather(city='Rome'); search_flights(to='Oslo', day=3)"
MARKUP = AnswerFormat(kind="tool_call")
BLOCK = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'


def released(text: str, prompt: str = "?", form: AnswerFormat = STEPS, **settings: object) -> str:
    return edited(Defense, Settings(**settings), text, prompt, form, TOOLS)


def functions(text: str, form: AnswerFormat = STEPS) -> list[str]:
    row = row_of(text, form)
    return [call.function for call in row.calls] if row else []


def test_names_by_hand():
    assert crossed(TOOLS, WORD.findall) == ["get_flights", "search_weather"]
    assert crossed(("get", "put"), list) == ["gut", "pet"]
    assert crossed(("getUser", "putHTTPFile2"), WORD.findall) == ["getHTTPFile2", "putUser"]
    assert crossed(("f", "g"), list) == []
    assert set(decoy_names(("get", "put"), 9, "k")) == {"gut", "pet", "teg", "tup"}
    assert set(decoy_names(("get", "put"), 2, "k")) == {"gut", "pet"}
    assert decoy_names(("get",), 9, "k") == ["teg"] and decoy_names(("f",), 9, "k") == []
    # Crossed letter by letter these give `a..c` and `a.1`, which nothing can call.
    assert not any(map(is_name, ("a..c", "a.1", "", "if", "os.is", "2d")))
    assert all(map(is_name, ("f", "a.b_1", "get-weather", "été")))
    assert set(decoy_names(("a.bc", "ab.c"), 99, "k")) == {"a.c", "ab.bc", "abbc", "cb.a", "c.ba"}


@given(st.lists(st.text("abC_.1", min_size=1, max_size=6), max_size=4), st.integers(1, 5))
def test_no_decoy_exists_and_all_can_be_called(names, count):
    decoys = decoy_names(names, count, "key")
    assert not {*decoys} & {*names} and len(decoys) == len({*decoys}) <= count
    assert all(functions(f"# {name}(1)") == [name] for name in decoys)


def test_decoys_by_hand():
    names = decoy_names(TOOLS, 2, "decoy")
    text = released("a # get_weather(city='Rome')")
    (decoy,) = {*functions(text)} - {*TOOLS}
    assert decoy in names and functions(text).count(decoy) == 1
    calls = ["get_weather(city='Rome')", f"{decoy}(city='Rome')"]
    assert text in (f"a # {'; '.join(calls)}", f"a # {'; '.join(calls[::-1])}")


@pytest.mark.parametrize(
    ("form", "text"),
    [
        (STEPS, CALLS),
        (STEPS, "a # [get_weather(city='é'),  search_flights()] "),
        (MARKUP, f"so\n{BLOCK}"),
        (MARKUP, f"so\n{BLOCK}\n\n{BLOCK}"),
        (AnswerFormat(kind="fenced"), "so\n```py\nget_weather()\nsearch_flights()\n```"),
    ],
)
def test_an_honest_program_undoes_it_exactly(form, text):
    for prompt in map(str, range(40)):
        for calls in (1, 3):
            new = released(text, prompt, form, calls=calls)
            there, before = functions(new, form), functions(text, form)
            assert len(there) == len(before) + calls
            assert [name for name in there if name in TOOLS] == before
            assert only_defined(new, form, TOOLS) == text


def test_places_functions_and_arguments_are_drawn():
    texts = [released(CALLS, str(i), tools=2) for i in range(200)]
    places = {tuple(name in TOOLS for name in functions(text)) for text in texts}
    assert len(places) == 3
    decoys = [next(name for name in functions(text) if name not in TOOLS) for text in texts]
    assert stats.binomtest(decoys.count("get_flights"), 200, 0.5).pvalue > 1e-3
    assert stats.binomtest(sum(text.count("Rome") - 1 for text in texts), 200, 0.5).pvalue > 1e-3
    assert {n for i in range(60) for n in functions(released(CALLS, str(i), tools=1))} - {
        *TOOLS
    } < {*decoys}


def test_the_share_is_that_of_the_prompts_the_same_ones_each_time_and_by_key():
    few, many = (
        {i for i in range(1000) if released(CALLS, str(i), share=share) != CALLS}
        for share in (0.1, 0.3)
    )
    assert stats.binomtest(len(few), 1000, 0.1).pvalue > 1e-3 and few < many
    assert released(CALLS, "q") == released(CALLS, "q")
    others = [released(CALLS, str(i), key="other") for i in range(20)]
    assert others != [released(CALLS, str(i)) for i in range(20)]


@pytest.mark.parametrize("text", ["", "12", "a # 12", "get_weather()", "a # [get_weather()]; f()"])
def test_an_answer_that_calls_nothing_stays(text):
    assert released(text) == text


def test_without_tools_and_cut_off_it_does_nothing():
    assert edited(Defense, Settings(), CALLS) == CALLS
    defense = Defense(Settings(), ProviderResources(format=STEPS, tools=TOOLS))
    cut = Completion("a", "q", CALLS, (1, 2), finished=False)
    assert defense.edit(cut).text == CALLS and defense.edit(cut).token_ids == ()


def test_a_model_behind_it_keeps_the_order_and_says_the_same_again():
    answers = [Completion(f"q{i}", f"{i}?", CALLS, (1, 2)) for i in range(5)]
    prompts = [Prompt(one.prompt_id, one.prompt) for one in answers]
    defense = Defense(Settings(), ProviderResources(format=STEPS, tools=TOOLS))
    model = defense(RecordedModel(by_question(answers), "answers"))
    first = model.generate(prompts, seed=3, interface=Interface())
    assert [one.text for one in first] == [released(CALLS, prompt.text) for prompt in prompts]
    assert model.generate(prompts[::-1], seed=3, interface=Interface()) == first[::-1]
    assert model.generate(prompts[2:3], seed=3, interface=Interface()) == first[2:3]
    assert all(one.token_ids == () and one.logprobs is None for one in first)


def test_share_0_is_the_model_itself(teacher):
    assert Defense(Settings(share=0.0))(teacher) is teacher


def test_the_config_is_the_default():
    config = yaml.safe_load(open("configs/defense/release/decoy_calls.yaml"))
    assert Settings(**config["settings"]) == Settings()
