"""How the shipped studies are planned in tests: those that read their user's files get others."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from pathlib import Path

from distill.embedded import byte_pair_tokenizer, llama
from distill.folders import save
from distill.models import LanguageModel
from experiments.settings.entries import build_task

GSM8K = Path(__file__).parents[1] / "data" / "gsm8k"
READING = {"gsm8k", "real", "real_gpu", "recorded"}  # files that the repository does not hold
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def overrides(name: str) -> list[str]:
    """What a study's words must be followed by."""
    if name == "gsm8k":
        teachers = [
            f"{who}.path={GSM8K}/example_model_solutions.jsonl"
            for who in ("teacher", "weaker_teacher")
        ]
        sizes = ["budget=40", "measure.items=10", "measure.selection_items=10"]
        return [f"task=gsm8k(path='{GSM8K}')", *sizes, *teachers]
    if name == "real":
        return [f"{who}.path={model()}" for who in ("teacher", "student", "provider.proxy")]
    if name in ("real_gpu", "recorded"):
        students = [f"student.path={model()}"] if name == "real_gpu" else []
        return ["task=trace", f"teacher.path={recording()}", *students]
    return []


@functools.cache
def recording() -> Path:
    """Right answers to all programs, in the columns of reasoning-gym's own recordings."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    task = build_task("trace")
    drafts = [draft for index in range(task.size) if (draft := task.draft(index))]
    rows = [{"question": one.text, "response": task.solution(one)} for one in drafts]
    who = {"model": "mistral-small-3.1-24b-instruct"}
    lines = [json.dumps(who | row) for row in rows]
    (folder / "answers.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder / "answers.jsonl"


@functools.cache
def model() -> Path:
    """A tiny chat model in a folder of this process."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    tokenizer = byte_pair_tokenizer(["12+34=6 # 46", "user system assistant"] * 3, 300)
    tokenizer.chat_template = TEMPLATE
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=512, seed=3)
    save(LanguageModel(network, tokenizer), folder)
    return folder
