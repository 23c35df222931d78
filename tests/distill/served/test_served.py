"""A served teacher says what the model behind its server says; what a server may do wrong is one
line each, and nothing that it said before is lost.
"""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from distill.completions import BadInput, Interface, Prompt
from distill.served import address, connection
from distill.served.address import check_url, own_address
from distill.served.connection import Server
from distill.served.model import ServedModel
from distill.served.probe import probe
from distill.served.query import TokenTable
from distill.served.request_options import RequestOptions
from distill.served.response_log import ResponseLog
from tests.distill.served.local_servers import TEACHER, Counting, application, edited, serving, tiny

pytestmark = pytest.mark.enable_socket
PROMPTS = [Prompt(str(n), f"{n}+{n}=") for n in range(10, 16)]
TOP = Interface("top_k", 5)
OPTIONS = RequestOptions(
    TEACHER, max_new_tokens=8, logprobs=5, token_ids=True, scoring="prompt_logprobs"
)


def served(url, folder, model=None, options=OPTIONS, **more):
    tokens = TokenTable(model.tokenizer) if model else None
    server = Server(url, **{"retries": 0, "timeout": 20, "pause": lambda _: None} | more)
    return ServedModel(server, options, ResponseLog(folder), tokens)


@pytest.mark.parametrize("prompts", ["chat", "text", "ids"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("token_ids", [True, False])
def test_a_served_model_says_what_the_model_says(tmp_path, prompts, temperature, token_ids):
    model = tiny(temperature=temperature)
    options = replace(
        OPTIONS, prompts=prompts, temperature=temperature, scoring="none", token_ids=token_ids
    )
    with serving(application(model)) as url:
        teacher = served(url, tmp_path, model, options)
        answers = teacher.generate(PROMPTS, seed=3, interface=TOP)
        again = teacher.generate(PROMPTS, seed=3, interface=Interface())
    if not temperature:
        expected = model.generate(PROMPTS, seed=3, interface=TOP)
        for ours, theirs in zip(answers, expected, strict=True):
            assert (ours.text, ours.token_ids, ours.finished) == (
                theirs.text,
                theirs.token_ids,
                theirs.finished,
            )
            assert (ours.logprobs.ids_TK == theirs.logprobs.ids_TK).all()
            np.testing.assert_allclose(ours.logprobs.values_TK, theirs.logprobs.values_TK, 1e-6)
    assert [one.text for one in again] == [one.text for one in answers]
    assert len({one.text for one in answers}) > 1
    assert teacher.generate(PROMPTS, seed=3, interface=TOP)[0].text == answers[0].text  # no server


def test_an_answer_that_is_begun_is_scored_as_the_model_scores_it(tmp_path):
    model = tiny()
    begun = [replace(prompt, begin="12#") for prompt in PROMPTS]
    with serving(application(model)) as url:
        answers = served(url, tmp_path, model).generate(begun, seed=0, interface=TOP)
    for ours, theirs in zip(answers, model.generate(begun, seed=0, interface=TOP), strict=True):
        assert (ours.text, ours.token_ids) == (theirs.text, theirs.token_ids)
        np.testing.assert_allclose(ours.logprobs.values_TK, theirs.logprobs.values_TK, 1e-6)


def test_what_was_said_is_asked_for_once_and_needs_no_server(tmp_path):
    model, counting = tiny(), Counting(application(tiny()))
    with serving(counting) as url:
        first = served(url, tmp_path, model)
        answers = first.generate(PROMPTS + PROMPTS, seed=0, interface=TOP)
        assert len(counting.requests) == len(PROMPTS) == len(first.log)
        first.generate(PROMPTS, seed=5, interface=TOP)  # greedy: no seed, so the same question
        assert len(counting.requests) == len(PROMPTS)
        first.generate([Prompt("more", "9+9=")], seed=0, interface=TOP)
        assert len(counting.requests) == len(PROMPTS) + 1
        other = replace(first, options=replace(OPTIONS, revision="other weights"))
        other.generate(PROMPTS[:1], seed=0, interface=TOP)
        assert len(counting.requests) == len(PROMPTS) + 2
    later = served("", tmp_path, model).generate(PROMPTS, seed=0, interface=TOP)
    for again, before in zip(later, answers, strict=False):
        assert (again.text, again.token_ids) == (before.text, before.token_ids)
        assert (again.logprobs.values_TK == before.logprobs.values_TK).all()


def test_a_log_that_was_altered_is_one_line(tmp_path):
    log = ResponseLog(tmp_path)
    assert log.keep(b"question", b"first") == b"first"
    assert log.keep(b"question", b"second") == b"first"  # two processes asked
    (path,) = tmp_path.glob("??/*.gz")
    other = ResponseLog(tmp_path / "other")
    other.keep(b"question", b"another")
    path.write_bytes(next(other.folder.glob("??/*.gz")).read_bytes()[:-9] + path.read_bytes()[-9:])
    with pytest.raises(BadInput, match="delete it to ask again"):
        log.find(b"question")


def choice(**changes):
    """An edit of a response's answer."""
    return edited(lambda response, _: response["choices"][0].update(changes))


def positions(edit):
    """An edit of what is released at every token."""

    def all_of(response, _):
        for position in response["choices"][0]["logprobs"]["content"]:
            edit(position)

    return edited(all_of)


def raw(status, body, **headers):
    return lambda path, *_: (status, headers, body) if path.endswith("completions") else None


def lengthened(response):
    """More tokens than were asked for."""
    (answer,) = response["choices"]
    answer["logprobs"]["content"] *= 9
    answer["finish_reason"] = "length"
    return response


FAULTS = {
    "html": (raw(200, b"<html><body>Welcome</body></html>"), "Invalid JSON.*<html>"),
    "no json": (raw(200, b'{"choices": [,]}'), "Invalid JSON"),
    "a list": (raw(200, b"[]"), "should be an object"),
    "nothing": (raw(200, b""), "Invalid JSON"),
    "half a surrogate pair": (raw(200, rb'{"choices":[{"text":"\ud800"}]}'), "Invalid JSON"),
    "deep": (raw(200, b"[" * 100_000), "Invalid JSON"),
    "in mid-answer": (raw(200, None), "no answer after 1 tries"),
    "redirect": (raw(307, b"", location="http://example.org/"), "no redirect is followed"),
    "compressed": (raw(200, b"x", **{"content-encoding": "gzip"}), "compressed"),
    "refused": (raw(401, b'{"error":"bad key"}'), "status 401.*bad key"),
    "odd pause": (raw(503, b"", **{"retry-after": "\u00b2"}), "no answer after 2 tries"),
    "busy": (raw(429, b"later"), "no answer after 1 tries .status 429: later"),
    "broken": (raw(503, b"loading"), "no answer after 1 tries .status 503"),
    "another model": (edited(lambda r, _: r.update(model="other")), "another model, 'other'"),
    "no answers": (edited(lambda r, _: r.update(choices=[])), "0 answers"),
    "two answers": (edited(lambda r, _: r.update(choices=r["choices"] * 2)), "2 answers"),
    "another's number": (choice(index=3), "numbered 0"),
    "filtered": (choice(finish_reason="content_filter"), "stopped for 'content_filter'"),
    "unfinished": (choice(finish_reason=None), "stopped for None"),
    "no logprobs": (choice(logprobs=None), "sent no logprobs, of which 5"),
    "empty logprobs": (choice(logprobs={"content": []}), "sent no logprobs"),
    "no message": (choice(message=None), "holds no text"),
    "null text": (choice(message={"role": "assistant", "content": None}), "holds no text"),
    "long logprobs": (edited(lambda r, _: r.update(usage=None) or lengthened(r)), "of at most 8"),
    "other text": (choice(message={"content": "12345678"}), "its tokens spell"),
    "no end": (choice(finish_reason="stop"), "leave out the end"),
    "other prompt": (choice(prompt_token_ids=[3, 4]), "answers another prompt"),
    "NaN": (positions(lambda p: p["top_logprobs"][0].update(logprob=float("nan"))), "finite"),
    "inf": (positions(lambda p: p["top_logprobs"][0].update(logprob=float("-inf"))), "finite"),
    "positive": (positions(lambda p: p["top_logprobs"][0].update(logprob=0.9)), "less than or"),
    "probabilities": (
        positions(lambda p: [top.update(logprob=-0.05) for top in p["top_logprobs"]]),
        "no part of a distribution",
    ),
    "no alternatives": (positions(lambda p: p.update(top_logprobs=[])), "no part of a distr"),
    "unknown token": (positions(lambda p: p.update(id=99)), "none of the 17"),
    "negative id": (positions(lambda p: p.update(id=-1)), "greater than or equal to 0"),
    "cut prompt": (edited(lambda r, _: r["usage"].update(prompt_tokens=2)), "read 2 tokens of"),
    "too long": (edited(lambda r, _: r["usage"].update(completion_tokens=99)), "99 tokens, of"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_server_does_wrong_is_one_line_and_loses_nothing(tmp_path, fault):
    change, line = FAULTS[fault]
    counting = Counting(application(tiny()))
    with serving(counting) as url:
        teacher = served(url, tmp_path, tiny(), retries=int(fault == "odd pause"))
        before = teacher.generate(PROMPTS[:2], seed=0, interface=TOP)
        counting.change = change
        with pytest.raises(BadInput, match=line) as caught:
            teacher.generate(PROMPTS, seed=0, interface=TOP)
        assert "\n" not in str(caught.value)
        assert 2 <= len(teacher.log) < len(PROMPTS)  # of "no end", one that did end as well
        counting.change = None
        after = teacher.generate(PROMPTS, seed=0, interface=TOP)
    assert [one.text for one in after[:2]] == [one.text for one in before]
    assert [path for path, *_ in counting.requests].count("/v1/chat/completions") >= len(PROMPTS)


def test_a_huge_or_an_endless_body_is_cut_off(tmp_path, monkeypatch):
    monkeypatch.setattr(connection, "MOST_BYTES", 1000)
    with serving(Counting(application(tiny()), raw(200, b" " * 5000))) as url:
        with pytest.raises(BadInput, match="sends more than"):
            served(url, tmp_path, tiny()).generate(PROMPTS, seed=0, interface=TOP)


def test_a_busy_server_is_asked_again_with_longer_and_longer_pauses(tmp_path):
    pauses, failures = [], [503, 429, 500]

    def change(path, request, status, body):
        return (failures.pop(), {}, b"") if failures else None

    with serving(Counting(application(tiny()), change)) as url:
        teacher = served(url, tmp_path, tiny(), retries=3, pause=pauses.append)
        answers = teacher.generate(PROMPTS[:1], seed=0, interface=TOP)
    assert len(answers) == 1 and pauses == [0.5, 1.0, 2.0]


def test_a_server_that_is_down_is_one_line(tmp_path):
    with serving(application(tiny())) as url:
        pass
    with pytest.raises(connection.Unreachable, match="no answer after 1 tries .ConnectError"):
        served(url, tmp_path, tiny()).generate(PROMPTS, seed=0, interface=TOP)


@pytest.mark.parametrize(
    ("url", "hosts", "line"),
    [
        ("http://api.example.com/v1", (), "api.example.com is not this machine"),
        ("http://10.0.0.7:8000/v1", (), "10.0.0.7 is not this machine"),
        ("http://127.0.0.1.example.com/v1", (), "is not this machine"),
        ("http://localhost.example.com/v1", ["localhost"], "is not this machine"),
        ("http://[::ffff:8.8.8.8]/v1", (), "is not this machine"),
        ("http://me:secret@127.0.0.1/v1", (), "must hold no user"),
        ("http://127.0.0.1/v1?key=secret", (), "must hold no user"),
        ("ftp://127.0.0.1/v1", (), "must be like"),
        ("127.0.0.1:8000", (), "must be like"),
        ("http://127.0.0.1:99999/v1", (), "not an address"),
        ("http://[::1/v1", (), "not an address"),
    ],
)
def test_an_address_that_is_not_ones_own_is_refused(url, hosts, line):
    with pytest.raises(BadInput, match=line) as caught:
        check_url(url, hosts)
    assert "secret" not in str(caught.value).replace(url, "")


@pytest.mark.parametrize(
    ("host", "addresses", "expected"),
    [
        ("localhost", ["127.0.0.1"], "127.0.0.1:8000"),
        ("localhost", ["::1", "127.0.0.1"], "127.0.0.1:8000"),
        ("::1", ["::1"], "[::1]:8000"),
        ("gpu", ["10.0.0.7"], "10.0.0.7:8000"),
        ("gpu", ["100.64.0.9"], "100.64.0.9:8000"),
        ("localhost", ["10.0.0.7"], None),  # a name of this machine that leads elsewhere
        ("gpu", ["8.8.8.8"], None),  # a listed host is none of the public internet's
        ("gpu", ["10.0.0.7", "8.8.8.8"], None),
        ("gpu", ["::ffff:8.8.8.8"], None),
        ("gpu", ["2606:4700::1111"], None),
    ],
)
def test_no_public_address_is_connected_to(monkeypatch, host, addresses, expected):
    answers = [(0, 0, 0, "", (address, 8000)) for address in addresses]
    monkeypatch.setattr(address.socket, "getaddrinfo", lambda *_, **__: answers)
    if expected:
        assert own_address(host, 8000) == expected
    else:
        with pytest.raises(BadInput, match="which is not your own"):
            own_address(host, 8000)


def test_proxies_of_the_environment_are_not_used_and_keys_not_shown(tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    counting = Counting(application(tiny()), raw(401, b"no"))
    with serving(counting) as url:
        teacher = served(url, tmp_path, tiny(), key_variable="OWN_SERVER_KEY")
        with pytest.raises(BadInput, match="OWN_SERVER_KEY: must hold"):
            teacher.generate(PROMPTS, seed=0, interface=TOP)
        monkeypatch.setenv("OWN_SERVER_KEY", "very-secret")
        with pytest.raises(BadInput) as caught:
            teacher.generate(PROMPTS, seed=0, interface=TOP)
    assert counting.requests and counting.requests[0][2][b"authorization"] == b"Bearer very-secret"
    assert "very-secret" not in str(caught.value) + repr(teacher)


def test_a_probe_finds_what_settings_promise_and_the_server_does_not_do(tmp_path):
    model, counting = tiny(), Counting(application(tiny()))
    with serving(counting) as url:
        teacher = served(url, tmp_path, model)
        probe(teacher, PROMPTS[:2])
        assert not len(teacher.log)
        for change, line in PROBED:
            counting.change = change
            with pytest.raises(BadInput, match=line):
                probe(teacher, PROMPTS[:2])


def mixed():
    """Answers, once it has been asked two prompts, either with what it said to the other."""
    alone = {}

    def change(path, request, status, body):
        if not path.endswith("completions") or b'"logprobs"' in request:
            return None
        response = json.loads(body)
        if len(alone) < 2:
            text = alone.setdefault(request, f"answer {len(alone)}")
        else:
            text = next(said for asked, said in alone.items() if asked != request)
        response["choices"][0]["message"]["content"] = text
        return status, {}, json.dumps(response).encode()

    return change


PROBED = [
    (edited(lambda r, _: r.update(data=[{"id": "b"}]), "/v1/models"), "no model 'a teacher'.*b"),
    (edited(lambda r, _: r.update(data=[]), "/v1/models"), "there are: none"),
    (choice(logprobs=None), "sent no logprobs"),
    (choice(prompt_logprobs=None), "did not score the text"),
    (mixed(), "with what it says to another"),
]


def test_surprisal_through_echo_is_the_models(tmp_path):
    """Against a server that echoes as OpenAI's first protocol did."""
    model = tiny()
    options = replace(OPTIONS, prompts="ids", scoring="echo")
    texts = ["12#", "7+", ""]

    def change(path, request, status, body):
        ids = json.loads(request)["prompt"]
        names = [f"token_id:{token}" for token in ids] + ["token_id:3"]
        values = [None, *(-nats for nats in stepwise(model, ids)), -1.0]
        logprobs = {"tokens": names, "token_logprobs": values}
        answer = {"index": 0, "text": "", "finish_reason": "length", "logprobs": logprobs}
        return 200, {}, json.dumps({"choices": [answer]}).encode()

    with serving(Counting(application(model), change)) as url:
        teacher = served(url, tmp_path, model, options)
        nats = teacher.surprisal(PROMPTS[:3], texts)
    np.testing.assert_allclose(nats, model.surprisal(PROMPTS[:3], texts), rtol=1e-5)


def stepwise(model, ids):
    """-log p of each token but the first, one forward pass each."""
    import torch

    for end in range(1, len(ids)):
        logits = model.network(input_ids=torch.tensor([ids[:end]])).logits[0, -1]
        yield -float(torch.log_softmax(logits.detach(), -1)[ids[end]])


def test_a_model_that_is_only_answers_says_what_it_cannot_do(tmp_path):
    plain = served("http://127.0.0.1:9/v1", tmp_path, options=RequestOptions(TEACHER))
    assert re.search("no tokenizer", str(pytest.raises(BadInput, plain.encode, PROMPTS[0]).value))
    with pytest.raises(BadInput, match="more than the 0 logprobs"):
        plain.generate(PROMPTS, seed=0, interface=TOP)
    with pytest.raises(BadInput, match="does not score"):
        plain.surprisal(PROMPTS, ["1"] * len(PROMPTS))
