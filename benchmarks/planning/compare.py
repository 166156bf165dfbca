"""Plans and closed forms against the best that hindsight finds, and the speed of planning."""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.planning.worlds import Table, World, worlds
from scalable.planning import PoolModel, TaskGroup, Workload, search
from scalable.planning.simulate import Simulator

__all__ = ["main"]

_OBJECTIVES = ("minimize cost", "minimize time", "balance")
Planner = Callable[[World, str, float | None, float | None], Mapping[str, int]]


def planned(world: World, objective: str, budget: float | None, deadline_s: float | None) -> Mapping[str, int]:
    return search(world.workload, world.pools, objective=objective, budget=budget, deadline_s=deadline_s).point.counts


def closed_forms(world: World, objective: str, budget: float | None, deadline_s: float | None) -> Mapping[str, int]:
    """Return the counts of the usual formulas, each pool by itself."""
    counts = {}
    share = len(world.workload.groups)
    for group in world.workload.groups:
        pool = next(one for one in world.pools if one.name == group.pool)
        work, boot = group.count * group.mean_s, float(np.mean(pool.boot_s))
        high = float(np.quantile(group.durations_s, 0.9))
        ideal = work / math.sqrt(boot * (pool.startup_s + group.mean_s))
        if objective == "minimize cost" and deadline_s is not None:
            left = deadline_s / share / 1.2 - pool.startup_s - high
            ideal = work / left if left > 0 else math.inf
            counts[pool.name] = _clipped(math.ceil(min(ideal, 1e9)), pool, group)
        elif objective == "minimize time" and budget is not None:
            ideal = (budget / share / pool.price_per_s - work) / boot
            counts[pool.name] = _clipped(math.floor(ideal), pool, group)
        else:
            counts[pool.name] = _clipped(round(ideal), pool, group)
    return counts


def _clipped(count: int, pool: PoolModel, group: TaskGroup) -> int:
    return max(1, min(count, pool.limit, group.count))


@dataclass
class _Score:
    logs: list[float] = field(default_factory=list)
    missed: float = 0.0

    def add(self, value: float, best: float, *, missed: float) -> None:
        self.missed += missed
        # Whoever misses a bound may look cheap; that is counted, not rewarded.
        self.logs.append(max(0.0, math.log(value / best)) if missed else math.log(value / best))

    def __str__(self) -> str:
        return f"{math.exp(np.mean(self.logs)):6.3f} ({self.missed / len(self.logs):4.0%})"


def _bounds(world_number: int, times: np.ndarray, costs: np.ndarray) -> tuple[float, float]:
    """Return a budget and a deadline that can be met, some of them narrowly."""
    random = np.random.default_rng([7, world_number])
    knee = int(np.argmin(times * costs))
    return float(costs.min() * random.uniform(1.2, 2.5)), float(times[knee] * random.uniform(2.0, 8.0))


def quality() -> None:
    planners: dict[str, Planner] = {"closed forms": closed_forms, "plan": planned}
    scores = {(who, aim): _Score() for who in planners for aim in _OBJECTIVES}
    by_kind: dict[tuple[str, str], _Score] = {}
    spent, plans = 0.0, 0
    for number, world in enumerate(worlds()):
        table = Table(world)
        times, costs = table.everything()
        budget, deadline = _bounds(number, times.mean(axis=0), costs.mean(axis=0))
        asked = {"minimize cost": (None, deadline), "minimize time": (budget, None), "balance": (None, None)}
        for aim, (most, within) in asked.items():
            kept = (times <= (within or math.inf)).all(axis=0) & (costs <= (most or math.inf)).all(axis=0)
            value = {"minimize cost": costs, "minimize time": times, "balance": times * costs}[aim].mean(axis=0)
            best = float(value[kept].min())
            for who, planner in planners.items():
                begun = time.process_time()
                place = table.place(planner(world, aim, most, within))
                if who == "plan":
                    spent, plans = spent + time.process_time() - begun, plans + 1
                missed = (times[:, place] > (within or math.inf)) | (costs[:, place] > (most or math.inf))
                scores[who, aim].add(float(value[place]), best, missed=float(missed.mean()))
                if who == "plan":
                    by_kind.setdefault((world.kind, aim), _Score()).add(
                        float(value[place]), best, missed=float(missed.mean())
                    )
    print("against the best in hindsight; in brackets how often the deadline or the budget was missed")
    print(f"{'':14}" + "".join(f"{aim:>18}" for aim in _OBJECTIVES))
    for who in planners:
        print(f"{who:14}" + "".join(f"{scores[who, aim]!s:>18}" for aim in _OBJECTIVES))
    for kind in dict.fromkeys(kind for kind, _ in by_kind):
        print(f"  {kind:12}" + "".join(f"{by_kind[kind, aim]!s:>18}" for aim in _OBJECTIVES))
    print(f"{1000 * spent / plans:.0f} ms a plan")


def accuracy() -> None:
    """Print what the simulation says against a heap that takes every task by itself."""
    random = np.random.default_rng(3)
    print("\nsimulated over exact, mean time until all is done (and 95 % quantile)")
    for cv in (0.1, 0.5, 1.5):
        spread = math.log(1 + cv * cv)
        past = 10 * np.exp(random.normal(-spread / 2, math.sqrt(spread), 300))
        row = []
        for tasks, workers in ((40, 6), (400, 30), (5000, 3), (5000, 100), (5000, 2000)):
            group = TaskGroup("g", "p", tasks, tuple(past.tolist()))
            pool = PoolModel("p", boot_s=(20.0, 25.0, 40.0))
            found = Simulator(Workload.of([group]), [pool], worlds=100).run({"p": workers}).time_s
            exact = [_exact(random, past, tasks, workers) for _ in range(100)]
            high = np.quantile(found, 0.95) / np.quantile(exact, 0.95)
            row.append(f"{tasks}/{workers}: {found.mean() / np.mean(exact):.3f} ({high:.3f})")
        print(f"  cv {cv}: " + "  ".join(row))


def _exact(random: np.random.Generator, past: np.ndarray, tasks: int, workers: int) -> float:
    heap = random.choice([20.0, 25.0, 40.0], workers).tolist()
    heapq.heapify(heap)
    end = 0.0
    for takes in random.choice(past, tasks).tolist():
        end = max(end, heap[0] + takes)
        heapq.heapreplace(heap, heap[0] + takes)
    return end


def speed() -> None:
    """Print how long a plan of 100,000 tasks takes against one run of a heap over the same tasks."""
    random = np.random.default_rng(5)
    groups, pools = [], []
    for number in range(20):
        past = random.lognormal(random.uniform(1, 4), random.uniform(0.1, 1.0), 200)
        after = (f"g{number - 4}",) if number >= 4 else ()
        groups.append(TaskGroup(f"g{number}", f"p{number}", 5000, tuple(past.tolist()), after=after))
        pools.append(PoolModel(f"p{number}", 500, boot_s=(30.0, 40.0, 60.0), price_per_s=1e-4))
    begun = time.process_time()
    for group in groups:
        _exact(random, np.array(group.durations_s), group.count, 100)
    heap_s = time.process_time() - begun
    print("\n100,000 tasks in 20 groups, processor seconds")
    for objective in _OBJECTIVES:
        begun = time.process_time()
        made = search(Workload.of(groups), pools, objective=objective)
        took = time.process_time() - begun
        print(f"  {objective:14} {took:.2f} s for {made.tried} choices; one choice by a heap {heap_s:.2f} s")


def main() -> None:
    quality()
    accuracy()
    speed()


if __name__ == "__main__":
    main()
