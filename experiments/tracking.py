"""wandb as a sink: finished results are replayed into it, and losing it loses nothing. The one home of wandb.

The mapping is one run a trained student (job type `distill`) and one a study (`compare`), in one project, grouped by
study; `cmp.*` columns are the same in every run and never null, so that grouping and filtering work across studies.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from distill.answers import write_bytes


class Tracking(BaseModel):
    """`off`; `offline`: files for `wandb sync`; `online`: a key and the network where there are, offline where not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Literal["off", "offline", "online"]
    project: str = Field("distill-resist", min_length=1)
    entity: str | None = None
    artifacts: Literal["none", "results"] = "results"
    timeout: float = Field(20.0, description="seconds to wait for the server", gt=0)


@dataclass(frozen=True)
class Run:
    """One wandb run: curves by metric as (step, value), results set once, tables of at most 200 rows, files."""

    id: str
    name: str
    group: str
    job: str
    tags: tuple[str, ...]
    config: dict[str, Any]
    curves: dict[str, list[tuple[int, float]]]
    summary: dict[str, Any]
    tables: dict[str, tuple[list[str], list[list[Any]]]]
    files: tuple[Path, ...]


def comparison(
    *, task: str, defense: str, attacker: str, student: str, budget: int, strength: float, adaptive: bool
) -> dict[str, Any]:
    """The `cmp.*` columns of an arm: `cmp.cell` is all but the seed, so that it alone groups the seeds of a cell."""
    return {
        "cmp.cell": f"{task}|{defense}|{attacker}|{student}|{budget}",
        "cmp.cell_label": f"{defense} vs {attacker} on {task}",
        "cmp.task": task,
        "cmp.defense": defense,
        "cmp.defense_family": defense.partition("/")[0],
        "cmp.strength": float(strength),
        "cmp.attacker": attacker,
        "cmp.attacker_adaptive": adaptive,
        "cmp.student": student,
        "cmp.query_budget": budget,
    }


def replay(runs: Iterable[Run], settings: Tracking, folder: Path, say: Callable[[str], None]) -> int:
    """Send what was not sent before and return how many runs that was; trouble is one line, never an error."""
    if settings.mode == "off":
        return 0
    online = settings.mode == "online" and _reachable(settings, folder, say)
    count = 0
    try:
        sent = _sent(folder / "tracking.json", say)
        with _environment(folder / "wandb"):
            for run in runs:
                mark = f"{'online' if online else 'offline'}/{run.id}/{_digest(run)}"
                if mark not in sent:
                    _send(run, settings, folder, online)
                    sent.append(mark)
                    write_bytes(folder / "tracking.json", json.dumps(sent).encode())
                    count += 1
    except Exception as error:  # whatever wandb raises, the results are on disk already
        say(f"wandb: {_line(error)}; results are kept, later: {_sync(folder)}")
    return count


def _digest(run: Run) -> str:
    text = json.dumps([run.config, run.curves, run.summary, run.tables], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _sync(folder: Path) -> str:
    return f"wandb sync {folder / 'wandb'}/wandb/offline-run-*"


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _sent(path: Path, say: Callable[[str], None]) -> list[str]:
    try:
        return [str(mark) for mark in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError):
        say(f"{path}: is damaged; every run is sent again")
        return []


def _reachable(settings: Tracking, folder: Path, say: Callable[[str], None]) -> bool:
    """Whether there is a key and a server, asked once; wandb itself would ask for a key or wait at every run."""
    import wandb

    address = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))
    host, port = address.hostname or "", address.port or (443 if address.scheme == "https" else 80)
    reason = None
    if not wandb.api.api_key:
        reason = "no API key"
    else:
        try:
            socket.create_connection((host, port), settings.timeout).close()
        except OSError as error:
            reason = f"{host}:{port} cannot be reached ({_line(error)})"
    if reason:
        say(f"wandb: {reason}; runs are kept offline, later: {_sync(folder)}")
    return reason is None


@contextlib.contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """All of wandb's files below one folder, nothing on the console, for the time of the replay."""
    folder.mkdir(parents=True, exist_ok=True)
    ours = {name: str(folder) for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")}
    ours |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _send(run: Run, settings: Tracking, folder: Path, online: bool) -> None:
    import wandb

    quiet = wandb.Settings(
        silent=True, console="off", disable_code=True, disable_git=True, disable_job_creation=True,
        x_disable_stats=True, x_disable_meta=True, init_timeout=settings.timeout,
    )  # fmt: skip
    with wandb.init(
        project=settings.project, entity=settings.entity, dir=folder / "wandb", mode="online" if online else "offline",
        id=run.id, name=run.name, group=run.group, job_type=run.job, tags=run.tags, config=run.config, resume="allow",
        settings=quiet,
    ) as sink:  # fmt: skip
        for family in {name.partition("/")[0] for name in run.curves}:
            sink.define_metric(f"{family}/step")
            sink.define_metric(f"{family}/*", step_metric=f"{family}/step", summary="none")
        for name, points in run.curves.items():
            for step, value in points:
                sink.log({name: value, f"{name.partition('/')[0]}/step": step})
        for name, (columns, rows) in run.tables.items():
            sink.log({name: wandb.Table(columns=list[str | int](columns), data=rows[:200])})
        sink.summary.update(run.summary)
        if run.files and settings.artifacts == "results":
            hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.files}
            artifact = wandb.Artifact(f"result-{run.id}", "result", metadata={"sha256": hashes})
            for path in run.files:
                # "immutable" with an absolute path: wandb would copy each file into its staging folder otherwise.
                artifact.add_file(str(path.resolve()), policy="immutable")
            sink.log_artifact(artifact)
