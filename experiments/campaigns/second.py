"""What makes a world the second provider's."""

from __future__ import annotations

import numpy as np

from distill.campaigns import SEGMENTS, Accounts, stream
from experiments.campaigns.neighbour import TOKENS, Neighbour
from experiments.campaigns.truth import HONEST, Truth
from experiments.campaigns.world import World

OWN = np.uint32(1 << 31)  # tokens of the second provider's customers alone are numbered from here
NOBODY = -1


def join(world: World, neighbour: Neighbour) -> None:
    """Make a world the second provider's: all tokens but hubs' are its own, and some customers are
    the neighbour's, with one card and address and the device of their first account.

    Args:
        world: of the second provider, before campaigns open accounts in it.
        neighbour: the first provider.
    """
    accounts, count = world.accounts, world.accounts.count
    shared_exits = np.isin(accounts.network[:count], np.concatenate(world.hubs))
    for name in TOKENS:
        column = getattr(accounts, name)
        column[:count] += np.where((name == "network") & shared_exits, np.uint32(0), OWN)
    world.tokens.next += int(OWN)
    world.neighbour = neighbour
    owner = world.truth.owner[:count]
    there_O = np.full(int(owner.max()) + 1, NOBODY)  # by customer here, its first account there
    for number, name in enumerate(SEGMENTS):
        ours = _first_accounts(accounts, world.truth, number)
        theirs = _first_accounts(neighbour.accounts, neighbour.truth, number)
        pairs = min(len(ours), len(theirs))
        luck = stream(world.seed, "both", name).random(pairs) < neighbour.overlap.both
        first, there = ours[:pairs][luck], theirs[:pairs][luck]
        there_O[owner[first]] = there
        accounts.device[first] = neighbour.accounts.device[there]
    ids = np.flatnonzero(there_O[owner] != NOBODY)
    for name in ("payment", "network"):
        getattr(accounts, name)[ids] = getattr(neighbour.accounts, name)[there_O[owner[ids]]]


def _first_accounts(accounts: Accounts, truth: Truth, segment: int) -> np.ndarray:
    """The first account of each honest customer of a segment, in order of customer."""
    count = accounts.count
    rows = np.flatnonzero(
        (accounts.segment[:count] == segment) & (truth.campaign[:count] == HONEST)
    )
    _, places = np.unique(truth.owner[rows], return_index=True)
    ids: np.ndarray = rows[places]
    return ids
