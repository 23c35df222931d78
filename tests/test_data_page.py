"""docs/data.md: every command of it is planned, on files like those that it shows."""

import json
import re
import shlex
from pathlib import Path

import pytest

from experiments.planning import plan as planning
from experiments.planning import questions
from experiments.settings import schema

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
SMALL = ["budget=20", "measure.items=10", "measure.selection_items=10", "seeds=[0]"]
SMALL += ["attacker=sft", "defense=none", "selection_seeds=[900]"]
COMMANDS = [
    shlex.split(line)[2:]
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.M | re.S)
    if not language
    for line in block.splitlines()
    if line.startswith("distill-resist run ")
]
FENCED = [json.loads(line) for line in re.findall(r"^```json\n(.*?)\n```$", PAGE, re.M)]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def asked_texts(*words):
    made = schema.load("first", [*words, *SMALL])
    (block,) = made.blocks
    by_interface = questions.asked_prompts(made, block.tasks[0], block)
    return [prompt.text for prompts in by_interface.values() for prompt in prompts]


def chat(text):
    choice = {"message": {"role": "assistant", "content": "1"}, "finish_reason": "stop"}
    return {"question": text, "model": "mine", "choices": [choice]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what the page's commands name."""
    folder, texts = tmp_path_factory.mktemp("data"), asked_texts()
    write(folder / "answers.jsonl", [FENCED[0] | {"prompt": text} for text in dict.fromkeys(texts)])
    others = chat("other") | {"model": "another"}
    write(folder / "logs.jsonl", [others, *map(chat, texts)])
    requests = [
        {"custom_id": str(i), "body": {"messages": [{"role": "user", "content": text}]}}
        for i, text in enumerate(texts)
    ]
    write(folder / "batch_input.jsonl", requests)
    outputs = [
        {"custom_id": str(i), "response": {"status_code": 200, "body": chat("")}, "error": None}
        for i in range(len(texts))
    ]
    write(folder / "batch_output.jsonl", outputs)
    sums = [FENCED[1] | {"question": f"What is {i}+1?", "answer": i + 1} for i in range(1500)]
    write(folder / "sums.jsonl", sums)
    write(
        folder / "worked.jsonl",
        [row | {"answer": f"{row['answer'] - 1} and 1\n#### {row['answer']}"} for row in sums],
    )
    quiz = [f"sums,What is {i}+1?,{i + 1}" for i in range(1500)]
    (folder / "quiz.csv").write_text("\n".join(["subject,question,answer", *quiz]) + "\n")
    options = [row | {"options": ["0", str(row["answer"])], "answer": 1} for row in sums[1:]]
    write(folder / "options.jsonl", options)
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: " ".join(words)[:90])
def test_a_command_of_the_page_is_planned(words, place, monkeypatch):
    monkeypatch.chdir(place)
    if any("reasoning_gym" in word for word in words):
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
    if any("completions.parquet" in word for word in words):
        import pyarrow as pa
        import pyarrow.parquet as pq

        task = next(word for word in words if word.startswith("task="))
        rows = [
            {"model": "qwq-32b", "question": text, "response": "<answer>1</answer>", "attempt": i}
            for text in dict.fromkeys(asked_texts(task))
            for i in range(3)
        ]
        pq.write_table(pa.Table.from_pylist(rows), place / "completions.parquet")
    assert planning.make(schema.load(words[0], [*words[1:], *SMALL])).arms


def test_the_page_names_every_format_and_setting():
    from experiments.tasks.dataset import Settings

    settings = PAGE[PAGE.index("| setting |") :]
    missing = [name for name in Settings.model_fields if f"`{name}`" not in settings]
    assert not missing
    for name in ("fields", "messages", "openai", "vllm"):
        assert f"| `{name}` |" in PAGE
