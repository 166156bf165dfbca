"""Sharing a bounded number of workers among pools by need; pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from scalable.scaling.model import Observation, PoolView, ScaleDecision, TagInfo
from scalable.scaling.room import free_places
from scalable.spec import Limits

__all__ = ["Decision", "PoolLoad", "SharePolicy", "share"]

SETTLE_S = 3.0
"""Seconds a worker must have been of no use before another pool gets its place, if it starts faster than that."""

KEEP_S = 10.0
"""Seconds a worker must have been of no use before it leaves for good, if it starts much faster than that."""

_STARTUPS_KEPT = 3.0
_LONGEST_SETTLE_S = 300.0
_LONGEST_KEEP_S = 600.0  # idle machines are paid for, or missed by others


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """What is known of one pool at one moment.

    Attributes
    ----------
    name : str
        The pool.
    workers : int
        Those that are wanted: starting or up, not those that are leaving.
    threads : float
        Tasks that one worker runs at a time, in the mean over those that are ready.
    ready : int
        Tasks that run or could run now.
    surplus_s : float
        Seconds for which there have been more workers than tasks need.
    startup_s : float
        Seconds that a worker takes from when it is wanted until it is up, a queue's included.
    adapter : str
        Whose limit it shares with others.
    """

    name: str
    workers: int
    threads: float
    ready: int
    surplus_s: float = 0.0
    startup_s: float = 0.0
    adapter: str = ""

    @property
    def settled(self) -> bool:
        """Whether a worker of no use may give its place up: it has been for about as long as it took to get it."""
        return self.surplus_s >= max(SETTLE_S, min(self.startup_s, _LONGEST_SETTLE_S))

    @property
    def unwanted(self) -> bool:
        """Whether a worker of no use may go for good."""
        return self.surplus_s >= max(KEEP_S, min(_STARTUPS_KEPT * self.startup_s, _LONGEST_KEEP_S))

    @property
    def useful(self) -> int:
        """Workers that its tasks can use now."""
        return math.ceil(self.ready / self.threads - 1e-9)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to change: workers by pool, with a reason each; pools that stay are not named."""

    counts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


