"""The model in a teacher's or a student's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.answers import read_answers
from distill.models import RecordedModel, load


def opened(folder: Path) -> Any:
    """A recording, a pretrained model by its path, or one that was trained here."""
    if (folder / "recorded.parquet").is_file():
        said = read_answers(folder / "recorded.parquet")
        return RecordedModel({answer.prompt: answer for answer in said}, "recorded teacher")
    if (folder / "pretrained.json").is_file():
        settings = json.loads((folder / "pretrained.json").read_text())
        decoding = {name: settings[name] for name in ("temperature", "top_p", "max_new_tokens", "batch_size")}
        return load(settings["path"], **decoding)
    shape = json.loads((folder / "training.json").read_text())["decoding"]
    return load(str(folder), **shape)
