"""What one observation means, with what was learned: the pools and kinds of tasks of one tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from scalable.scaling.model import Observation, PoolView, TagView
from scalable.scaling.predictive.flow import Flow
from scalable.scaling.predictive.forecast import Capacity, Startups
from scalable.scaling.predictive.keep import Levels
from scalable.scaling.predictive.ledger import Ledger
from scalable.scaling.predictive.recur import Onsets
from scalable.scaling.predictive.work import Durations, sampled

__all__ = ["Memory", "PoolOutlook", "TagOutlook", "Tick", "cheapest", "look"]

_Array = NDArray[np.float64]


@dataclass(slots=True)
class Memory:
    """All that the policy remembers from tick to tick; it grows with pools and kinds only."""

    durations: dict[str, Durations] = field(default_factory=dict)
    startups: dict[str, Startups] = field(default_factory=dict)
    levels: dict[str, Levels] = field(default_factory=dict)
    onsets: dict[str, Onsets] = field(default_factory=dict)
    flows: dict[str, Flow] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    hesitant: set[str] = field(default_factory=set)
    calm_after: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class PoolOutlook:
    """One pool during one tick.

    Attributes
    ----------
    capacity : Capacity
        When its workers come free.
    soonest_s : array
        Seconds until each starting worker is up at the soonest.
    taken : float
        Workers that have tasks, or will find one as soon as they look.
    drained_s : float
        Seconds until nothing is queued that it could run.
    wanted : float
        Workers that keep being needed, by what flows in.
    spare : float
        Workers above these that stay, so that the number does not flutter.
    add : int
        Workers to add.
    useless : int
        Starting workers that come when nothing is queued any more.
    pressed : bool
        Whether its idle workers hold a place that others need.
    reasons : list of str
        Why.
    """

    view: PoolView
    startups: Startups
    levels: Levels
    capacity: Capacity = field(default_factory=Capacity)
    soonest_s: _Array = field(default_factory=lambda: np.zeros(0))
    taken: float = 0.0
    drained_s: float = 0.0
    wanted: float = 0.0
    spare: float = 0.0
    add: int = 0
    useless: int = 0
    pressed: bool = False
    reasons: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The pool."""
        return self.view.info.name

    @property
    def room(self) -> int:
        """Workers that may be added yet."""
        if self.view.broken:
            return 0
        return max(0, self.view.info.limit - self.view.live - self.view.draining - self.add)

    @property
    def boot_usd(self) -> float:
        """US dollars that a start costs at the least; 0 if nothing is paid."""
        info = self.view.info
        return (info.usd_per_s or 0.0) * max(self.startups.boot_s, info.min_bill_s)

    @property
    def boot_price(self) -> float:
        """What a start costs, in the unit of the pool's price."""
        return self.view.info.price_per_s * self.startups.boot_s


@dataclass(slots=True)
class TagOutlook:
    """One kind of tasks during one tick.

    Attributes
    ----------
    pools, cheap : list of str
        Those that can run it, as they are meant for it, and the cheapest first.
    work_s : float
        Seconds of the queued tasks together.
    running : dict of str to float
        Tasks that run, by pool.
    left_s : float
        Seconds until the last of these ends.
    drained_s : float
        Seconds until the last queued task starts.
    present : Capacity
        When the workers that can run it come free.
    later : set of str
        The kind and all that wait for it.
    due : float
        Blocked tasks whose turn comes within a start-up.
    """

    view: TagView
    durations: Durations
    pools: list[str]
    cheap: list[str] = field(default_factory=list)
    work_s: float = 0.0
    running: dict[str, float] = field(default_factory=dict)
    left_s: float = 0.0
    drained_s: float = 0.0
    present: Capacity = field(default_factory=Capacity)
    later: set[str] = field(default_factory=set)
    due: float = 0.0

    @property
    def name(self) -> str:
        """The kind."""
        return self.view.info.name

    def slots(self, pool: str) -> int:
        """Return how many of them one worker of a pool runs at a time."""
        return max(1, self.view.info.slots.get(pool, 1))

    @property
    def finish_s(self) -> float:
        """Seconds until those that are not blocked are done."""
        if self.view.queued:
            return max(self.left_s, self.drained_s + self.durations.longest())
        return self.left_s


@dataclass(slots=True)
class Tick:
    """All of one tick.

    Attributes
    ----------
    ahead : float
        What the tasks that run or wait now will cost, in the unit of the pools' prices.
    committed_usd : float
        US dollars that these take, and starting workers.
    there : int
        Workers of all pools, with those to be added.
    """

    seen: Observation
    pools: dict[str, PoolOutlook]
    tags: dict[str, TagOutlook]
    memory: Memory
    alpha: float
    ahead: float = 0.0
    committed_usd: float = 0.0
    there: int = 0

    @property
    def room(self) -> int:
        """Workers that the run may have more, of all pools together."""
        if self.seen.limit is None:
            return sum(pool.room for pool in self.pools.values())
        return max(0, self.seen.limit - self.there)

    def add(self, pool: PoolOutlook, count: int) -> None:
        """Add workers to a pool."""
        pool.add += count
        self.there += count
        self.committed_usd += count * pool.boot_usd

    def affordable(self, pool: PoolOutlook, task_s: float = 0.0) -> int:
        """Return how many workers more there is room and money for, if each takes a task of some seconds."""
        usd, budget = pool.view.info.usd_per_s, self.seen.budget_usd
        each = pool.boot_usd + task_s * (usd or 0.0)
        if budget is None or not usd or not each:
            return pool.room
        return int(min(pool.room, max(0.0, (budget - self.committed_usd) / each)))


