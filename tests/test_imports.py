"""The roles are held by imports: who may import whom, and the one home of each heavy library."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"distill", "defenses", "experiments"}
HOMES = {
    "transformers": {
        "distill/folders.py",
        "distill/folder_checks.py",
        "distill/embedded.py",
        "distill/text_vectors.py",
    },
    "tokenizers": {"distill/embedded.py"},
    "accelerate": {"distill/passes.py"},
    "datasets": {"distill/tables.py"},
    "peft": {"distill/adapters.py"},
    "gguf": set(),  # transformers reads such files with it
    "wandb": {"experiments/live.py", "experiments/tracking.py"},
    "sklearn": {"experiments/measure/text.py"},
    "httpx": {"distill/served/connection.py"},
    "socket": {"distill/served/address.py", "experiments/tracking.py"},  # the host's name
    "uvicorn": {"experiments/serving/app.py"},
    "starlette": {"experiments/serving/app.py"},
} | {
    # What else opens connections has no home.
    name: set[str]()
    for name in ("requests", "aiohttp", "urllib3", "httpcore", "websockets", "ssl", "http")
}


SHARED = {
    "distill.answer_format",
    "distill.auxiliary",
    "distill.completions",
    "distill.generation",
    "distill.models",
    "distill.rendering",
    "distill.tool_calls",
    "distill.trainer",
}
"""What both sides speak of: completions, models and how they generate, how a prompt is spelled, how
calls are read, how a network trains.
"""


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def rooms(path: Path) -> set[str]:
    """The rooms of `experiments/` that a file imports from."""
    names = imported(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "experiments":
            names |= {f"experiments.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("experiments.")}


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", files("distill"), ids=str)
def test_the_attacker_imports_nothing_else_of_ours(path):
    assert not {n for n in imported(path) if n.split(".")[0] in OURS - {"distill"}}


@pytest.mark.parametrize("path", files("defenses"), ids=str)
def test_the_provider_imports_only_shared_nouns(path):
    ours = {n for n in imported(path) if n.split(".")[0] in {"distill", "experiments"}}
    nouns = set(SHARED)
    if path.parent.name == "access":  # accounts and events, but not what a campaign does
        nouns |= {"distill.campaigns"}
    assert ours <= nouns


LEAVES = ("private", "seeds", "settings.components", "tasks")


@pytest.mark.parametrize("path", files("experiments/stages"), ids=str)
def test_a_stage_imports_only_what_its_bytes_depend_on(path):
    """Whatever it imports makes its results again when it is edited: nothing that plans, measures
    or reports.
    """
    ours = {n for n in imported(path) if n.startswith("experiments.")}
    leaves = {f"experiments.{name}" for name in LEAVES}
    rooms = ("experiments.stages", "experiments.campaigns")
    assert {n for n in ours if not n.startswith(rooms)} <= leaves


ROOMS = (
    "seeds",
    "private",
    "tracking",
    "live",
    "measure",
    "tasks",
    "campaigns",
    "settings",
    "source_code",
    "contracts",
    "stages",
    "store",
    "provenance",
    "planning",
    "launch",
    "serving",
    "results",
    "analysis",
    "preregistration",
    "claims",
    "report",
    "environment",
    "run_folder",
    "wandb_runs",
    "review",
    "api",
    "commands",
    "streams",
    "cli",
)
"""The rooms of `experiments/`: each imports only those before it."""


def test_every_room_has_its_place():
    there = {
        path.stem for path in (ROOT / "experiments").glob("[!_]*") if path.suffix in ("", ".py")
    }
    assert there - {"_configs", "__pycache__"} == set(ROOMS)


@pytest.mark.parametrize("path", files("experiments"), ids=str)
def test_no_arrow_runs_back(path):
    room = path.relative_to(ROOT / "experiments").parts[0].removesuffix(".py")
    before = ROOMS[: ROOMS.index(room)] if room in ROOMS else ROOMS
    assert rooms(path) - {room} <= set(before)


@pytest.mark.parametrize("path", files("experiments/report"), ids=str)
def test_rendering_computes_nothing_and_parses_no_settings(path):
    """What a page shows comes in the typed results, and the words of flags."""
    ours = {n for n in imported(path) if n.startswith(("experiments", "distill", "defenses"))}
    leaves = ("experiments.report", "experiments.results.schema", "experiments.measure.flag_kinds")
    assert not {name for name in ours if not name.startswith(leaves)}
    assert rooms(path) <= {"report", "results", "measure"}


@pytest.mark.parametrize("path", [p for package in sorted(OURS) for p in files(package)], ids=str)
def test_a_heavy_library_has_one_home(path):
    for name in imported(path):
        homes = HOMES.get(name.split(".")[0])
        assert homes is None or path.relative_to(ROOT).as_posix() in homes, name


def test_help_imports_no_heavy_library():
    code = (
        "import sys, experiments.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(sys.modules))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    modules = out.splitlines()[-1]
    for heavy in (
        "torch",
        "transformers",
        "accelerate",
        "peft",
        "gguf",
        "datasets",
        "wandb",
        "hydra",
        "pydantic",
        "numpy",
        "rich",
    ):
        assert f"'{heavy}'" not in modules, heavy
