"""Tasks: one file each, and beside them what they share: the nouns, the pool, the class `Task`."""

from experiments.tasks.base import Task
from experiments.tasks.nouns import Draft, Item, Outcome, Turn, transcript
from experiments.tasks.pool import COUNTED, SHARES, SURE, Pool, Split, shuffled, split_of

__all__ = [
    "COUNTED",
    "SHARES",
    "SURE",
    "Draft",
    "Item",
    "Outcome",
    "Pool",
    "Split",
    "Task",
    "Turn",
    "shuffled",
    "split_of",
    "transcript",
]
