"""wandb as a sink: finished results are replayed into it, and losing it loses nothing. The one home
of wandb.

The mapping is one run a trained student (job type `distill`) and one a study (`compare`), in one
project, grouped by study; `cmp.*` columns are the same in every run and never null, so that
grouping and filtering work across studies.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from distill.completions import HERE, sweep, write_bytes


class Tracking(BaseModel):
    """`off`; `offline`: files for `wandb sync`; `online`: a key and the network where there are,
    offline where not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mode: Literal["off", "offline", "online"]
    # What wandb takes as a name; it refuses others once a run is over.
    project: str = Field("distill-resist", pattern=r"^[^/\\#?%:\x00-\x1f]+$", max_length=128)
    entity: str | None = Field(None, pattern=r"^[^/\\#?%:\x00-\x1f]+$", max_length=128)
    artifacts: Literal["none", "results"] = "results"
    identity: bool = Field(
        False, description="whether this machine's name and absolute paths in settings are sent"
    )
    timeout: float = Field(20.0, description="seconds to wait for the server", gt=0, le=3600)


@dataclass(frozen=True)
class Part:
    """A stage's result in a run's lineage: its kind, its key in the store, the SHA-256 of each
    file, and whether the run made it or used it. Its files stay where they are.
    """

    kind: str
    key: str
    files: dict[str, str]
    made: bool = False


@dataclass(frozen=True)
class Run:
    """One wandb run: curves by metric as (step, value), results set once, tables of at most 200
    rows, files, what it was made from, and a page to show.
    """

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
    lineage: tuple[Part, ...] = ()
    page: Path | None = None


@dataclass
class _Attempt:
    """One time that a run was sent: under what id, what of it, where to, and whether all of it
    went.
    """

    id: str
    content: str
    online: bool
    whole: bool = False


def replay(
    runs: Iterable[Run], settings: Tracking, folder: Path, say: Callable[[str], None]
) -> int:
    """Send what was not sent before and return how many runs that was; trouble is one line, never
    an error.

    Nothing is sent twice under one id: a run that changed, or whose sending was killed, takes a new
    one, or takes the place of its offline files where these were not synced.

    Args:
        runs: of a study.
        settings: where they are sent, and whether who ran them is told.
        folder: of the study's results.
        say: where trouble is told of.
    """
    if settings.mode == "off":
        return 0
    count, trouble = 0, list[str]()
    try:
        with environment(folder / "wandb"):
            online = settings.mode == "online" and reachable(settings, folder, say)
            sent = _sent(folder / "tracking.json", say)
            for run in runs:
                try:
                    count += _replayed(
                        run if settings.identity else anonymous(run), settings, folder, online, sent
                    )
                except Exception as error:  # one bad run stops no other
                    trouble.append(f"{run.name}: {short_line(error)}")
    except Exception as error:  # whatever wandb raises, the results are on disk already
        trouble.append(short_line(error))
    if trouble:
        more = f" (and {len(trouble) - 1} more)" if len(trouble) > 1 else ""
        say(f"wandb: {trouble[0]}{more}; results are kept, later: {_sync(folder)}")
    return count


def _replayed(
    run: Run, settings: Tracking, folder: Path, online: bool, sent: dict[str, list[_Attempt]]
) -> bool:
    """Send a run unless it was; what is begun is written down first."""
    content, before = _digest(run), sent.setdefault(run.id, [])
    if any(old.whole and old.content == content and old.online == online for old in before):
        return False
    before[:] = [old for old in before if old.online or _synced(folder, old.id)]
    for place in folder.glob(f"wandb/wandb/offline-run-*-{run.id}*"):
        if not any(place.name.endswith(f"-{old.id}") for old in before):
            shutil.rmtree(place)
    taken = {old.id for old in before}
    free = next(
        name
        for n in itertools.count(1)
        if (name := run.id if n == 1 else f"{run.id}-{n}") not in taken
    )
    attempt = _Attempt(free, content, online)
    before.append(attempt)
    _note(folder, sent)
    _send(replace(run, id=free), settings, folder, online)
    attempt.whole = True
    _note(folder, sent)
    return True


def _synced(folder: Path, name: str) -> bool:
    """Whether `wandb sync` has sent what was written offline under an id."""
    return any(folder.glob(f"wandb/wandb/offline-run-*-{name}/*.synced"))


def _note(folder: Path, sent: dict[str, list[_Attempt]]) -> None:
    attempts_by_run = {
        name: [vars(attempt) for attempt in attempts] for name, attempts in sent.items()
    }
    write_bytes(folder / "tracking.json", json.dumps(attempts_by_run, indent=1).encode())


def anonymous(run: Run) -> Run:
    """The run with no more of an absolute path in its settings than the last name."""
    return replace(run, name=_shortened(run.name), config=_shortened(run.config))


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"(?<![\w./])(?:~|[A-Za-z]:)?[/\\](?:[^/\\'\"()|]+[/\\])+", "…/", value)
    if isinstance(value, dict):
        return {name: _shortened(one) for name, one in value.items()}
    return [*map(_shortened, value)] if isinstance(value, list | tuple) else value


