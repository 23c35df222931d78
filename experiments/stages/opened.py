"""The model in a teacher's or a student's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.completions import read_completions
from distill.folders import load
from distill.recordings import RecordedModel
from experiments.private import shown
from experiments.stages.files import TrainingReport


def opened(folder: Path) -> Any:
    """A recording, a pretrained model by its path, or one that was trained here."""
    if (folder / "recorded.parquet").is_file():
        answers = read_completions(folder / "recorded.parquet")
        return RecordedModel({answer.prompt: answer for answer in answers}, "recorded teacher")
    if (folder / "pretrained.json").is_file():
        settings = json.loads((folder / "pretrained.json").read_text())
        decoding = {
            name: settings[name]
            for name in ("temperature", "top_p", "max_new_tokens", "batch_size")
        }
        return load(shown(settings["path"]), allow_pickle=settings["allow_pickle"], **decoding)
    report = TrainingReport.read(folder)
    return load(str(folder), may_diverge=report.diverged, **report.decoding.model_dump())
