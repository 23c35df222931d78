"""Days written by hand, and a detector's scores on them."""

import numpy as np

from defenses.access import Day, Ledger
from distill.campaigns import Accounts, Events
from experiments.contracts.detectors import COLUMNS


def table(n, **columns):
    accounts = Accounts.empty(n)
    unique = np.arange(n, dtype=np.uint32)
    accounts.add(
        n, **{"payment": unique, "device": 1000 + unique, "network": 2000 + unique} | columns
    )
    return accounts


def events(account, day=0, **columns):
    """A day's events: rows in order of account, what is not given is zero."""
    n = len(account)
    filled = {
        name: np.broadcast_to(np.array(columns.get(name, 0), kind), n).copy()
        for name, kind in COLUMNS.items()
    }
    return Events(day, np.array(account, np.uint32), **filled)


def watch(detector, accounts, days):
    """Scores after each of some days."""
    ledger, out = Ledger.empty(accounts.capacity), []
    detector.begin(accounts)
    for traffic in days:
        day = Day(traffic, accounts, ledger)
        ledger.add(day)
        detector.update(day)
        out.append(detector.score.copy())
    return np.array(out)
