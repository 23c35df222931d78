"""What no provider sees: who is behind an account, and what drives its traffic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HONEST = -1  # the campaign of an honest account
PEOPLE, STEADY, CRON = 0, 1, 2  # who sends: people by their day, a machine all day, jobs at an hour


@dataclass
class Truth:
    """What no provider sees: the customer behind an account, and what drives its traffic.

    By account: `owner`, the customer; `campaign`, its number, or `HONEST`; `rate`, exchanges a day.
    Of honest accounts alone: `preference`, the row of topic preferences; `phrase`, the share of its
    prompts that ask for reasoning or a rubric; `adopts`, the share that follows a new model;
    `zone`, hours from UTC; `first_template` and `templates`, its own prompt templates; `clock`,
    whether people send or a machine does (`PEOPLE`, `STEADY`, `CRON`); `cron`, the minute at which
    jobs start; `first_prompt` and `prompts`, the questions of its nightly test suite.
    """

    owner: np.ndarray
    campaign: np.ndarray
    rate: np.ndarray
    preference: np.ndarray
    phrase: np.ndarray
    adopts: np.ndarray
    zone: np.ndarray
    first_template: np.ndarray
    templates: np.ndarray
    clock: np.ndarray
    cron: np.ndarray
    first_prompt: np.ndarray
    prompts: np.ndarray

    @classmethod
    def empty(cls, capacity: int) -> Truth:
        """A table of so many rows; memory is touched only where rows are written.

        Args:
            capacity: rows.
        """
        return cls(
            owner=np.zeros(capacity, np.uint32),
            campaign=np.full(capacity, HONEST, np.int16),
            rate=np.zeros(capacity, np.float32),
            preference=np.zeros(capacity, np.int32),
            phrase=np.zeros(capacity, np.float32),
            adopts=np.zeros(capacity, np.float32),
            zone=np.zeros(capacity, np.int8),
            first_template=np.zeros(capacity, np.uint32),
            templates=np.zeros(capacity, np.uint16),
            clock=np.zeros(capacity, np.uint8),
            cron=np.zeros(capacity, np.uint16),
            first_prompt=np.zeros(capacity, np.uint32),
            prompts=np.zeros(capacity, np.uint16),
        )
