"""Chat templates that are programs of somebody else's: wrong, endless, greedy, or out for more."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from distill.completions import Interface, Message, Prompt
from distill.folders import load
from tests.fuzz import Kind, Outcome, call
from tests.fuzz.kinds.models import whole

GOOD = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
INSTEAD = [  # of the template
    "",
    " ",
    5,
    [],
    {},
    ["a"],
    [{"name": "default"}],
    [{"name": "other", "template": GOOD}],
    {"other": GOOD},
    "{{ messages }",
    "{% if %}",
    "{% for m in messages %}",
    "{{ nothing.at.all }}",
    "{{ messages[7].content }}",
    "{{ messages | nofilter }}",
    "{{ raise_exception('no') }}",
    "{{ 1 / 0 }}",
    "{{ messages[0].content }}",
    "only this",
    "{{ messages[-1].content | upper }}",
    "{{ messages[-1].content[:3] }}",
    "{{ messages | length }}",
    "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
    "{% include 'x' %}",
    "{% import '/etc/passwd' as x %}",
    "{% extends 'x' %}",
    "\x00",
    "{{ '\ud800' }}",
]
BEFORE = [  # a template that is good
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__init__.__globals__ }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ messages.append(1) }}",
    "{{ messages.clear() }}",
    "{% set _ = messages.pop() %}",
    "{{ strftime_now(1) }}",
    "{{ range(10 ** 9) | list }}",
    "{% for i in range(15000) %}{% for j in range(15000) %}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}" + "x" * 40 + "{% endfor %}",
    "{{ 'x' * 200000 }}",
    "{{ 7 ** 7 ** 7 ** 7 }}",
    "{% if 7 ** 99999999 %}{% endif %}",
    "{{ lipsum(n=300) }}",
    "{{ [1, 2] | random }}",
    "{{ lipsum(n=1) }}",
    "{{ range(99) | random }}",
    "{{ '%99999999d' | format(1) }}",
    "{{ '{:>99999999}'.format(1) }}",
    "{{ 'x'.ljust(99999999) }}",
    "{{ 'x' | center(99999999) }}",
    "{{ messages | tojson(indent=9999999) }}",
]
CASE = st.tuples(
    st.one_of(
        st.sampled_from([("template", text) for text in INSTEAD]),
        st.sampled_from([("template", text + GOOD) for text in BEFORE]),
        st.sampled_from([("template", GOOD + text) for text in BEFORE]),
        st.sampled_from([("file", data) for data in (b"", b"\xff", b"{% if", b"x" * 2**20)]),
    ),
    st.sampled_from(["text", "system", "history"]),
)
ASKED = {
    "text": Prompt("p", "1+1="),
    "system": Prompt("p", "1+1=", system="Add."),
    "history": Prompt("p", "1+1=", history=(Message("user", "2"), Message("assistant", "3"))),
}


def attempt(case: Any, folder: Path) -> Outcome:
    (what, template), prompt = case
    shutil.copytree(whole(), folder / "model")
    path = folder / "model" / "tokenizer_config.json"
    if what == "file":
        (folder / "model" / "chat_template.jinja").write_bytes(template)
    else:
        path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return call(lambda: _asked(folder, ASKED[prompt]))


def _asked(folder: Path, prompt: Prompt) -> list[int]:
    model = load(str(folder / "model"), max_new_tokens=2)
    model.generate([prompt], seed=0, interface=Interface())
    return model.encode(prompt)


def fine(case: Any, folder: Path) -> str:
    """A prompt that was taken is whole in what the model reads, and the same each time."""
    (_, template), prompt = case
    model = load(str(folder / "model"), max_new_tokens=2)
    read = [model.tokenizer.decode(model.encode(ASKED[prompt])) for _ in range(3)]
    if any(one != read[0] for one in read):
        return f"taken in silence: another prompt each time, {read}"
    parts = [ASKED[prompt].text, ASKED[prompt].system, *(m.content for m in ASKED[prompt].history)]
    lost = [one for one in parts if one not in read[0]]
    return f"taken in silence: {lost} is not in {read[0][:99]!r}" if lost else ""


KIND = Kind(CASE, attempt, fine)
