"""A served model against a server that nobody here wrote: `transformers serve`, of a tiny random
chat model.
"""

import importlib.util
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from distill import folders
from distill.completions import BadInput, Interface, Prompt
from distill.served.connection import Server, Unreachable
from distill.served.model import ServedModel
from distill.served.query import TokenTable
from distill.served.request_options import RequestOptions
from distill.served.response_log import ResponseLog
from tests.distill.served.local_servers import tiny

NEEDED = ("fastapi", "openai", "uvicorn")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.enable_socket,
    pytest.mark.skipif(
        bool(MISSING),
        reason=f"`transformers serve` needs {', '.join(MISSING)} (transformers[serving])",
    ),
]
NAME = "owner/tiny"
LETTERS = "0123456789+=# abcdefghijklmnopqrstuvwxyz<|>\n"
TEMPLATE = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}<|assistant|>"
PROMPTS = [Prompt(str(n), f"{n}+{n}=") for n in range(10, 14)]
WAIT_SECONDS = 300


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A random chat model, and the address at which `transformers serve` has it."""
    model = tiny(alphabet=LETTERS)
    model.tokenizer.chat_template = TEMPLATE
    cache = tmp_path_factory.mktemp("hub")
    snapshot = cache / "models--owner--tiny" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    folders.save(model, snapshot)
    refs = cache / "models--owner--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    port = 18_473
    command = "from transformers.cli.transformers import main; main()"
    words = [
        sys.executable,
        "-c",
        command,
        "serve",
        NAME,
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    offline = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    path = os.pathsep.join(sys.path)
    words += ["--host", "127.0.0.1"]
    process = subprocess.Popen(words, env=os.environ | offline | {"PYTHONPATH": path})
    try:
        _wait(Server(f"http://127.0.0.1:{port}/v1", retries=0), process)
        yield model, f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _wait(server, process):
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with server.connect() as connection:
                connection.get("/models")
            return
        except Unreachable:
            time.sleep(1)
    pytest.fail("`transformers serve` did not start")


def teacher(served, folder, **more):
    model, url = served
    options = RequestOptions(NAME, max_new_tokens=8, **more)
    return ServedModel(
        Server(url, retries=0, timeout=120),
        options,
        ResponseLog(folder),
        TokenTable(model.tokenizer),
        2,
    )


@pytest.mark.parametrize("prompts", ["chat", "text"])
def test_greedy_answers_are_the_models(served, tmp_path, prompts):
    model = served[0]
    answers = teacher(served, tmp_path, prompts=prompts).generate(
        PROMPTS, seed=0, interface=Interface()
    )
    expected = model.generate(PROMPTS, seed=0, interface=Interface())
    assert [one.text.strip() for one in answers] == [one.text.strip() for one in expected]
    assert [one.finished for one in answers] == [one.finished for one in expected]
    assert len({one.text for one in answers}) > 1


def test_a_probe_passes_and_names_what_is_not_there(served, tmp_path):
    teacher(served, tmp_path).probe(PROMPTS[:2])
    other = teacher(served, tmp_path)
    other = replace(other, options=replace(other.options, model="owner/other"))
    with pytest.raises(BadInput, match="has no model 'owner/other' .there are: owner/tiny"):
        other.probe(PROMPTS[:2])


def test_what_it_cannot_do_is_one_line(served, tmp_path):
    """It releases no logprobs, and says so with a status of its own."""
    with pytest.raises(BadInput, match="logprobs") as caught:
        teacher(served, tmp_path, logprobs=5).probe(PROMPTS[:2])
    assert "\n" not in str(caught.value)
