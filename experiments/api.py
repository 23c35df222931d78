"""What a notebook or a script needs: load a study, plan it, run it, read what it left.
`experiments` offers these names.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from experiments import preregistration, run_folder, tracking, wandb_runs
from experiments.claims import claim
from experiments.launch import local
from experiments.planning import plan as planning
from experiments.planning import preflight, servers
from experiments.planning.plan import Plan
from experiments.results.plain import Plain
from experiments.results.read import read_results
from experiments.settings import catalog, schema
from experiments.settings.schema import Study
from experiments.store import Store, writable

__all__ = ["load_study", "plan", "read_results", "run", "use_plugins"]


def use_plugins(*folders: str | Path) -> None:
    """Use the defences, attackers, tasks and detectors in these folders, as `--plugins` does.

    Args:
        folders: instead of those of an earlier call; called again, edited files are read anew.

    Raises:
        BadInput: a folder is not there, or a plugin in it cannot be used.
    """
    catalog.use_plugins([Path(folder) for folder in folders])


def load_study(name: str, overrides: Sequence[str] = ()) -> Study:
    """A study with all its settings, checked.

    Args:
        name: a shipped study's name, or the path of a YAML file.
        overrides: `key=value`, as on the command line.

    Raises:
        BadInput: in one line, what is wrong and what is right.
    """
    return schema.load_named(name, [*overrides])


def plan(study: Study) -> Plan:
    """What a study does: `plan(study).arms`, `.stages`, and in words `.notes`.

    Args:
        study: as `load_study` returns it.

    Raises:
        BadInput: the study cannot be run; nothing has been.
    """
    return planning.make(study)


def run(
    study: Study, runs: str | Path = "runs", *, workers: int | None = None, threads: int = 1
) -> Path:
    """Run a study, or continue it, and write its report.

    Workers do not run the caller's script again, so that it needs no `if __name__ == "__main__"`.

    Args:
        study: what `load_study` returned.
        runs: the folder of results; what it holds already is not made again.
        workers: processes; one a core if None.
        threads: of each process; bytes depend on it.

    Returns:
        The study's own folder below `runs`, with `results.json`, `report.html` and `card.md`.

    Raises:
        BadInput: the study cannot be run, its folder holds results of other settings, or a worker
            was killed.
    """
    planned, store = plan(study), Store(Path(runs) / "store")
    preflight.check(planned.study)
    servers.check_servers(planned, store)
    claim(planned, store)
    home = writable(Path(runs) / study.name)
    console = Plain(stderr=True)
    preregistration.freeze(planned, store, home)
    local.run(planned, store.root, workers or os.cpu_count() or 1, console, threads)
    measured = run_folder.write(planned, store, home)
    if study.tracking.mode != "off":
        sent = wandb_runs.runs(planned, store, measured, home)
        tracking.replay(sent, study.tracking, home, console.print)
    return home
