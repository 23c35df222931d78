"""What `serve` answers and refuses, its limits by account, and the command itself."""

import json
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request

import pytest

from defenses.access.gateway import Settings, Tier
from distill.completions import BadInput, Interface
from distill.served.protocol import ChatRequest, CompletionRequest, parse
from experiments.commands.serving import _widest
from experiments.planning import plan as planning
from experiments.serving.admission import Admission
from experiments.serving.app import app
from experiments.settings import schema as settings
from tests.distill.served.local_servers import TEACHER, offer, serving, tiny
from tests.experiments.small import STUDY, apart

ASK = {"model": TEACHER, "max_tokens": 8, "messages": [{"role": "user", "content": "1+2="}]}
BEGUN = [{"role": "user", "content": "1+2="}, {"role": "assistant", "content": "3"}]
TOP = Interface("top_k", 5)
QUESTIONS = [{"messages": [{"role": "user", "content": f"{n}+{n}="}]} for n in range(10, 18)]


def text_of(response):
    return response.choices[0].message.content


def answered(changes, **how):
    request = parse(ChatRequest, json.dumps(ASK | changes).encode(), "request")
    return offer(tiny(), **how).chat(request, "someone")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"stream": True}, "request: stream"),
        ({"n": 2}, "request: n"),
        ({"stop": ["4"]}, "request: stop: Extra inputs"),
        ({"tools": []}, "request: tools"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**9}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 7}]}, "content"),
        ({"model": "other"}, "there is 'a teacher' alone"),
        ({"temperature": 0.7}, "decodes at 0, got 0.7"),
        ({"top_p": 0.5}, "top_p"),
        ({"logprobs": True, "top_logprobs": 6}, "at most 5 a token, got 6"),
        ({"messages": BEGUN}, "continue_final_message"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"messages": BEGUN[:1] * 2}, "no chat template"),
        ({"prompt_logprobs": 2}, "of an answer that was begun"),
    ],
)
def test_what_is_not_offered_is_refused_in_a_line(changes, line):
    with pytest.raises(BadInput, match=line) as caught:
        answered(changes)
    assert "\n" not in str(caught.value)


def test_an_interface_releases_no_more_than_it_does():
    for changes in ({"logprobs": True, "top_logprobs": 1}, {"logprobs": True}):
        with pytest.raises(BadInput, match="releases none"):
            answered(changes, interface=Interface())
    begun = {"messages": BEGUN, "continue_final_message": True}
    with pytest.raises(BadInput, match="lets nobody begin"):
        answered(begun, prefill=False)
    response = answered(begun | {"prompt_logprobs": 3, "logprobs": True, "top_logprobs": 2})
    (choice,) = response.choices
    scores = choice.prompt_logprobs
    assert scores[:4] == [None] * 4 and len(scores[4]) <= 4  # of the question, nothing
    assert all(len(one.top_logprobs) == 2 for one in choice.logprobs.content)


def test_an_answer_is_cut_where_the_caller_says():
    long = next(one for one in QUESTIONS if len(text_of(answered(one))) > 3)
    cut = answered(long | {"max_tokens": 3})
    assert text_of(cut) == text_of(answered(long))[:3]
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 3


def test_token_ids_that_are_no_prompt_are_refused():
    teacher = offer(tiny())
    for ids, line in (([999], "no prompt has these tokens"), ([], "it is empty")):
        body = {"model": TEACHER, "max_tokens": 4, "prompt": ids}
        request = parse(CompletionRequest, json.dumps(body).encode(), "request")
        with pytest.raises(BadInput, match=line):
            teacher.complete(request, "someone")


class Clock:
    """Seconds that a test sets."""

    now = 0.0

    def __call__(self):
        return self.now


TIER = {"requests": 3, "tokens_in": 1e6, "tokens_out": 1e6, "dollars": 1e6, "spent": 0, "age": 0}


def admission(clock, **limits):
    tier = Tier(**TIER | {k: v for k, v in limits.items() if k in TIER})
    more = {k: v for k, v in limits.items() if k not in TIER}
    return Admission(Settings(tiers=(tier,), trusted=0, **more), clock)


def served(door, account, times, tokens_in=10):
    return [door.admit(account, tokens_in) is not None for _ in range(times)]


def test_limits_are_those_of_the_gateway_and_of_each_account():
    clock = Clock()
    door = admission(clock)
    assert served(door, "a", 5) == [True] * 3 + [False] * 2  # three requests a minute
    assert served(door, "b", 1) == [True]
    clock.now = 61
    assert served(door, "a", 1) == [True]
    clock.now = 60 * 60
    assert served(door, "a", 4) == [True] * 3 + [False]  # a bucket holds one minute's worth


