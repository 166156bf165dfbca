"""Which number of workers for each pool: the search among what the simulation tells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np

from scalable.errors import PlanError
from scalable.planning.choice import OBJECTIVES, POLICIES, Chosen, Interval, Point, known
from scalable.planning.simulate import Simulator, Worlds
from scalable.planning.workload import PoolModel, Workload

__all__ = ["search"]

HEADROOM: Final = 1.2
"""By how much more than predicted a deadline must leave room for under the policy ``safe``."""

_COMBINATIONS: Final = 500
_GRID: Final = 40
_TRIES: Final = 1200
_WANDERED: Final = 400
_FEWEST_TRIES: Final = 100
_EFFORT: Final = 2_000_000
_POLISH: Final = 80
# What weighs the other side of the scale by so little decides only where nothing else does: a worker
# that saves 1 % of the time may make it 12 times as expensive. Of costs each per mille counts.
_OTHER: Final = 0.004
_OTHER_TIME: Final = 1e-4
_TIE: Final = 0.001
_RISK: Final = 4.0
_STEPS: Final = (1, -1, 3, -3)

Counts = tuple[int, ...]
Value = Callable[[Point], tuple[float, float]]


def search(
    workload: Workload,
    pools: Sequence[PoolModel],
    *,
    objective: str = "balance",
    policy: str = "safe",
    budget: float | None = None,
    deadline_s: float | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Chosen:
    """Choose how many workers each pool is to have.

    Everything is plain data, no manifest is needed: a group of tasks has past durations, the
    pool that it runs on and the groups it waits for; a pool has a limit, past start-ups
    (the wait that is not paid for, the boot that is), a price for each worker-second and
    seconds that are billed at the least.

    Counts are tried in a simulation: all, if there are few, else along each pool in turn from
    several beginnings; the best are then improved by single workers.

    Parameters
    ----------
    workload : Workload
        What is to run.
    pools : sequence of PoolModel
        What workers there are; those that no group needs are passed over.
    objective : {"minimize cost", "minimize time", "balance"}
        The cheapest that keeps the bounds; the fastest that does; or the least product of
        mean cost and mean time, which is the knee of the front of both on the logarithmic
        scale. Of those within 0.1 % of the cheapest it is the fastest; before the fastest goes
        what is 1 % slower and costs a twelfth.
    policy : {"safe", "aggressive"}
        ``safe``: 95 % of the worlds keep the bounds, the deadline with a headroom of 20 %;
        ``aggressive``: half of them do. Where no choice does as ``safe`` wants, it may do as
        ``aggressive`` wants, and :attr:`Chosen.within` is false.
    budget : float, optional
        What may be paid, in the unit of the prices.
    deadline_s : float, optional
        Seconds within which all is to be done.
    limit : int, optional
        Workers of all pools at the same time.
    seed : int
        Which worlds are simulated; the same gives the same choice.

    Raises
    ------
    PlanError
        If there is no such objective or policy, no tasks, or a pool or a duration is missing.

    Examples
    --------
    >>> from scalable.planning import PoolModel, TaskGroup, Workload, search
    >>> work = Workload.of([TaskGroup("simulate", "demeter", 90, (55.0, 60.0, 70.0))])
    >>> pool = PoolModel("demeter", limit=100, boot_s=(30.0,), price_per_s=0.0001)
    >>> search(work, [pool], objective="minimize cost", deadline_s=3600).point.counts
    {'demeter': 2}
    """
    known("objective", objective, OBJECTIVES)
    known("policy", policy, POLICIES[:2])
    if not workload.groups:
        raise PlanError("there are no tasks to plan for")
    simulator = Simulator(workload, pools, seed=seed)
    table = _Table(simulator, limit)
    within = _Bounds(budget, deadline_s, safe=policy == "safe")
    loose = _Bounds(budget, deadline_s, safe=False)
    best = _best(table, objective, within)
    if policy == "safe" and within.violation(best) > 0:
        table.enough += _FEWEST_TRIES
        best = _best(table, objective, loose, wished=within)
    elif objective == "minimize cost":
        best = _fastest_of_equals(table.tried.values(), best, within)
    missed = loose.missed(best)
    worker_s = simulator.run(best.counts).worker_s
    return Chosen(
        replace(best, worker_s={pool: Interval.of(seconds.tolist()) for pool, seconds in worker_s.items()}),
        _front(table.tried.values()),
        feasible=not missed,
        within=within.violation(best) <= 0,
        missed=missed,
        limited_by=_limited_by(table, best, objective, within),
        tried=len(table.tried),
    )


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a choice must keep."""

    budget: float | None
    deadline_s: float | None
    safe: bool

    def violation(self, point: Point) -> float:
        """Return by which share the bounds are not kept, all together."""
        missed = 0.0
        if self.deadline_s is not None:
            taken = point.time_s.high * HEADROOM if self.safe else point.time_s.median
            missed += max(0.0, taken / self.deadline_s - 1)
        if self.budget is not None:
            # A price has no headroom besides: it would leave nothing to be bought.
            paid = point.cost.high if self.safe else point.cost.median
            missed += max(0.0, paid / self.budget - 1)
        return missed

    def missed(self, point: Point) -> dict[str, float]:
        """Return how much of what is missed in the median."""
        found = {}
        if self.deadline_s is not None and point.time_s.median > self.deadline_s:
            found["deadline_s"] = point.time_s.median - self.deadline_s
        if self.budget is not None and point.cost.median > self.budget:
            found["budget"] = point.cost.median - self.budget
        return found


