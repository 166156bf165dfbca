"""Places and money divided among the workers that are to come; pure, and used by the guard alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from scalable.scaling.changes import Change
from scalable.scaling.model import Observation
from scalable.scaling.room import free_places

__all__ = ["HORIZON_S", "Cap", "grant"]

HORIZON_S = 300.0
"""Seconds for which workers are taken to run on when a budget is looked at."""

Cap = tuple[int, str]
"""How many workers a pool may gain, and why not more."""


def grant(observation: Observation, changes: Sequence[Change], caps: Sequence[Cap]) -> None:
    """Set how many workers come: what is missing of a minimum first, then where there is none, then the rest.

    Parameters
    ----------
    observation : Observation
        Bounds on all pools together and on those of each adapter, and the budget.
    changes : sequence of Change
        Each with as many as the policy wants; afterwards with as many as it gets.
    caps : sequence of tuple
        For each what its pool may gain.
    """
    _Grant(observation, changes, caps).run()
    if sum(change.left + change.add for change in changes) < (observation.minimum or 0):
        # Those whose places were to be filled elsewhere do not leave before they can be.
        for change in changes:
            change.keep(change.leaving - change.expired, "nobody else can come")
        _Grant(observation, changes, caps).run()


class _Grant:
    def __init__(self, observation: Observation, changes: Sequence[Change], caps: Sequence[Cap]) -> None:
        self.minimum = observation.minimum or 0
        self.limit = math.inf if observation.limit is None else observation.limit
        self.money = math.inf if observation.budget_usd is None else observation.budget_usd
        self.changes = [_Wish(change, cap, self.money) for change, cap in zip(changes, caps, strict=True)]
        self.places = free_places(change.pool for change in changes)
        for wish in self.changes:
            self.places[wish.adapter] += wish.change.leaving
        if self.money < math.inf:
            self.money -= sum(
                (change.pool.live + change.pool.draining) * (change.pool.info.usd_per_s or 0.0) * HORIZON_S
                for change in changes
            )
        # Where tasks are in line a worker that is only there to be there is of most use.
        self.useful = sorted(
            self.changes,
            key=lambda wish: all(
                not tag.queued or wish.name not in tag.info.pools for tag in observation.tags.values()
            ),
        )

    def run(self) -> None:
        left = sum(wish.change.left for wish in self.changes)
        room = self.limit - left
        unasked = dict(self.places)
        for wish in self.changes:
            unasked[wish.adapter] -= wish.wanted
        # What finds no place in its adapter does not come.
        beyond = sum(max(0, min(-free, self._wanted(adapter))) for adapter, free in unasked.items())
        lacking = self.minimum - left - sum(wish.wanted for wish in self.changes) + int(beyond)
        for wish in self.useful:
            more = wish.widen(min(lacking, unasked[wish.adapter]))
            lacking -= more
            unasked[wish.adapter] -= more
        for portion in (_Wish.missing, _Wish.first, _Wish.all):
            for wish in self.changes:
                free = min(room, self.places[wish.adapter])
                given, price = wish.give(min(portion(wish), free + wish.given), self.money)
                room -= given
                self.places[wish.adapter] -= given
                self.money -= price
        for wish in self.changes:
            wish.settle()

    def _wanted(self, adapter: str) -> int:
        return sum(wish.wanted for wish in self.changes if wish.adapter == adapter)


class _Wish:
    """How many a pool wants, may have, and gets."""

    def __init__(self, change: Change, cap: Cap, money: float) -> None:
        info = change.pool.info
        self.change, self.size, self.name = change, info.group_size, info.name
        self.adapter = info.adapter
        self.most, self.why = self._floor(cap[0]), cap[1]
        if money <= 0 and info.usd_per_s != 0:
            self.most, self.why = 0, "nothing is left of the budget"
        self.price = (info.usd_per_s or 0.0) * max(HORIZON_S, info.min_bill_s)
        self.lack = self._ceil(info.minimum - change.pool.live)
        self.asked = max(self._ceil(change.add), self.lack)
        self.wanted = min(self.asked, self.most)
        self.given = 0

    def _floor(self, count: float) -> int:
        return max(0, int(count) // self.size * self.size)

    def _ceil(self, count: int) -> int:
        return max(0, -(-count // self.size) * self.size)

    def missing(self) -> int:
        return min(self.wanted, self.lack)

    def first(self) -> int:
        return max(self.missing(), min(self.wanted, 0 if self.change.pool.live else self.size))

    def all(self) -> int:
        return self.wanted

    def widen(self, lacking: float) -> int:
        """Want more for the minimum of all pools; return how many."""
        before = self.wanted
        if lacking > 0:
            self.wanted = min(self.most, self._ceil(before + int(lacking)))
            self.asked = max(self.asked, self.wanted)
        return self.wanted - before

    def give(self, count: float, money: float) -> tuple[int, float]:
        """Give up to so many, in whole groups and as long as the money lasts; return how many and what they cost."""
        more = min(count - self.given, money / self.price if self.price else math.inf)
        given = self._floor(more)
        self.given += given
        return given, given * self.price

    def settle(self) -> None:
        wanted, self.change.add = self.change.add, self.given
        if self.given > wanted:
            self.change.notes.append(f"{self.given} come instead of {wanted}: whole groups, or a minimum")
        elif self.given < self.asked:
            why = self.why if self.wanted < self.asked else "no more places or money are left"
            self.change.notes.append(f"{self.given} of {self.asked} come: {why}")
