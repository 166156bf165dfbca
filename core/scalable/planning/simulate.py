"""What a number of workers for each pool would make of a workload: time and cost, in many worlds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scalable.errors import PlanError
from scalable.planning.bag import HEAP_TASKS, Draws, Outcome, schedule, schedule_released
from scalable.planning.workload import PoolModel, TaskGroup, Workload

__all__ = ["Simulator", "Worlds"]

Floats = NDArray[np.float64]

_ELEMENTS: Final = 60_000
_FEWEST: Final = 12
_MOST: Final = 100
_TASKS_THAT_COUNT: Final = 400
_REPRESENTATIVES: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Worlds:
    """What would come of one choice of counts, world by world.

    Attributes
    ----------
    time_s : array of float
        Seconds until all is done.
    cost : array of float
        What is paid, in the unit of the pools' prices.
    worker_s : mapping of str to array of float
        Seconds of workers that are paid for, by pool.
    peak : int
        Workers of all pools at the same time, at the most.
    """

    time_s: Floats
    cost: Floats
    worker_s: Mapping[str, Floats]
    peak: int


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """The workers of one pool after some groups; times count from when the first was asked for."""

    free: Floats
    paid_from: Floats
    live: NDArray[np.bool_]
    paid_s: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Step:
    """One group on its pool; times count from when the pool's first worker was asked for."""

    key: Any
    state: _State
    end: Floats
    finishes: Floats
    bill: Floats