def _digest(run: Run) -> str:
    lineage = [vars(part) for part in run.lineage]
    page = hashlib.sha256(run.page.read_bytes()).hexdigest() if run.page else ""
    contents = [run.config, run.curves, run.summary, run.tables, lineage, page]
    text = json.dumps(contents, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _sync(folder: Path) -> str:
    return f"wandb sync {folder / 'wandb'}/wandb/offline-run-*"


def short_line(error: Exception) -> str:
    """An error in one line of at most 300 letters."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _sent(path: Path, say: Callable[[str], None]) -> dict[str, list[_Attempt]]:
    """What was sent before, by run; in a file of before this had attempts, each run once."""
    try:
        noted = json.loads(path.read_bytes())
        if isinstance(noted, list):
            marks = [str(mark).split("/") for mark in noted]
            return {
                run: [_Attempt(run, content, mode == "online", True)]
                for mode, run, content in marks
            }
        return {
            str(run): [_Attempt(**attempt) for attempt in attempts]
            for run, attempts in noted.items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError, RecursionError):
        say(f"{path}: is damaged; every run is sent again")
        return {}


def reachable(settings: Tracking, folder: Path, say: Callable[[str], None]) -> bool:
    """Whether there is a key and a server, asked once; wandb itself would ask for a key or wait at
    every run.

    Args:
        settings: with how long to wait, seconds.
        folder: of the study's results.
        say: where a reason is told of, once.
    """
    where = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    reason = None
    try:
        import wandb

        address = urlsplit(where)
        host, port = (
            address.hostname or "",
            address.port or (443 if address.scheme == "https" else 80),
        )
        where = f"{host}:{port}"
        if not wandb.api.api_key:
            reason = "no API key"
        else:
            socket.create_connection((host, port), settings.timeout).close()
    except Exception as error:  # an address that is none, too
        reason = f"{where} cannot be reached ({short_line(error)})"
    if reason:
        # Offline nobody is asked, and an address that is none would be an error again.
        os.environ.pop("WANDB_BASE_URL", None)
        say(f"wandb: {reason}; runs are kept offline, later: {_sync(folder)}")
    return reason is None


@contextlib.contextmanager
def environment(folder: Path) -> Iterator[None]:
    """All of wandb's files below one folder, nothing on the console, for the time of the replay.

    Args:
        folder: is made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    ours = {
        name: str(folder)
        for name in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR")
    }
    ours |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    before = {name: os.environ.get(name) for name in (*ours, "WANDB_BASE_URL")}
    temporary = tempfile.tempdir
    os.environ.update(ours)
    tempfile.tempdir = _scratch(folder)
    try:
        yield
    finally:
        tempfile.tempdir = temporary
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@functools.cache
def _scratch(folder: Path) -> str:
    """Where wandb's temporary files are until this process ends; what a killed one
    left is swept.
    """
    place = tempfile.mkdtemp(".part", f".tmp.{HERE}.{os.getpid()}.", folder)
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


def quiet(settings: Tracking) -> Any:
    """wandb's own settings: nothing on the console, and no more of this machine than is wanted.

    Args:
        settings: with how long to wait, and whether who ran them is told.
    """
    import wandb

    wandb_settings = wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_stats=True,
        x_disable_meta=True,
        init_timeout=settings.timeout,
    )
    if not settings.identity:
        wandb_settings.host = wandb_settings.username = wandb_settings.email = ""
    return wandb_settings


def _send(run: Run, settings: Tracking, folder: Path, online: bool) -> None:
    import wandb

    with wandb.init(
        project=settings.project,
        entity=settings.entity,
        dir=folder / "wandb",
        mode="online" if online else "offline",
        id=run.id,
        name=run.name,
        group=run.group,
        job_type=run.job,
        tags=run.tags,
        config=run.config,
        resume="allow",
        settings=quiet(settings),
    ) as sink:
        _log_curves(sink, run)
        for name, (columns, rows) in run.tables.items():
            sink.log({name: wandb.Table(columns=list[str | int](columns), data=rows[:200])})
        if run.page:
            sink.log({"report": wandb.Html(run.page.read_text(encoding="utf-8"), inject=False)})
        sink.summary.update(run.summary)
        _log_artifacts(sink, run, settings, online)


def _log_curves(sink: Any, run: Run) -> None:
    for family in {name.partition("/")[0] for name in run.curves}:
        sink.define_metric(f"{family}/step")
        sink.define_metric(f"{family}/*", step_metric=f"{family}/step", summary="none")
    for name, points in run.curves.items():
        for step, value in points:
            sink.log({name: value, f"{name.partition('/')[0]}/step": step})


def _log_artifacts(sink: Any, run: Run, settings: Tracking, online: bool) -> None:
    """Lineage by digests, and the run's own files; wandb notes what a run used where it is online
    alone, and offline takes all as made.
    """
    import wandb

    if settings.artifacts != "results":
        return
    for part in run.lineage:
        artifact = wandb.Artifact(
            f"{part.kind}-{part.key}", part.kind, metadata={"sha256": part.files}
        )
        (sink.log_artifact if part.made or not online else sink.use_artifact)(artifact)
    if run.files:
        hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in run.files}
        artifact = wandb.Artifact(f"result-{run.id}", "result", metadata={"sha256": hashes})
        for path in run.files:
            # "immutable" with an absolute path: wandb would copy each file into its staging
            # folder otherwise.
            artifact.add_file(str(path.resolve()), policy="immutable")
        sink.log_artifact(artifact)
