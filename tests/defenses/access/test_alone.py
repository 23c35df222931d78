"""What a detector that looks at linked accounts alone makes of a part of the accounts: the same."""

import importlib
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import defenses.access
from defenses.access import BaseDetector, encoder
from defenses.access.provider import OpenAccess
from defenses.access.share_list import ShareList
from distill.campaigns import NEVER, Accounts
from distill.campaigns.presets import preset
from experiments.campaigns.simulate import simulate
from experiments.settings.catalog import shipped
from experiments.settings.components import load_module
from experiments.settings.entries import resolve
from tests.defenses.access.days import watch
from tests.defenses.access.horizons import HONEST

DAYS, RELEASE = 12, 4
COLUMNS = ("segment", "plan", "created", "payment", "device", "network", "verified", "closed")
# What is set lower than shipped, so that these few days say something of many accounts.
CHANGED = {
    "pivot": f"pivot(release={RELEASE})",
    "mmd": "mmd(window=50)",
    "prada": "prada(window=20)",
    "seat": "seat(window=20)",
}
ALONE = {name: load_module("detector", name).Detector.alone for name in shipped("detector")}


class Diary(OpenAccess):
    """Keeps what it is shown."""

    def begin(self, accounts, days, identify):
        self.accounts, self.days = accounts, []

    def serve(self, events):
        self.days.append(events)
        return super().serve(events)


class Zeros:
    """In the place of a generator: no noise."""

    def standard_normal(self, shape):
        return np.zeros(shape)


class Still(encoder.Encoder):
    """An encoder without the noise of its prompts, which is drawn for many accounts at once."""

    def embed(self, topic, template, rng):
        return super().embed(topic, template, Zeros())


@pytest.fixture(scope="module")
def seen():
    """Honest accounts and a campaign that does all that detectors look for, linked and not."""
    loud = preset(
        "deepseek_2026",
        days=DAYS,
        exchanges=60_000,
        per_payment=4,
        per_network=1,
        pivot=0.5,
        addresses=9,
        probes=30,
        probe_set=5,
        probe_accounts=3,
    )
    diary = Diary()
    simulate(HONEST, [loud], diary, days=DAYS, seed=70, release=RELEASE)
    return diary


@pytest.fixture(scope="module")
def half(seen):
    """Every other group of accounts that share any token or an exact prompt, hubs included."""
    accounts, n = seen.accounts, seen.accounts.count
    pairs = [(np.arange(n), getattr(accounts, name)[:n]) for name in ("payment", "network")]
    account, prompt = (
        np.concatenate([getattr(day, name) for day in seen.days]) for name in ("account", "prompt")
    )
    pairs.append((account[prompt > 0].astype(int), prompt[prompt > 0]))
    left, right, nodes = [], [], n
    for holder, token in pairs:
        kinds, which = np.unique(token, return_inverse=True)
        left.append(holder)
        right.append(nodes + which)
        nodes += len(kinds)
    a, b = np.concatenate(left), np.concatenate(right)
    graph = coo_array((np.ones(len(a), bool), (a, b)), shape=(nodes, nodes))
    group = connected_components(graph, directed=False)[1][:n]
    rows = np.flatnonzero(group % 2 == 0)
    assert n / 3 < len(rows) < 2 * n / 3 and 20 < (rows >= HONEST.accounts).sum() < 80
    return rows


def part(seen, rows):
    """The accounts at these rows and their events, numbered from 0: a world of their own."""
    table = Accounts.empty(len(rows))
    table.add(len(rows), **{name: getattr(seen.accounts, name)[rows] for name in COLUMNS})
    number = np.full(seen.accounts.count, -1)
    number[rows] = np.arange(len(rows))
    days = []
    for events in seen.days:
        some = events.take(number[events.account] >= 0)
        some.account = number[some.account].astype(np.uint32)
        days.append(some)
    return table, days


def scores(name, baseline, accounts, days, listed):
    detector = resolve("detector", CHANGED.get(name, name)).build(baseline)
    if hasattr(detector, "encoder"):
        detector.encoder = Still()
    detector.receive(ShareList.of(accounts, listed))
    return watch(detector, accounts, days)


def both(name, baseline, seen, rows):
    """Scores of some accounts after each day, as part of all and alone; the same ones are named by
    another provider.
    """
    n = seen.accounts.count
    listed = np.where(np.arange(n) % 7 == 0, 2, NEVER)
    whole = scores(name, baseline, seen.accounts, seen.days, listed)[:, rows]
    return whole, scores(name, baseline, *part(seen, rows), listed[rows])


@pytest.mark.parametrize("name", [name for name, alone in ALONE.items() if alone])
def test_alone_it_finds_the_same_of_a_part_of_the_accounts(name, baseline, seen, half):
    whole, apart = both(name, baseline, seen, half)
    # Matrix products of blocks of other sizes round otherwise.
    close = {"rtol": 1e-4, "atol": 1e-3} if name == "mmd" else {"rtol": 0}
    np.testing.assert_allclose(apart, whole, **close)
    assert len(np.unique(whole[np.isfinite(whole)])) > 20, "it says something of many accounts"


@pytest.mark.parametrize("name", [name for name, alone in ALONE.items() if not alone])
def test_what_compares_accounts_finds_something_else(name, baseline, seen, half):
    whole, apart = both(name, baseline, seen, half)
    assert not np.allclose(apart, whole)


@pytest.mark.parametrize("name", ["rhythm", "homogeneity", "repeats"])
def test_a_cut_through_what_is_linked_is_seen(name, baseline, seen, half):
    """The test above would see a detector that looks at more than is linked."""
    rows = np.flatnonzero(np.arange(seen.accounts.count) % 2 == 0)
    whole, apart = both(name, baseline, seen, rows)
    assert not np.allclose(apart, whole)


def test_every_detector_says_whether_it_is_alone():
    folder, kinds = Path(defenses.access.__file__).parent, {}
    for path in sorted(folder.glob("*.py")):
        module = importlib.import_module(f"defenses.access.{path.stem}")
        kind = getattr(module, "Detector", None)
        if isinstance(kind, type) and issubclass(kind, BaseDetector):
            kinds[path.stem] = kind
    assert set(ALONE) < set(kinds) and {"oracle", "spawn", "fusion"} < set(kinds)
    assert all("alone" in vars(kind) for kind in kinds.values())
    assert not BaseDetector.alone, "who says nothing is taken to compare"
    assert {name for name, kind in kinds.items() if not kind.alone} == {
        "cotiming",
        "fusion",
        "shared",
        "spawn",
        "templates",
    }


def test_the_page_lists_them():
    page = (Path(__file__).parents[3] / "docs" / "campaigns.md").read_text()
    (line,) = re.findall(r"^- A detector may look in shards.*?refused\.$", page, re.M | re.S)
    alone, others = (re.findall(r"`(\w+)`", half) for half in line.split("`alone = True`"))
    assert set(alone) == {name for name in ALONE if ALONE[name]}
    assert set(others) == {name for name in ALONE if not ALONE[name]}
