"""Recordings in the formats that people have: what a row says in each, and one line for what it
cannot mean.
"""

import json

import numpy as np
import pytest

from distill.completions import BadInput, Interface, Message, Prompt
from distill.embedded import byte_pair_tokenizer, character_tokenizer
from distill.recordings import Layout, fields, messages, openai, read_recorded, vllm
from distill.recordings.layout import Reading
from distill.recordings.spelling import spelling_of
from distill.tables import Row

TOP = Interface("top_k", 2)
TOKENIZER = character_tokenizer("0123456789+=# abc")
SPELLING, END = spelling_of(TOKENIZER, "f" * 64), TOKENIZER.eos_token_id


def chat(content="4", reason="stop", logprobs=None, **message):
    """A chat completion, as OpenAI documents it."""
    assistant = {"role": "assistant", "content": content} | message
    choice = {"index": 0, "message": assistant, "finish_reason": reason, "logprobs": logprobs}
    return {"id": "chatcmpl-1", "object": "chat.completion", "choices": [choice], "usage": {}}


def question(text="2+2="):
    return [{"role": "user", "content": text}]


def position(token, *likeliest, value=-0.1):
    """A token of a chat completion with its alternatives."""
    others = [
        {"token": other, "bytes": [*other.encode()], "logprob": nats} for other, nats in likeliest
    ]
    return {"token": token, "bytes": None, "logprob": value, "top_logprobs": others}


def request_output(text="4", **changes):
    """A RequestOutput, as vLLM's dataclasses are dumped."""
    output = {"index": 0, "text": text, "token_ids": [4, 99], "finish_reason": "stop"}
    output |= {"stop_reason": None, "cumulative_logprob": -0.2, "logprobs": None} | changes
    return {"request_id": "0", "prompt": "2+2=", "outputs": [output], "finished": True}


def scored(*rows):
    """vLLM's logprobs: by token id, in any order."""
    return [
        {
            str(token): {"logprob": nats, "rank": rank, "decoded_token": "x"}
            for rank, (token, nats) in enumerate(row, 1)
        }
        for row in rows
    ]


FOUR = [("4", -0.1), ("5", -2.5)]
SAID = {  # a row, its format as detected, and the answers to 2+2= with whether they are finished
    "ours": ({"prompt": "2+2=", "answer": "4"}, "fields", [("4", True)]),
    "reasoning in a column": (
        {"prompt": "2+2=", "answer": "4", "reasoning": "Two and two.", "finish_reason": "length"},
        "fields",
        [("<think>\nTwo and two.\n</think>\n\n4", False)],
    ),
    "several answers in a column": (
        {"prompt": "2+2=", "answer": ["4", "5"]},
        "fields",
        [("4", True), ("5", True)],
    ),
    "TRL's turns": (
        {"prompt": question(), "answer": [{"role": "assistant", "content": "4"}]},
        "fields",
        [("4", True)],
    ),
    "messages": (
        {
            "messages": [{"role": "system", "content": "Be brief."}, *question()]
            + [{"role": "assistant", "content": "4", "reasoning_content": "2 and 2"}]
        },
        "messages",
        [("<think>\n2 and 2\n</think>\n\n4", True)],
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "2+2="}, {"from": "gpt", "value": "4"}]},
        "messages",
        [("4", True)],
    ),
    "OpenAI beside its messages": (
        {"messages": question(), "response": chat()},
        "openai",
        [("4", True)],
    ),
    "OpenAI beside its prompt": (chat() | {"prompt": "2+2="}, "openai", [("4", True)]),
    "OpenAI beside its request": (
        {"request": {"model": "m", "messages": question()}, "response": chat("4", "length")},
        "openai",
        [("4", False)],
    ),
    "parts of text": (
        {"messages": question(), "response": chat([{"type": "text", "text": "4"}])},
        "openai",
        [("4", True)],
    ),
    "a reasoning server": (
        {"messages": question(), "response": chat("4", reasoning_content="2 and 2")},
        "openai",
        [("<think>\n2 and 2\n</think>\n\n4", True)],
    ),
    "choices in any order": (
        {
            "prompt": "2+2=",
            "choices": [
                {"index": 1, "text": "5", "finish_reason": "length"},
                {"index": 0, "text": "4", "finish_reason": "stop"},
            ],
        },
        "openai",
        [("4", True), ("5", False)],
    ),
    "vLLM": (request_output(), "vllm", [("4", True)]),
    "vLLM, cut off": (request_output(finish_reason="length"), "vllm", [("4", False)]),
}