def test_a_day_has_a_cap_and_a_month_a_price():
    clock = Clock()
    door = admission(clock, requests=100, daily=4)
    assert served(door, "a", 6) == [True] * 4 + [False] * 2
    clock.now = 86_400
    assert served(door, "a", 1) == [True]
    door = admission(clock := Clock(), requests=100, dollars=1.0, price=(0.0, 1e6))
    for expected in (True, True, False):
        sent = door.admit("a", 10)
        assert (sent is not None) is expected
        if sent:
            sent.tokens_out = 1  # a dollar; what is not known yet costs nothing
    clock.now = 86_400  # another day of the same month
    assert served(door, "a", 1) == [False]
    clock.now = 31 * 86_400
    assert served(door, "a", 1) == [True]


def post(url, body, key="k", path="/chat/completions"):
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(url + path, body, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.enable_socket
def test_over_http_many_callers_get_their_own_answers_and_limits():
    model, clock = tiny(), Clock()
    teacher = offer(model)
    bodies = [json.dumps(ASK | question).encode() for question in QUESTIONS]
    got = {}
    with serving(app(teacher, admission(clock, requests=2))) as url:

        def ask(number):
            got[number] = post(url, bodies[number], key=str(number))

        threads = [threading.Thread(target=ask, args=[n]) for n in range(len(bodies))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [post(url, bodies[0], key="0")[0] for _ in range(2)] == [200, 429]
        assert post(url, b"{", key="x")[0] == 400
        status, error = post(url, b'{"model": "' + b"x" * 2**20 + b'"}', key="y")
        assert status == 413 and "MiB" in error["error"]["message"]
    for number, body in enumerate(bodies):
        status, response = got[number]
        alone = teacher.chat(parse(ChatRequest, body, ""), "").choices[0].message.content
        assert status == 200 and response["choices"][0]["message"]["content"] == alone
    assert len({response["choices"][0]["message"]["content"] for _, response in got.values()}) > 1


def test_what_is_released_is_the_most_that_attackers_get():
    planned = planning.make(settings.load("quickstart", [*STUDY[:-1], "attacker=[sft,logprob_kd]"]))
    assert _widest(planned, "addition", "none") == "top_k"
    assert _widest(planned, "addition", "release/answer_only") == "text"
    with pytest.raises(BadInput, match="no such defence .there are: "):
        _widest(planned, "addition", "release/truncate")


@pytest.mark.enable_socket
def test_a_request_that_never_comes_whole_is_given_up(monkeypatch):
    monkeypatch.setattr("experiments.serving.app.BODY_SECONDS", 0.2)
    with serving(app(offer(tiny()))) as url:
        with half_asked(url) as connection:
            assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
        with half_asked(url):
            pass  # a caller who hangs up
        assert post(url, json.dumps(ASK).encode())[0] == 200


def half_asked(url):
    """A connection on which a request has begun."""
    host, _, port = url.removeprefix("http://").removesuffix("/v1").rpartition(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    lines = ("POST /v1/completions HTTP/1.1", "host: own", "content-length: 1000", "", "{")
    connection.sendall("\r\n".join(lines).encode())
    return connection


@pytest.mark.enable_socket
def test_the_command_serves_until_ctrl_c(small, tmp_path):
    words = ["serve", "quickstart", "release/answer_only", "--port", "0", "--runs", str(small)]
    process = apart([*words, *STUDY], tmp_path)
    try:
        until = time.monotonic() + 300
        out = tmp_path / "out"
        while "Ctrl-C" not in (printed := out.read_text() if out.exists() else ""):
            assert process.is_alive() and time.monotonic() < until, (tmp_path / "err").read_text()
            time.sleep(0.1)
        url = printed.split(" at ")[1].split(";")[0]
        name = printed.split("'")[1]
        assert url.startswith("http://127.0.0.1:")
        status, response = post(url, json.dumps(ASK | {"model": name}).encode())
        assert (
            status == 200 and response["model"] == name == "quickstart addition release/answer_only"
        )
        before = {path for path in (small / "store").rglob("*")}
        with half_asked(url) as connection:  # who is never done keeps nobody
            os.kill(process.pid, signal.SIGINT)
            process.join(60)
            assert b"200" not in connection.recv(20)
        assert process.exitcode == 130
    finally:
        process.kill()
    error = (tmp_path / "err").read_text()
    assert error.endswith("distill-resist: interrupted; the same command continues\n")
    assert error.count("\n") == 1 + error.count("making ") + error.count("note: ")
    assert {path for path in (small / "store").rglob("*")} == before


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--host", "everywhere"], "--host: must be an address"),
        (["--task", "trace"], "--task: must be one of the study's"),
        (["--access", "nothing"], "no 'nothing'"),
    ],
)
def test_a_command_that_cannot_be_is_one_line(small, capsys, more, line):
    from experiments import cli

    words = ["serve", "quickstart", "none", "--runs", str(small), "--port", "0", *more, *STUDY]
    assert cli.main(words) == 2
    printed = capsys.readouterr().err
    assert line in printed and printed.count("\n") == 1