class SharePolicy:
    """Share a bounded number of workers among pools by need; what a target without ``adaptive`` does.

    Parameters
    ----------
    interval_s : float
        Seconds between two looks; default 0.5.
    """

    name = "share"
    wants_groups = False

    def __init__(self, interval_s: float = 0.5) -> None:
        self.interval_s = interval_s
        self._startup_s: dict[str, float] = {}
        self._useful_at: dict[str, float] = {}

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return what is to change, of pools that are not broken."""
        pools = {name: pool for name, pool in observation.pools.items() if not pool.broken}
        if not pools:
            return ScaleDecision(timestamp=observation.now)
        limit = observation.limit
        maximum = sum(pool.info.limit for pool in pools.values()) if limit is None else limit
        free = free_places(observation.pools.values())
        decision = share(self._loads(observation, pools, free), Limits(observation.minimum or 0, maximum), free)
        made = ScaleDecision(
            timestamp=observation.now,
            reasons=decision.reasons,
            reasoning="; ".join(f"{name}: {reason}" for name, reason in decision.reasons.items()),
        )
        for name, count in decision.counts.items():
            _change(made, pools[name], count)
        return made

    def _loads(self, observation: Observation, pools: dict[str, PoolView], free: Mapping[str, float]) -> list[PoolLoad]:
        ready = dict.fromkeys(pools, 0)
        workers_needed = dict.fromkeys(pools, 0.0)
        for name, count, slots in _demand(observation, pools, free):
            ready[name] += count
            workers_needed[name] += count / slots
        loads = []
        now = observation.now
        for name, pool in pools.items():
            threads = ready[name] / workers_needed[name] if ready[name] else float(pool.info.threads)
            if pool.startups:
                self._startup_s[name] = pool.startups[-1]
            # One that waits for longer than the last one took says more, but not by waiting while nobody needs it.
            unneeded_s = now - self._useful_at.get(name, now)
            waits = (age - unneeded_s for age in pool.start_ages)
            startup_s = max((self._startup_s.get(name, 0.0), *waits))
            load = PoolLoad(name, pool.live, threads, ready[name], startup_s=startup_s, adapter=pool.info.adapter)
            if load.workers <= load.useful:
                self._useful_at[name] = now
            loads.append(replace(load, surplus_s=now - self._useful_at.setdefault(name, now)))
        return loads


def _demand(
    observation: Observation, pools: dict[str, PoolView], free: Mapping[str, float]
) -> Iterator[tuple[str, int, int]]:
    # Tasks that take the same of a worker are one queue, whatever they are called.
    ready: defaultdict[tuple[tuple[str, ...], tuple[tuple[str, float], ...]], int] = defaultdict(int)
    infos = {}
    for tag in observation.tags.values():
        key = (tag.info.pools, tuple(sorted(tag.info.requires.items())))
        ready[key] += tag.queued + tag.running
        infos[key] = tag.info
    for key, tasks in ready.items():
        if tasks:
            yield from _spread(infos[key], tasks, pools, free)


def _spread(
    info: TagInfo, tasks: int, pools: dict[str, PoolView], free: Mapping[str, float]
) -> Iterator[tuple[str, int, int]]:
    """Divide tasks among the pools that can run them, by the workers these have.

    What is too much for those goes to the next in whose adapter there is a place, if there is none in theirs.
    """
    weights = {name: pools[name].live for name in info.pools if name in pools}
    room = {name: free[pools[name].info.adapter] > 0 for name in weights}
    enough = tasks <= sum(weight * info.slots.get(name, 1) for name, weight in weights.items())
    if not enough and not any(room[name] for name, weight in weights.items() if weight):
        roomy = [name for name in weights if room[name]] if any(weights.values()) else _first(weights, room, pools)
        weights.update(dict.fromkeys(roomy[:1], 1))
    total = sum(weights.values())
    for name, weight in weights.items():
        if weight:
            yield name, math.ceil(tasks * weight / total), info.slots.get(name, 1)


def _first(weights: Iterable[str], room: Mapping[str, bool], pools: dict[str, PoolView]) -> list[str]:
    """Return pools by where a first worker is best had: where there is a place, or an idle worker to give one up."""
    idle = {pool.info.adapter for pool in pools.values() if pool.idle}
    return sorted(weights, key=lambda name: not (room[name] or pools[name].info.adapter in idle))


def _change(made: ScaleDecision, pool: PoolView, count: int) -> None:
    name = pool.info.name
    leaving = pool.live - count
    if leaving < 0:
        made.workers_to_add[name] = -leaving
        return
    # Those who cost least to lose: not up yet, then idle, then whoever is free first.
    for counts, there in (
        (made.workers_to_cancel, pool.starting),
        (made.workers_to_remove, pool.idle),
        (made.workers_to_drain, pool.busy),
    ):
        taken = min(leaving, there)
        leaving -= taken
        if taken:
            counts[name] = taken


def share(loads: Sequence[PoolLoad], limits: Limits, free: Mapping[str, float] | None = None) -> Decision:
    """Return how many workers each pool is to have.

    A pool that has work and no worker gets one first, if need be from a pool with more
    than one; then workers that are missed are started, below the maximum, or take the
    place of workers that another pool has had no use for; workers above the minimum that
    nobody has use for leave. A worker that its pool has use for is only taken for a pool
    that has none.

    Parameters
    ----------
    loads : sequence of PoolLoad
        All pools.
    limits : Limits
        Bounds on their sum.
    free : mapping of str to float, optional
        How many more workers the pools of each adapter may have; adapters not named have no bound.
    """
    table = _Table(loads, limits, free or {})
    for load in loads:
        if load.useful and not load.workers:
            table.rescue(load)
    while table.grow():
        pass
    # What stands first is the run's own, and stays longest.
    for load in reversed(loads):
        table.shrink(load)
    table.fill()
    return table.decision()


class _Table:
    def __init__(self, loads: Sequence[PoolLoad], limits: Limits, free: Mapping[str, float]) -> None:
        self.loads = {load.name: load for load in loads}
        self.counts = {load.name: load.workers for load in loads}
        self.reasons: dict[str, str] = {}
        self.limits = limits
        self.free = {load.adapter: free.get(load.adapter, math.inf) for load in loads}

    def room(self) -> int:
        return self.limits.maximum - sum(self.counts.values())

    def has_room(self, name: str) -> bool:
        return self.room() > 0 and self.free[self.loads[name].adapter] > 0

    def donors(self, name: str) -> list[str]:
        """Return pools whose workers' places another could have: of its adapter, or of any with places of its own."""
        adapter = self.loads[name].adapter
        crowded = self.free[adapter] <= 0
        return [one for one in self.counts if one != name and not (crowded and self.loads[one].adapter != adapter)]

    def surplus(self, name: str) -> int:
        return self.counts[name] - self.loads[name].useful

    def add(self, name: str, reason: str) -> None:
        self.counts[name] += 1
        self.free[self.loads[name].adapter] -= 1
        self.reasons[name] = reason

    def take(self, name: str, receiver: str) -> None:
        self.counts[name] -= 1
        self.free[self.loads[name].adapter] += 1
        self.reasons[name] = f"a worker makes room for pool '{receiver}'"

    def rescue(self, load: PoolLoad) -> None:
        if not self.has_room(load.name):
            counts = self.counts
            donors = [
                name for name in self.donors(load.name) if counts[name] > 1 or (counts[name] and self.surplus(name) > 0)
            ]
            if not donors:
                return
            self.take(max(donors, key=lambda name: (self.surplus(name), self.counts[name])), load.name)
        self.add(load.name, f"{load.ready} tasks ready and no worker")

    def grow(self) -> bool:
        missing = {name: self.loads[name].useful - count for name, count in self.counts.items()}
        # A pool without workers that could not be rescued waits until another has one to spare.
        wanting = (one for one in missing if missing[one] > 0)
        for name in sorted(wanting, key=lambda one: -missing[one] / max(1, self.counts[one])):
            if not self.has_room(name):
                donors = [one for one in self.donors(name) if self.surplus(one) > 0 and self.loads[one].settled]
                if not donors:
                    continue
                self.take(max(donors, key=self.surplus), name)
            self.add(name, f"{self.loads[name].ready} tasks ready for {self.loads[name].workers} workers")
            return True
        return False

    def shrink(self, load: PoolLoad) -> None:
        spare = sum(self.counts.values()) - self.limits.minimum
        leaving = min(spare, self.surplus(load.name))
        if leaving > 0 and load.unwanted:
            self.counts[load.name] -= leaving
            self.free[load.adapter] += leaving
            self.reasons[load.name] = f"{leaving} workers of no use for {load.surplus_s:.0f} s"

    def fill(self) -> None:
        lacking = self.limits.minimum - sum(self.counts.values())
        if lacking > 0:
            name = max(self.counts, key=lambda one: (self.free[self.loads[one].adapter] > 0, self.loads[one].useful))
            self.counts[name] += lacking
            self.reasons[name] = f"the run has a minimum of {self.limits.minimum} workers"

    def decision(self) -> Decision:
        changed = {name: count for name, count in self.counts.items() if count != self.loads[name].workers}
        return Decision(changed, {name: self.reasons[name] for name in changed})
