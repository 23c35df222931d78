"""The referee: exams, configs, plan, measurement, report and tracking.

For notebooks and scripts: `from experiments import load_study, plan, read_results, run,
use_plugins`; see docs/api.md. Nothing is imported before one of these names is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.api import load_study, plan, read_results, run, use_plugins

__all__ = ["load_study", "plan", "read_results", "run", "use_plugins"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'experiments' has no attribute {name!r}")
    # By name: a stage imports this package, and its results are not a matter of this API's code.
    return getattr(importlib.import_module("experiments.api"), name)
