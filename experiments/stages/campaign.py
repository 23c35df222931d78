"""Stage `campaign`: one campaign beside honest customers, against one access."""

from experiments.campaigns.runs import run

__all__ = ["VERSION", "run"]
VERSION = 1
