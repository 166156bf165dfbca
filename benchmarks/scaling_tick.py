"""What one look, decision and check costs the scheduler's loop, with short and long queues, few and many workers."""

from __future__ import annotations

import time
from statistics import median
from types import SimpleNamespace
from typing import Any

from scalable.pools.demand import DemandCounter
from scalable.pools.pool import Member, Pool
from scalable.pools.routing import Router
from scalable.pools.shape import PoolShape
from scalable.scaling.guard import Guard
from scalable.scaling.observer import Observer
from scalable.scaling.predictive import PredictivePolicy
from scalable.spec import ComponentSpec, Limits

TAGS = 20
LOOKS = 30


class Task:
    """A task as the scheduler has it."""

    def __init__(self, key: str, tag: str) -> None:
        self.key = key
        self.prefix = SimpleNamespace(name=tag)
        self.resource_restrictions = {tag: 1.0}
        self.dependencies: tuple[Any, ...] = ()


def world(tasks: int, workers: int) -> tuple[Any, Router]:
    """Return a cluster with so many tasks in line and busy workers, spread over twenty tags."""
    names = [f"tag{number}" for number in range(TAGS)]
    shapes = [PoolShape(ComponentSpec(name), 1) for name in names]
    counter = DemandCounter()
    known = {str(i): Task(str(i), names[i % TAGS]) for i in range(tasks)}
    counter._scheduler = SimpleNamespace(tasks=known)  # type: ignore[assignment]
    for key in known:
        counter.transition(key, "released", "waiting")
        counter.transition(key, "waiting", "processing")
    pools = {shape.name: Pool(shape) for shape in shapes}
    there = {}
    for i in range(workers):
        member = Member(f"{names[i % TAGS]}-{i}")
        member.up = True
        pool = pools[names[i % TAGS]]
        pool.members[member.name] = member
        pool.desired += 1
        task = known[str(i)]
        there[member.name] = SimpleNamespace(
            address=member.name, processing={task}, executing={task: 3.0}, long_running=(), last_seen=time.time()
        )
    cluster = SimpleNamespace(
        pools=pools, demand_counter=counter, worker_of=lambda member: there[member.name], maximum=2 * workers
    )
    return cluster, Router(shapes, {})


def tick(tasks: int, workers: int) -> tuple[float, float]:
    """Return milliseconds of a look, and of deciding and checking."""
    cluster, router = world(tasks, workers)
    observer = Observer(cluster, router, Limits(0, 2 * workers))
    policy, guard = PredictivePolicy(), Guard()
    looks, decisions = [], []
    for number in range(LOOKS):
        begin = time.thread_time()
        seen = observer.look(1000.0 + 5 * number)
        middle = time.thread_time()
        guard.check(seen, policy.decide(seen))
        looks.append(middle - begin)
        decisions.append(time.thread_time() - middle)
    return 1000 * median(looks), 1000 * median(decisions)


def main() -> None:
    for tasks, workers in ((1_000, 100), (1_000_000, 100), (100_000, 10_000)):
        look, decide = tick(tasks, workers)
        print(
            f"{tasks:>9,} tasks in line, {workers:>6,} workers, {TAGS} tags: look {look:.2f} ms, "
            f"decide and check {decide:.2f} ms CPU",
            flush=True,
        )
    print("(aim: at most 2 ms together with 1,000,000 tasks in line)")


if __name__ == "__main__":
    main()
