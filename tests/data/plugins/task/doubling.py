"""Doubling a number: `812*2=` is `812+812=1624 # 1624`."""

from pydantic import BaseModel, ConfigDict, Field

from experiments import tasks
from experiments.tasks import Draft
from experiments.tasks.graders import exact


class Settings(BaseModel):
    """`largest`: the largest number that is doubled."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    largest: int = Field(20_000, ge=1000, le=1_000_000)


class Task(tasks.Task):
    """Every number from 0 to the largest."""

    name = "doubling"
    grader = exact.Grader(form="0|[1-9][0-9]*")
    alphabet = "0123456789+*=# "

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.size = settings.largest + 1

    def draft(self, index: int) -> Draft:
        return Draft(str(index), f"{index}*2=", f"{index}+{index}={2 * index}", str(2 * index))
