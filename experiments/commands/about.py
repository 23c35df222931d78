"""Commands that say what there is: list, schema, doctor."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from distill.completions import BadInput
from experiments.results.plain import Plain
from experiments.settings import catalog, component_docs, entries, grader_docs
from experiments.tasks.graders.catalog import GRADERS

PLURALS = {"defenses": "defense", "studies": "study"}
WIDTH = 150  # letters that a table of components needs


def list_group(*, group: str | None, markdown: bool) -> None:
    """Print what exists in a group of configs, or in all of them."""
    groups = sorted(path.name for path in catalog.config_folder().iterdir() if path.is_dir())
    groups.append(grader_docs.GROUP)
    name = _group_name(group, groups) if group else ""
    page = grader_docs if name == grader_docs.GROUP else component_docs.PAGES.get(name)
    if page and markdown:
        return print(page.markdown(), end="")
    if page:
        return Plain(width=max(Plain().width, WIDTH)).print(page.table())
    for shown in [name] if name else groups:
        there = sorted(GRADERS) if shown == grader_docs.GROUP else catalog.names(shown)
        print(f"{shown}: {' '.join(there)}")


def _group_name(word: str, groups: list[str]) -> str:
    """The group of that name or of that plural; BadInput where there is none."""
    singular = PLURALS.get(word, word.removesuffix("s"))
    name = word if word in groups else singular
    if name not in groups:
        near = entries.near(word, groups)
        raise BadInput(f"list: no group {word!r}{near} (there are: {', '.join(groups)})")
    return name


def print_schema(*, of: str) -> None:
    """Print the JSON schema of all settings, or of a file of a run."""
    from pydantic import TypeAdapter

    from experiments.results import manifest
    from experiments.results.schema import arms, card, marks, measures, outcomes, rows
    from experiments.settings import schema as settings

    if of == "settings":
        return print(json.dumps(settings.schema(), indent=1))
    kinds: dict[str, Any] = {
        "results": measures.Measures,
        "rows": list[rows.Row],
        "card": card.Card,
        "arms": list[arms.ArmRecord],
        "outcomes": list[outcomes.CampaignOutcome],
        "marks": list[marks.MarkedStudent],
        "manifest": manifest.Manifest,
    }
    print(json.dumps(TypeAdapter(kinds[of]).json_schema(), indent=1))


def doctor() -> None:
    """Print versions, device, threads, free disk and whether wandb has a key."""
    from experiments.environment import machine, versions
    from experiments.tasks.graders.sandbox import isolation

    this = machine()
    print(
        f"python {this.python}, {this.cores} cores, {this.threads} thread(s) a worker, "
        f"device {this.device}"
    )
    print(" ".join(f"{name}=={version}" for name, version in versions().items()))
    free = shutil.disk_usage(".").free / 2**30
    print(f"CPU capability {this.cpu_capability}; {free:.0f} GiB free here")
    print(f"code that is graded runs behind: {isolation()}")
    key = os.environ.get("WANDB_API_KEY") or (Path.home() / ".netrc").is_file()
    print(f"wandb key: {'found' if key else 'none; tracking=offline needs none'}")
