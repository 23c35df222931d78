"""Stage `calibration`: what is usual, and how high scores of clean horizons go."""

from experiments.campaigns.runs import calibrate as run

__all__ = ["VERSION", "run"]
VERSION = 1
