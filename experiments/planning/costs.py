"""Rough costs of stages on one core of the embedded default; they order the queue and are the
estimate.
"""

from __future__ import annotations

from experiments.stages.calibration import TrafficSpec
from experiments.stages.stage import Stage

SECONDS = {
    "teacher": 45.0,
    "calibration": 40.0,
    "defense": 30.0,
    "campaign": 8.0,
    "completions": 1.5,
    "student": 6.0,
    "post_training": 6.0,
    "plateau": 14.0,
    "evaluation": 1.0,
    "search": 0.1,
}


def seconds(stage: Stage) -> float:
    """About how long a stage takes; simulations grow with honest accounts and days."""
    size = 1.0
    if isinstance(stage.spec, TrafficSpec):
        size = stage.spec.honest.accounts / 30_000 * stage.spec.days / 44
    return SECONDS[stage.kind] * size