class Simulator:
    """Try counts of workers on a workload.

    A group's tasks start when those that they wait for are done, each on the slot that is
    free first, in the groups' order where several share a pool. A pool's workers are asked
    for when its first task can start, are paid for from when they have waited, and leave
    when there is no more work for them; one whose next work is less than a start-up away
    stays. What was done for one pool is kept, because it seldom depends on the others.

    Parameters
    ----------
    workload : Workload
        What is to run.
    pools : iterable of PoolModel
        What workers there are.
    worlds : int, optional
        In how many worlds; default is 12 to 100, the more the fewer tasks there are.
    seed : int
        Which worlds.

    Raises
    ------
    PlanError
        If a group's pool is not there, or nobody knows how long its tasks take.
    """

    def __init__(
        self, workload: Workload, pools: Iterable[PoolModel], *, worlds: int | None = None, seed: int = 0
    ) -> None:
        self.workload = workload
        by_name = {pool.name: pool for pool in pools}
        self._by_pool = workload.by_pool
        for group in workload.groups:
            if group.pool not in by_name:
                raise PlanError(f"tasks '{group.name}' run on pool '{group.pool}', which is not there")
            if not group.durations_s or min(group.durations_s) < 0:
                raise PlanError(f"tasks '{group.name}': it is not known how long they take")
        self.pools = {name: by_name[name] for name in self._by_pool}
        size = sum(min(group.count, _TASKS_THAT_COUNT) for group in workload.groups)
        self.worlds = worlds or int(np.clip(_ELEMENTS // max(size, 1), _FEWEST, _MOST))
        self._draws = {
            group.name: Draws(group.durations_s, self.worlds, (seed, 11, number))
            for number, group in enumerate(workload.groups)
        }
        self._waits = {
            name: Draws(pool.wait_s, self.worlds, (seed, 12, number))
            for number, (name, pool) in enumerate(self.pools.items())
        }
        self._boots = {
            name: Draws(pool.boot_s, self.worlds, (seed, 13, number))
            for number, (name, pool) in enumerate(self.pools.items())
        }
        self._slots = {name: max(group.slots for group in groups) for name, groups in self._by_pool.items()}
        self._groups = {group.name: group for group in workload.groups}
        self._kept: dict[Any, _Step] = {}

    @property
    def effort(self) -> int:
        """Tasks that a run has to take one by one, in all worlds together."""
        return self.worlds * sum(min(group.count, HEAP_TASKS) for group in self.workload.groups if group.each)

    def most(self, pool: str) -> int:
        """Return how many workers of a pool could have work at the same time."""
        groups = self._by_pool[pool]
        return max(1, min(self.pools[pool].limit, sum(-(-group.count // group.slots) for group in groups)))

    def run(self, counts: Mapping[str, int]) -> Worlds:
        """Return what would come of so many workers in each pool.

        Parameters
        ----------
        counts : mapping of str to int
            Workers by pool, at least one each.
        """
        steps: dict[str, _Step] = {}
        anchors: dict[str, Floats] = {}
        ends: dict[str, Floats] = {}
        latest: dict[str, str] = {}
        for group in self.workload.groups:
            release = self._release(group, ends)
            coming = self._coming(group, steps, anchors)
            if coming is not None:
                coming = np.maximum(coming, release[:, None])
                release = coming.min(axis=1)
            anchor = anchors.setdefault(group.pool, release)
            coming = None if coming is None else coming - anchor[:, None]
            before = steps[latest[group.pool]] if group.pool in latest else None
            step = self._step(group, counts[group.pool], before, release - anchor, coming)
            steps[group.name], latest[group.pool] = step, group.name
            ends[group.name] = step.end + anchor
        worker_s = {pool: steps[name].bill for pool, name in latest.items()}
        cost = np.zeros(self.worlds)
        for name, seconds in worker_s.items():
            cost += self.pools[name].price_per_s * seconds
        return Worlds(np.maximum.reduce(list(ends.values())), cost, worker_s, self._peak(counts, anchors, ends))

    def _release(self, group: TaskGroup, ends: Mapping[str, Floats]) -> Floats:
        """Return when the first tasks of a group can start at the earliest."""
        release = np.zeros(self.worlds)
        for name in group.after:
            release = np.maximum(release, ends[name])
        return release

    def _coming(self, group: TaskGroup, steps: Mapping[str, _Step], anchors: Mapping[str, Floats]) -> Floats | None:
        """Return when tasks of a group come that wait for others one by one; ``None`` if all come at once."""
        come: Floats | None = None
        for name in group.each:
            finishes = steps[name].finishes + anchors[self._groups[name].pool][:, None]
            width = min(group.count, finishes.shape[1])
            # Tasks have no order in which they end, so any share of them does.
            shares = np.array_split(finishes, width, axis=1)
            ended = np.stack([share.max(axis=1) for share in shares], axis=1)
            if come is not None:
                ended, come = _alike(ended, come)
                ended = np.maximum(np.sort(ended, axis=1), np.sort(come, axis=1))
            come = ended
        return come

    def _step(
        self, group: TaskGroup, count: int, before: _Step | None, release: Floats, coming: Floats | None
    ) -> _Step:
        first = before is None and coming is None
        key = (
            group.name,
            count,
            None if before is None else before.key,
            None if first else release.tobytes(),
            None if coming is None else coming.tobytes(),
        )
        if key not in self._kept:
            self._kept[key] = self._simulated(group, count, before, release=release, coming=coming, key=key)
        return self._kept[key]

    def _simulated(
        self, group: TaskGroup, count: int, before: _Step | None, *, release: Floats, coming: Floats | None, key: Any
    ) -> _Step:
        pool, slots = self.pools[group.pool], self._slots[group.pool]
        # Of very many workers some stand for all.
        workers = min(count, _REPRESENTATIVES)
        alike = count / workers
        tasks = math.ceil(group.count / alike - 1e-9)
        state = self._asked(pool, workers, slots, before, release)
        shared = slots // group.slots
        width = group.slots * shared
        # A task that takes several slots of a worker waits for the last of them.
        begin = (
            np.sort(state.free, axis=2)[:, :, :width].reshape(self.worlds, workers * group.slots, shared).max(axis=2)
        )
        draws = self._draws[group.name]
        outcome: Outcome = (
            schedule(begin, tasks, draws, alike) if coming is None else schedule_released(begin, coming, tasks, draws)
        )
        free = np.repeat(outcome.free.reshape(self.worlds, workers, group.slots), shared, axis=2)
        if width < slots:
            rest = np.sort(state.free, axis=2)[:, :, width:]
            free = np.concatenate([free, rest], axis=2)
        used = outcome.used.reshape(self.worlds, workers, group.slots).any(axis=2)
        # Who is still waiting when nothing is left to do is told not to come.
        live = used | (state.paid_from < outcome.empty[:, None]) | (before is not None and state.live)
        after = _State(free, state.paid_from, live, state.paid_s)
        bill = alike * (after.paid_s + _bill(after, pool).sum(axis=1))
        return _Step(key, after, outcome.end, outcome.finishes, bill)

    def _asked(self, pool: PoolModel, count: int, slots: int, before: _Step | None, release: Floats) -> _State:
        """Return a pool's workers when a group comes: those that stayed, and new ones for those that did not."""
        waits = self._waits[pool.name].first(count)
        boots = self._boots[pool.name].first(count)
        paid_from = release[:, None] + waits
        ready = paid_from + boots
        if before is None:
            fresh = np.repeat(ready[:, :, None], slots, axis=2)
            return _State(fresh, paid_from, np.zeros((self.worlds, count), dtype=np.bool_), np.zeros(self.worlds))
        state = before.state
        stays = state.live & (release[:, None] - state.free.max(axis=2) <= waits + boots)
        free = np.where(stays[:, :, None], np.maximum(state.free, release[:, None, None]), ready[:, :, None])
        gone = np.where(stays, 0.0, _bill(state, pool)).sum(axis=1)
        return _State(free, np.where(stays, state.paid_from, paid_from), stays, state.paid_s + gone)

    def _peak(self, counts: Mapping[str, int], anchors: Mapping[str, Floats], ends: Mapping[str, Floats]) -> int:
        if len(anchors) == 1:
            return next(iter(counts[name] for name in anchors))
        begins = np.array(list(anchors.values()))
        over = np.array([_latest([ends[group.name] for group in self._by_pool[name]]) for name in anchors])
        size = np.array([counts[name] for name in anchors])
        # The most are there when some pool has just begun.
        there = (begins[None, :, :] <= begins[:, None, :]) & (over[None, :, :] > begins[:, None, :])
        return int((there * size[None, :, None]).sum(axis=1).max())


def _latest(ends: Sequence[Floats]) -> Floats:
    return ends[0] if len(ends) == 1 else np.maximum.reduce(ends)


def _bill(state: _State, pool: PoolModel) -> Floats:
    """Return the seconds for which each worker is paid, if all leave now."""
    spent = np.maximum(state.free.max(axis=2) - state.paid_from, pool.min_bill_s)
    return np.where(state.live, spent, 0.0)


def _alike(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Return two samples with as many values each as the smaller one has."""
    width = min(one.shape[1], other.shape[1])

    def cut(values: Floats) -> Floats:
        ordered: Sequence[int] = np.linspace(0, values.shape[1] - 1, width).astype(np.intp).tolist()
        return np.sort(values, axis=1)[:, ordered]

    return cut(one), cut(other)
