"""What reading the per-tag counts costs, with few and with many tasks in the queue."""

from __future__ import annotations

import time
from types import SimpleNamespace

from scalable.pools.demand import DemandCounter

SIZES = (200, 200_000)
READS = 20_000


def cost(tasks: int) -> float:
    """Return microseconds to read all counts with so many tasks in line under three tags."""
    counter = DemandCounter()
    tags = ("a", "b", "c")
    prefix = SimpleNamespace(name="task")
    known = {
        str(i): SimpleNamespace(resource_restrictions={tags[i % 3]: 1.0}, prefix=prefix, dependencies=())
        for i in range(tasks)
    }
    counter._scheduler = SimpleNamespace(tasks=known)
    for key in known:
        counter.transition(key, "released", "waiting")
        counter.transition(key, "waiting", "no-worker")
    best = float("inf")
    for _ in range(5):
        begin = time.thread_time()
        for _ in range(READS):
            total = sum(one.ready for one in counter.kinds.values())
        best = min(best, (time.thread_time() - begin) / READS * 1e6)
    assert total == tasks
    return best


def main() -> None:
    few, many = (cost(size) for size in SIZES)
    print(f"reading the counts with {SIZES[0]} tasks queued: {few:.2f} us; with {SIZES[1]}: {many:.2f} us")
    print(f"ratio {many / few:.2f} (aim: 1, whatever the length of the queue)")


if __name__ == "__main__":
    main()
