"""Worlds to plan in: six kinds, with a past that planners see and a truth that they do not."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scalable.planning import PoolModel, TaskGroup, Workload

__all__ = ["CASES", "KINDS", "SEEDS", "Table", "World", "worlds"]

SEEDS = 3
CASES = 5
TRUTHS = 5
_PAST = 100
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """One workload as a planner sees it, with what may really happen, several times over."""

    kind: str
    workload: Workload
    pools: tuple[PoolModel, ...]
    takes: Mapping[str, Floats]
    waits: Mapping[str, Floats]
    boots: Mapping[str, Floats]


class Table:
    """What each number of workers of each pool really comes to, by a heap, task by task.

    Each pool serves one group, and a group waits for all of another: so pools can be looked
    at one by one, and any combination be added up. Times and costs have one row a truth.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.names = [group.pool for group in world.workload.groups]
        self.takes: dict[str, Floats] = {}
        self.costs: dict[str, Floats] = {}
        for group in world.workload.groups:
            pool = next(one for one in world.pools if one.name == group.pool)
            found = np.array(
                [
                    [self._one(pool, group, truth, n) for n in range(1, min(pool.limit, group.count) + 1)]
                    for truth in range(TRUTHS)
                ]
            )
            self.takes[pool.name], self.costs[pool.name] = found[:, :, 0], found[:, :, 1]

    def everything(self) -> tuple[Floats, Floats]:
        """Return seconds and money, truths by choices, of every choice there is."""
        ends: dict[str, Floats] = {}
        cost = np.zeros([TRUTHS] + [1] * len(self.names))
        for place, group in enumerate(self.world.workload.groups):
            shape = [TRUTHS, *(-1 if place == other else 1 for other in range(len(self.names)))]
            begin = np.zeros([TRUTHS] + [1] * len(self.names))
            for name in group.after:
                begin = np.maximum(begin, ends[name])
            ends[group.name] = begin + self.takes[group.pool].reshape(shape)
            cost = cost + self.costs[group.pool].reshape(shape)
        time = np.zeros_like(cost)
        for one in ends.values():
            time = np.maximum(time, one)
        return time.reshape(TRUTHS, -1), cost.reshape(TRUTHS, -1)

    def place(self, counts: Mapping[str, int]) -> int:
        """Return which of all choices one is."""
        sizes = [self.takes[name].shape[1] for name in self.names]
        return int(np.ravel_multi_index([counts[name] - 1 for name in self.names], sizes))

    def _one(self, pool: PoolModel, group: TaskGroup, truth: int, n: int) -> tuple[float, float]:
        wait, boot = self.world.waits[pool.name][truth, :n], self.world.boots[pool.name][truth, :n]
        heap = [(float(w + b), i) for i, (w, b) in enumerate(zip(wait, boot, strict=True))]
        last = dict(enumerate([at for at, _ in heap]))
        heapq.heapify(heap)
        begun = 0.0
        used = set()
        for takes in self.world.takes[group.name][truth].tolist():
            begun, who = heap[0]
            heapq.heapreplace(heap, (begun + takes, who))
            last[who] = begun + takes
            used.add(who)
        there = [i for i in range(n) if i in used or wait[i] < begun]
        paid = sum(max(last[i] - float(wait[i]), pool.min_bill_s) for i in there)
        return max(last[i] for i in used), paid * pool.price_per_s


def _lognormal(random: np.random.Generator, mean: float, cv: float, n: int | tuple[int, int]) -> Floats:
    spread = math.log(1 + cv * cv)
    return np.exp(random.normal(math.log(mean) - spread / 2, math.sqrt(spread), n))


def _world(kind: str, random: np.random.Generator, groups: list[dict[str, float]], *, chain: bool) -> World:
    made: list[TaskGroup] = []
    pools: list[PoolModel] = []
    takes, waits, boots = {}, {}, {}
    for number, one in enumerate(groups):
        name, pool = f"g{number}", f"p{number}"
        count, limit = int(one["count"]), int(one.get("limit", 100))
        past = _lognormal(random, one["mean"], one["cv"], _PAST)
        takes[name] = _lognormal(random, one["mean"], one["cv"], (TRUTHS, count))
        wait, boot = one.get("wait", 0.0), one.get("boot", 30.0)
        waits[pool] = _lognormal(random, wait, 0.8, (TRUTHS, limit)) if wait else np.zeros((TRUTHS, limit))
        boots[pool] = _lognormal(random, boot, 0.2, (TRUTHS, limit))
        after = (f"g{number - 1}",) if chain and number else ()
        made.append(TaskGroup(name, pool, count, tuple(past.tolist()), after=after))
        pools.append(
            PoolModel(
                pool,
                limit,
                tuple(_lognormal(random, wait, 0.8, _PAST).tolist()) if wait else (0.0,),
                tuple(_lognormal(random, boot, 0.2, _PAST).tolist()),
                one.get("price", 1e-4),
                one.get("min_bill", 0.0),
            )
        )
    return World(kind, Workload.of(made), tuple(pools), takes, waits, boots)


def _bag(r: np.random.Generator) -> World:
    return _world("bag", r, [_some(r)], chain=False)


def _two_stages(r: np.random.Generator) -> World:
    second = {**_some(r), "count": float(r.integers(5, 60)), "price": 1e-4 * float(r.uniform(0.5, 5))}
    return _world("two stages", r, [_some(r), second], chain=True)


def _long_tail(r: np.random.Generator) -> World:
    return _world("long tail", r, [{**_some(r), "cv": 1.5}], chain=False)


def _wide(r: np.random.Generator) -> World:
    first = {**_some(r), "count": float(r.integers(100, 400)), "limit": 200.0}
    return _world("wide", r, [first, {**_some(r), "limit": 150.0}], chain=False)


def _billed_by_the_minute(r: np.random.Generator) -> World:
    return _world("least bill", r, [{**_some(r), "min_bill": float(r.choice([60, 300, 600]))}], chain=False)


def _slow_queue(r: np.random.Generator) -> World:
    return _world("slow queue", r, [{**_some(r), "wait": float(r.uniform(60, 600)), "boot": 10.0}], chain=False)


def _some(r: np.random.Generator) -> dict[str, float]:
    return {
        "count": float(r.integers(30, 250)),
        "mean": float(np.exp(r.uniform(math.log(10), math.log(600)))),
        "cv": float(r.uniform(0.1, 0.8)),
        "boot": float(np.exp(r.uniform(math.log(10), math.log(120)))),
    }


KINDS: tuple[Callable[[np.random.Generator], World], ...] = (
    _bag,
    _two_stages,
    _long_tail,
    _wide,
    _billed_by_the_minute,
    _slow_queue,
)


def worlds() -> Iterator[World]:
    """Yield all worlds; the same ones each time."""
    for kind, make in enumerate(KINDS):
        for case in range(CASES):
            for seed in range(SEEDS):
                yield make(np.random.default_rng([kind, case, seed]))
