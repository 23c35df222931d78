"""The wheel in an empty folder, away from the checkout: configs travel with it, and the main job
runs.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.experiments.small import SHAPES

ROOT = Path(__file__).parents[1]
SMALL = [
    "name=quickstart",
    *SHAPES,
    "seeds=[0]",
    "baseline_seeds=1",
    "measure.items=20",
    "measure.selection_items=10",
    "measure.teacher_seeds=1",
    "budget=8",
]


def test_the_wheel_runs_the_quickstart_without_the_checkout(tmp_path):
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path / "dist"),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    empty = tmp_path / "empty"
    empty.mkdir()
    code = (
        "import sys, experiments.cli as c; print(c.__file__, file=sys.stderr); sys.exit(c.main())"
    )
    words = [sys.executable, "-P", "-c", code, "run", "quickstart", *SMALL]
    # Workers start anew and find the packages through the environment.
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [*words, "--json"], cwd=empty, env=env, check=True, capture_output=True, text=True
    )
    assert str(tmp_path / "site") in done.stderr
    assert {row["task"] for row in json.loads(done.stdout)} == {"addition"}
    assert (empty / "runs" / "quickstart" / "report.html").is_file()
