"""Oracle: knows every campaign account, and stops it after the first day on which it sends
anything.

No detector that acts at the end of a day can leak less; the referee hands it the truth.
"""

from __future__ import annotations

import numpy as np

from defenses.access import AccessSettings, BaseDetector, Baseline, Day


class Settings(AccessSettings):
    """There is nothing to set."""


class Detector(BaseDetector):
    """Scores accounts that are known to be a campaign's as soon as they send anything.

    Args:
        guilty: whether an account is a campaign's `[capacity]`; what is written there later counts.
    """

    settings: Settings
    name = "oracle"
    alone = True

    def __init__(self, settings: Settings, baseline: Baseline, guilty: np.ndarray) -> None:
        super().__init__(settings, baseline)
        self.guilty = guilty

    def update(self, day: Day) -> None:
        self.score[day.active[self.guilty[day.active]]] = np.inf