def look(seen: Observation, memory: Memory, alpha: float) -> Tick:
    """Learn from an observation, and return what it means."""
    tick = Tick(seen, {}, {}, memory, alpha)
    for name, pool in seen.pools.items():
        if name not in memory.startups:
            memory.startups[name] = Startups(pool.info)
            memory.levels[name], memory.onsets[name] = Levels(), Onsets()
        memory.startups[name].learn(pool)
        tick.pools[name] = PoolOutlook(pool, memory.startups[name], memory.levels[name])
        tick.there += pool.live + pool.draining
    for name, tag in seen.tags.items():
        tick.tags[name] = _tag(tag, tick)
    _relate(tick)
    memory.ledger.see(seen)
    tick.ahead = sum(_price(tag, tick.pools) for tag in tick.tags.values())
    tick.committed_usd = sum(_work_usd(tag, tick.pools) for tag in tick.tags.values())
    tick.committed_usd += sum(pool.boot_usd * pool.view.starting for pool in tick.pools.values())
    return tick


def _relate(tick: Tick) -> None:
    """Say what runs on each pool, and which kinds wait for which."""
    running: dict[str, list[TagOutlook]] = {name: [] for name in tick.pools}
    children: dict[str, list[str]] = {}
    for tag in tick.tags.values():
        for pool, workers in tag.running.items():
            if workers:
                running[pool].append(tag)
        for parent in tag.view.info.parents:
            children.setdefault(parent, []).append(tag.name)
    for name, outlook in tick.pools.items():
        outlook.capacity = _capacity(outlook, running[name])
    for tag in tick.tags.values():
        tag.later = _later(tag.name, children)
        tag.due = _due(tag, tick)


def _tag(view: TagView, tick: Tick) -> TagOutlook:
    known = tick.memory.durations
    if view.info.name not in known:
        known[view.info.name] = Durations(view.info)
    durations = known[view.info.name]
    durations.learn(view)
    tag = TagOutlook(view, durations, [name for name in view.info.pools if name in tick.pools])
    tag.work_s = durations.work(view.queued, view.queued_sizes)
    left = float(view.running)
    # The cheapest are taken to have them, so that the dearer are the first to have nothing to do.
    tag.cheap = sorted(tag.pools, key=lambda one: tick.pools[one].view.info.price_per_s / tag.slots(one))
    for name in tag.cheap:
        if not left:
            break
        pool = tick.pools[name]
        here = min(left, max(0.0, pool.view.busy - pool.taken) * tag.slots(name))
        tag.running[name] = here
        pool.taken += here / tag.slots(name)
        left -= here
    return tag


def _capacity(pool: PoolOutlook, tags: list[TagOutlook]) -> Capacity:
    parts = []
    for tag in tags:
        some, _ = sampled(tag.view)
        if some:
            workers = tag.running[pool.name] / tag.slots(pool.name)
            left = tag.durations.residual(some)
            tag.left_s = float(left.max())
            parts.append(Capacity(left, np.full(len(some), workers / len(some))))
    free = pool.view.idle + pool.view.busy - sum(part.total for part in parts)
    if free > 0:
        parts.append(Capacity(np.zeros(1), np.array([free])))
    if pool.view.starting:
        ages = np.array(pool.view.start_ages or [0.0] * pool.view.starting)
        expected, pool.soonest_s = pool.startups.left(ages)
        parts.append(Capacity(expected, np.ones(len(ages))))
    return Capacity.joined(parts)


def _later(name: str, children: Mapping[str, Sequence[str]]) -> set[str]:
    found, new = {name}, [name]
    while new:
        for child in children.get(new.pop(), ()):
            if child not in found:
                found.add(child)
                new.append(child)
    return found


def _due(tag: TagOutlook, tick: Tick) -> float:
    """Return how many blocked tasks come to their turn within a start-up.

    Blocked tasks are taken to be spread evenly over their parents.
    """
    parents = [tick.tags[name] for name in tag.view.info.parents if name in tick.tags and name != tag.name]
    undone = sum(one.view.queued + one.view.running + one.view.blocked for one in parents)
    if not tag.view.blocked or not undone or not tag.pools:
        return 0.0
    horizon = min(tick.pools[name].startups.mean_s for name in tag.pools)
    ending = 0.0
    for one in parents:
        some, weight = sampled(one.view)
        if some:
            ending += weight * float(one.durations.ending(some, horizon).sum())
    return min(1.0, ending / undone) * tag.view.blocked


def cheapest(tag: TagOutlook, pools: Mapping[str, PoolOutlook]) -> float:
    """Return the lowest price of a second of a task."""
    return min((pools[name].view.info.price_per_s / tag.slots(name) for name in tag.pools), default=0.0)


def _price(tag: TagOutlook, pools: Mapping[str, PoolOutlook]) -> float:
    return cheapest(tag, pools) * (tag.work_s + tag.view.running * tag.durations.mean_s / 2)


def _work_usd(tag: TagOutlook, pools: Mapping[str, PoolOutlook]) -> float:
    there = [pools[name] for name in tag.pools if pools[name].view.live]
    usd = min(((pool.view.info.usd_per_s or 0.0) / tag.slots(pool.name) for pool in there), default=0.0)
    return usd * (tag.work_s + tag.view.running * tag.durations.mean_s / 2)