def recorded(folder, *rows, **layout):
    path = folder / "r.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_recorded(path, Layout(**layout))


@pytest.mark.parametrize("case", SAID)
def test_a_row_is_read_in_the_format_it_is_written_in(case, tmp_path):
    row, name, answers = SAID[case]
    model = recorded(tmp_path, row)
    prompts = [Prompt("x", "2+2=", attempt=place) for place in range(len(answers))]
    generated = model.generate(prompts, seed=0, interface=Interface())
    assert model.format == name
    assert [(one.text, one.finished) for one in generated] == answers


WRONG = {
    "a response without its question": (chat(), "a response without its question; set teacher."),
    "no choice": ({"prompt": "p", "choices": []}, "choices must be a list, got []"),
    "a choice that is a word": ({"prompt": "p", "choices": ["4"]}, "a choice must be an object"),
    "an index that is a word": (
        {"prompt": "p", "choices": [{"index": "0", "text": "4"}]},
        "index must be a whole number, got '0'",
    ),
    "no content": (chat(None) | {"prompt": "p"}, "content must be text, got None"),
    "an image": (
        chat([{"type": "image_url", "image_url": {"url": "x"}}]) | {"prompt": "p"},
        "content must be text",
    ),
    "a tool call": (
        chat(None, "tool_calls", tool_calls=[{}]) | {"prompt": "p"},
        "finish_reason 'tool_calls' is unknown",
    ),
    "no question": (
        {"messages": [{"role": "assistant", "content": "a"}] * 2},
        "turns of which the last is the user's; got assistant",
    ),
    "a system prompt between turns": (
        {
            "messages": [*question(), {"role": "system", "content": "a"}, *question()]
            + [{"role": "assistant", "content": "a"}]
        },
        "got user, system, user",
    ),
    "no last turn": ({"messages": question()}, "must end with a turn of the assistant's"),
    "a role that nobody has": (
        {"messages": [{"role": "wizard", "content": "a"}]},
        "no role 'wizard' (there are: user",
    ),
    "a turn that is a word": ({"conversations": ["hello"]}, "conversations.0 must be a turn"),
    "no turns": ({"messages": []}, "messages must be a list of turns, got []"),
    "no outputs": (request_output() | {"outputs": []}, "outputs must be a list, got []"),
    "no prompt of a chat": (request_output() | {"prompt": None}, "prompt must be a string"),
    "scores of another tokenizer's": (
        request_output(logprobs=[{"a": {"logprob": -1}}] * 2),
        "a token id is a number, got 'a'",
    ),
    "ragged rows": (
        request_output(logprobs=scored([(4, -0.1)], [(99, -1.5), (3, -2), (2, -3)])),
        "rows of 1 to 3 entries",
    ),
    "scores above zero": (
        request_output(logprobs=scored([(4, 0.1)], [(99, -0.1)])),
        "values finite and at most 0",
    ),
    "a score that is no number": (
        request_output(logprobs=[{"4": {"logprob": "x"}}]),
        "'x' where a number should be",
    ),
    "an infinite score": (
        chat(logprobs={"content": [position("4", *FOUR, value=float("-inf"))]}) | {"prompt": "p"},
        "values must be finite and at most 0, got -inf",
    ),
    "a score above zero": (
        chat(logprobs={"content": [position("4", ("4", 0.5))]}) | {"prompt": "p"},
        "values must be finite and at most 0, got 0.5",
    ),
    "a token of odd bytes": (
        chat(logprobs={"content": [position("4", *FOUR) | {"bytes": [300]}]}) | {"prompt": "p"},
        "bytes must be from 0 to 255, got [300]",
    ),
    "a token that is no text": (
        chat(logprobs={"content": [position(4, *FOUR)]}) | {"prompt": "p"},
        "no token in",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_format_cannot_mean_is_one_line(case, tmp_path):
    row, message = WRONG[case]
    with pytest.raises(BadInput) as caught:
        recorded(tmp_path, row)
    line = str(caught.value)
    assert line.startswith(f"{tmp_path / 'r.jsonl'}: line 1: ") and message in line
    assert "\n" not in line and len(line) < 500


def only(format, row):
    """The one answer of a row, whose tokens are characters."""
    (entry,) = format.FORMAT.entries(Row("here", row), Reading(spelling=SPELLING))
    return entry


def rows_of(entry):
    logprobs = entry.completion.logprobs
    return logprobs.ids_TK.tolist(), logprobs.values_TK.astype("f8").round(3).tolist()


def id_of(letter):
    return SPELLING.bytes.ids[letter.encode()][0]


def test_logprobs_of_a_chat_are_told_by_ids_most_likely_first_and_their_end_is_withheld():
    shown = {"content": [position("4", *reversed(FOUR))]}
    entry = only(openai, chat(logprobs=shown) | {"prompt": "2+2="})
    ids, values = rows_of(entry)
    assert ids == [[id_of("4"), id_of("5")], [-1, -1]]
    assert values == [[-0.1, -2.5], [float("-inf")] * 2] and entry.tokenizer == "f" * 64


def test_a_text_completion_has_its_scores_in_lists_side_by_side():
    shown = {"tokens": ["4"], "token_logprobs": [-0.1], "top_logprobs": [dict(FOUR)]}
    choice = {"index": 0, "text": "4", "finish_reason": "length", "logprobs": shown}
    ids, values = rows_of(only(openai, {"prompt": "2+2=", "choices": [choice]}))
    assert ids == [[id_of("4"), id_of("5")]] and values == [[-0.1, -2.5]]


def test_a_server_that_scores_the_end_is_taken_at_its_word():
    end = f"token_id:{END}"
    shown = {"content": [position("4", *FOUR), position(end, (end, -0.3), ("4", -1.5))]}
    entry = only(openai, chat(logprobs=shown) | {"prompt": "2+2="})
    ids, _ = rows_of(entry)
    assert entry.completion.token_ids == (id_of("4"),)
    assert ids[1] == [END, id_of("4")]


def test_scores_are_of_what_was_said():
    shown = {"content": [position("5", *FOUR)]}
    with pytest.raises(BadInput, match="its tokens spell '5', its text is '4'"):
        only(openai, chat(logprobs=shown) | {"prompt": "2+2="})


def test_reasoning_that_a_server_took_out_is_in_the_text_again_as_its_tokens_spell_it():
    shown = {"content": [position(letter, *FOUR) for letter in "a b # 4"]}
    row = chat(" # 4", logprobs=shown, reasoning_content="a b") | {"prompt": "2+2="}
    entry = only(openai, row)
    assert entry.completion.text == "a b # 4" and len(entry.completion.token_ids) == 7


def test_vllm_gives_the_said_token_beside_the_likeliest_and_counts_the_end():
    four, five, end = id_of("4"), id_of("5"), END
    shown = scored([(five, -0.2), (four, -1.9)], [(end, -0.1), (five, -2.5), (four, -6.0)])
    for spelling in (SPELLING, None):
        row = request_output(token_ids=[four, end], logprobs=shown)
        (entry,) = vllm.FORMAT.entries(Row("here", row), Reading(spelling=spelling))
        assert entry.completion.token_ids == (four,)
        assert rows_of(entry)[0] == [[five, four], [end, five]]


def test_an_answer_that_a_text_stopped_has_no_token_for_its_end():
    four, five = id_of("4"), id_of("5")
    row = request_output(
        token_ids=[four], logprobs=scored([(four, -0.1), (five, -2.5)]), stop_reason="\n"
    )
    entry = only(vllm, row)
    assert entry.completion.finished and rows_of(entry)[0] == [[four, five], [-1, -1]]


def test_a_byte_level_tokenizer_spells_half_letters():
    tokenizer = byte_pair_tokenizer(["the cat sat on the mat"] * 5, 280)
    spelling = spelling_of(tokenizer, "0" * 64)
    for text in ("the cat", "naïve 😀\n", "a  b"):
        ids = tokenizer(text).input_ids
        assert spelling.spoken("here", ids, text).text == text
        assert [spelling.token("here", "?", list(spelling.bytes.of[one])) for one in ids] == ids


def batch(name, content, **more):
    body = {"status_code": 200, "body": chat(content)}
    return {"id": "batch_req", "custom_id": name, "response": body, "error": None} | more


def test_a_batch_is_joined_with_its_requests_and_failed_ones_are_counted(tmp_path):
    requests = tmp_path / "requests.jsonl"
    lines = [
        {"custom_id": name, "method": "POST", "body": {"messages": question(text)}}
        for name, text in (("a", "1+1="), ("b", "2+2="), ("c", "3+3="))
    ]
    requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    failed = batch("c", "") | {"response": None, "error": {"code": "batch_expired"}}
    model = recorded(tmp_path, batch("b", "4"), batch("a", "2"), failed, requests=str(requests))
    answers = model.generate(
        [Prompt("x", "1+1="), Prompt("y", "2+2=")], seed=0, interface=Interface()
    )
    assert [one.text for one in answers] == ["2", "4"] and model.failed == 1
    with pytest.raises(BadInput, match="no answer to 1 prompts, first '3.3='; there are answers"):
        model.generate([Prompt("z", "3+3=")], seed=0, interface=Interface())


def test_a_dotted_path_indexes_lists(tmp_path):
    row = {"q": {"text": "2+2="}, "choices": [{"message": {"content": "4"}}]}
    model = recorded(tmp_path, row, prompt="q.text", answer="choices.0.message.content")
    assert model.format == "fields" and model.answers["2+2="][0].text == "4"


def test_attempts_are_repeated_in_the_order_of_their_numbers(tmp_path):
    rows = [{"prompt": "p", "answer": str(n), "attempt": n % 3} for n in (2, 0, 1, 5)]
    model = recorded(tmp_path, *rows)
    prompts = [Prompt("x", "p", attempt=n) for n in range(4)]
    answers = model.generate(prompts, seed=0, interface=Interface())
    assert [one.text for one in answers] == ["0", "1", "2", "5"]
    with pytest.raises(BadInput, match="'p' is asked 5 times, and was recorded 4 times"):
        model.generate([Prompt("x", "p", attempt=4)], seed=0, interface=Interface())


def test_rows_of_others_are_passed_over(tmp_path):
    rows = [{"prompt": "p", "answer": name, "model": name} for name in ("a", "b")]
    assert recorded(tmp_path, *rows, where={"model": "b"}).answers["p"][0].text == "b"
    with pytest.raises(BadInput, match=r"line 1: has no column 'of' \(there are: prompt"):
        recorded(tmp_path, *rows, where={"of": "b"})
    with pytest.raises(BadInput, match="holds no answer"):
        recorded(tmp_path, *rows, where={"model": "c"})


def ours(**more):
    rows = [{"ids": [4, 5], "values": [-0.1, -2.5]}] * 2
    return {"prompt": "p", "answer": "4", "token_ids": [4], "logprobs": rows} | more


def test_an_interface_shows_of_recorded_logprobs_what_it_would_of_others(tmp_path):
    model = recorded(tmp_path, ours(tokenizer="a" * 64))
    assert model.vocabulary == "a" * 64 and model.capabilities.logprobs
    answer = model.generate([Prompt("x", "p")], seed=0, interface=Interface("top_k", 1))[0]
    assert answer.logprobs.ids_TK.tolist() == [[4], [4]]
    with pytest.raises(BadInput, match="the 2 recorded ones hold 0.987 of the probability"):
        model.generate([Prompt("x", "p")], seed=0, interface=Interface("full"))
    whole = recorded(
        tmp_path, ours(logprobs=[{"ids": [4, 5], "values": list(np.log([0.9, 0.1]))}] * 2)
    )
    assert whole.generate([Prompt("x", "p")], seed=0, interface=Interface("full"))
    assert whole.vocabulary is None and not whole.capabilities.logprobs


def test_logprobs_of_two_tokenizers_are_no_teachers(tmp_path):
    with pytest.raises(BadInput, match="line 2: its logprobs are of another tokenizer"):
        recorded(tmp_path, ours(tokenizer="a" * 64), ours(tokenizer="b" * 64, prompt="q"))


def test_earlier_turns_and_a_stated_system_prompt_are_part_of_what_was_asked(tmp_path):
    first = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    turns = [{"role": "system", "content": "Be brief."}, *first, {"role": "user", "content": "c"}]
    model = recorded(tmp_path, {"messages": [*turns, {"role": "assistant", "content": "d"}]})
    history = tuple(Message(**turn) for turn in first)
    for system in ("", "Be brief."):
        answers = model.generate(
            [Prompt("x", "c", system=system, history=history)], seed=0, interface=Interface()
        )
        assert answers[0].text == "d" and answers[0].system == system
    with pytest.raises(BadInput, match="no answer to 1 prompts, first 'c'"):
        model.generate([Prompt("x", "c")], seed=0, interface=Interface())
    with pytest.raises(BadInput, match="recorded under another system prompt, 'Be brief.'"):
        model.generate(
            [Prompt("x", "c", system="Be long.", history=history)], seed=0, interface=Interface()
        )
    rows = [{"prompt": "p", "answer": "a", "system": name} for name in ("x", "y")]
    with pytest.raises(BadInput, match="line 2: the same prompt under another system prompt"):
        recorded(tmp_path, *rows)


def test_a_named_format_is_held_to(tmp_path):
    with pytest.raises(BadInput, match="line 1: messages must be a list of turns, got None"):
        recorded(tmp_path, {"prompt": "p", "answer": "a"}, format="messages")
    assert {fields, messages, openai, vllm}  # each is a file with its format