class _Table:
    """Choices that were tried; those with too many workers at the same time are none."""

    def __init__(self, simulator: Simulator, limit: int | None) -> None:
        self.simulator = simulator
        self.pools = tuple(simulator.pools)
        self.most = tuple(simulator.most(pool) for pool in self.pools)
        self.tried: dict[Counts, Point] = {}
        self._refused: set[Counts] = set()
        self.limit = math.inf
        self.enough = max(_FEWEST_TRIES, min(_TRIES, _EFFORT // max(1, simulator.effort)))
        least = self.point(tuple(1 for _ in self.pools))
        assert least is not None
        # Pools that are all needed at once share what there is while they run.
        self.limit = math.inf if limit is None else max(limit, least.peak)

    def point(self, counts: Counts) -> Point | None:
        """Return what comes of a choice; ``None`` if it is not possible."""
        if counts in self.tried or counts in self._refused:
            return self.tried.get(counts)
        if not all(1 <= count <= most for count, most in zip(counts, self.most, strict=True)):
            return None
        by_pool = dict(zip(self.pools, counts, strict=True))
        worlds = self.simulator.run(by_pool)
        if worlds.peak > self.limit:
            self._refused.add(counts)
            return None
        return self.tried.setdefault(counts, _point(by_pool, worlds))

    @property
    def full(self) -> bool:
        """Whether enough was tried."""
        return len(self.tried) + len(self._refused) >= self.enough

    def grid(self, size: int) -> list[list[int]]:
        """Return counts to begin with for each pool: spread evenly by ratio, and where rounds become fewer."""
        return [_spread(most, size) for most in self.most]


def _point(counts: Mapping[str, int], worlds: Worlds) -> Point:
    return Point(dict(counts), Interval.of(worlds.time_s.tolist()), Interval.of(worlds.cost.tolist()), worlds.peak)


def _spread(most: int, size: int) -> list[int]:
    if most <= size:
        return list(range(1, most + 1))
    rounds = {math.ceil(most / each) for each in range(1, max(2, size // 4))}
    even = {round(value) for value in np.geomspace(1, most, max(2, size - len(rounds)))}
    return sorted(even | rounds)


def _best(table: _Table, objective: str, bounds: _Bounds, wished: _Bounds | None = None) -> Point:
    """Return the best choice, having tried enough of them.

    Bounds that are wished for, and that nothing keeps, count as much as time and cost do: to
    keep them alone would make a run many times as long for a little less risk.
    """
    value = _value(objective, bounds, wished)
    size = min(_GRID, int(_COMBINATIONS ** (1 / len(table.pools))))
    if size >= 6:
        for counts in product(*table.grid(size)):
            table.point(counts)
    else:
        _descend_from_everywhere(table, value)
    best = _polished(table, value)
    if len(table.pools) > 1:
        _wander(table, value, best)
        best = _polished(table, value)
    return best


def _fastest_of_equals(points: Iterable[Point], best: Point, bounds: _Bounds) -> Point:
    """Return the fastest of those that cost as much as the cheapest."""
    kept = [point for point in points if bounds.violation(point) <= bounds.violation(best)]
    most = min(point.cost.mean for point in kept) * (1 + _TIE)
    return min((one for one in kept if one.cost.mean <= most), key=lambda one: (one.time_s.mean, one.cost.mean))


def _wander(table: _Table, value: Value, best: Point) -> None:
    """Change up to three pools at once, at random, as long as that is better: one alone may be worse."""
    random = np.random.default_rng(len(table.pools))
    place = np.array([best.counts[pool] for pool in table.pools])
    for _ in range(_WANDERED):
        if table.full:
            return
        there = place.copy()
        for axis in random.integers(0, len(place), random.integers(1, 4)):
            there[axis] = round(there[axis] * math.exp(random.normal(0.0, 0.25))) + random.integers(-1, 2)
        point = table.point(tuple(np.clip(there, 1, table.most).tolist()))
        if point is not None and value(point) < value(best):
            place, best = np.array([point.counts[pool] for pool in table.pools]), point


def _value(objective: str, bounds: _Bounds, wished: _Bounds | None) -> Value:
    """Return what is to become least: first how far the bounds are missed, then the objective."""

    def value(point: Point) -> tuple[float, float]:
        time, cost = math.log(max(point.time_s.mean, 1e-9)), math.log(max(point.cost.mean, 1e-12))
        aims = {
            "minimize cost": cost + _OTHER_TIME * time,
            "minimize time": time + _OTHER * cost,
            "balance": cost + time,
        }
        risk = 0.0 if wished is None else _RISK * wished.violation(point)
        return max(0.0, bounds.violation(point) - 1e-9), aims[objective] + risk

    return value


def _descend_from_everywhere(table: _Table, value: Value) -> None:
    """Try the closed forms' counts, then those along one pool at a time from the best of them."""
    grid = table.grid(_GRID // 2)
    for shape in _shapes(table.simulator):
        for factor in np.geomspace(1.0, max(table.most), _GRID):
            # Rounded to few different counts, because each has to be simulated once.
            places = [_nearest(counts, float(factor) * one) for counts, one in zip(grid, shape, strict=True)]
            table.point(tuple(counts[at] for counts, at in zip(grid, places, strict=True)))
    for aim in (value, _weighing(0.5), _weighing(0.2), _weighing(0.8)):
        best = min(table.tried.values(), key=aim)
        begin = [_nearest(counts, best.counts[pool]) for pool, counts in zip(table.pools, grid, strict=True)]
        _descend(table, grid, begin, aim)


def _shapes(simulator: Simulator) -> list[list[float]]:
    """Return how counts of pools compare in closed forms, up to a common factor.

    Pools that work side by side should end together: counts as the work. Of pools that work
    one after the other each is to be as large as the square root of its work over the price
    of a start, which is where the derivatives of the sum of times and of the cost agree.
    """
    groups = simulator.workload.by_pool
    work = [sum(group.count * group.mean_s / group.slots for group in groups[name]) for name in simulator.pools]
    start = [
        max(pool.price_per_s, 1e-12) * (1e-3 + sum(pool.boot_s) / len(pool.boot_s)) for pool in simulator.pools.values()
    ]
    after = [math.sqrt(one / paid) for one, paid in zip(work, start, strict=True)]
    return [[one / max(*shape, 1e-300) for one in shape] for shape in (work, after)]


def _nearest(counts: Sequence[int], count: float) -> int:
    return min(range(len(counts)), key=lambda place: abs(counts[place] - count))


def _weighing(weight: float) -> Value:
    def value(point: Point) -> tuple[float, float]:
        return 0.0, weight * math.log(max(point.cost.mean, 1e-12)) + (1.0 - weight + _OTHER) * math.log(
            max(point.time_s.mean, 1e-9)
        )

    return value


def _descend(table: _Table, grid: Sequence[Sequence[int]], begin: Sequence[int], value: Value) -> list[int]:
    """Go along one pool's counts at a time as long as that is better; return the place in the grid."""
    place = list(begin)
    best = table.point(tuple(counts[at] for counts, at in zip(grid, place, strict=True)))
    better = True
    while better and not table.full:
        better = False
        for axis in range(len(grid)):
            for step in _STEPS:
                while 0 <= place[axis] + step < len(grid[axis]):
                    there = [*place[:axis], place[axis] + step, *place[axis + 1 :]]
                    point = table.point(tuple(counts[at] for counts, at in zip(grid, there, strict=True)))
                    if point is None or (best is not None and value(point) >= value(best)):
                        break
                    place, best, better = there, point, True
    return place


def _polished(table: _Table, value: Value) -> Point:
    """Change the best choices by single workers as long as that is better."""
    best = sorted(table.tried.values(), key=value)[:3]
    for number, point in enumerate(best):
        better, until = True, len(table.tried) + _POLISH
        while better and len(table.tried) < min(until, table.enough):
            better = False
            for counts in _neighbours(tuple(point.counts[pool] for pool in table.pools), table.most):
                other = table.point(counts)
                if other is not None and value(other) < value(point):
                    point, better = other, True  # noqa: PLW2901  (the choice wanders)
                    break
        best[number] = point
    return min(best, key=value)


def _neighbours(counts: Counts, most: Counts) -> Iterator[Counts]:
    for axis, count in enumerate(counts):
        far = max(3, round(0.1 * count))
        rounds = math.ceil(most[axis] / count)
        tidy = (math.ceil(most[axis] / rounds), math.ceil(most[axis] / max(1, rounds - 1)))
        for other in (*tidy, *(count + step for step in (far, -far, 2, -2, 1, -1))):
            if other != count:
                yield (*counts[:axis], other, *counts[axis + 1 :])
    if 1 < len(counts) <= 4:
        for up, down in product(range(len(counts)), repeat=2):
            if up != down:
                yield tuple(count + (axis == up) - (axis == down) for axis, count in enumerate(counts))


def _front(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return the choices of which none other is both faster and cheaper, the fastest first."""
    found: list[Point] = []
    for point in sorted(points, key=lambda one: (one.time_s.mean, one.cost.mean)):
        if not found or point.cost.mean < found[-1].cost.mean:
            found.append(point)
    return tuple(found)


def _limited_by(table: _Table, point: Point, objective: str, bounds: _Bounds) -> str:
    """Return in words what keeps a choice from being better."""
    others = [one for one in table.tried.values() if bounds.violation(one) > 0]
    if objective == "minimize cost":
        cheaper = any(one.cost.mean * (1 + _TIE) < point.cost.mean for one in others)
        return "the deadline: what is cheaper takes too long" if cheaper else "the work itself: nothing is cheaper"
    if any(one.time_s.mean < 0.99 * point.time_s.mean and one.cost.mean > point.cost.mean for one in others):
        return "the budget: what is faster costs too much"
    full = [pool for pool, most in zip(table.pools, table.most, strict=True) if point.counts[pool] == most]
    capped = [pool for pool in full if table.simulator.pools[pool].limit == point.counts[pool]]
    if capped or point.peak >= table.limit:
        return f"the workers there can be ({', '.join(capped) or 'of all pools together'})"
    if objective == "minimize time":
        return "the work itself: more workers would not help"
    return "the price of time: more workers would cost more than the time that they save is worth"
