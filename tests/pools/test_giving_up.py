"""A pool that gets no workers: what waits for them is told so, in whatever order they fail."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from distributed import Future, Worker

from scalable import ScalableClient
from scalable.errors import SubmitFailed, WorkersLost
from scalable.pools import cluster as module
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import WorkerEnd
from scalable.pools.shape import PoolShape
from scalable.spec import ComponentSpec, ResourceRequest


class Distant:
    """A worker that somebody else starts: it comes, or does not, when the test says so."""

    def __init__(self, shape: PoolShape, name: str, address: str) -> None:
        self.shape = shape
        self.name = self.group = name
        self.address = address
        self.ends_at = None
        self.note = ""
        self.end: asyncio.Future[WorkerEnd] = asyncio.get_running_loop().create_future()
        self.worker: Worker | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return asyncio.sleep(0).__await__()

    async def over(self, *, lost: bool) -> WorkerEnd:
        return await asyncio.shield(self.end)

    async def come(self) -> None:
        self.worker = Worker(
            self.address, name=self.name, nthreads=1, resources=dict(self.shape.labels), dashboard_address=":0"
        )
        await self.worker

    async def close(self) -> None:
        if self.worker is not None:
            await self.worker.close()


class Bench:
    """A pool of workers that somebody else starts."""

    def __init__(self, count: int) -> None:
        self.made: list[Distant] = []
        shape = PoolShape.of(ComponentSpec("simulate", ResourceRequest(1, 2**28, 0)))
        options = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
        self.cluster = PoolCluster([shape], self._make, scheduler_options=options, maximum=count)
        self.cluster.start_pools({"simulate": count}, "plan")
        self.client = ScalableClient(self.cluster)
        self.pool = self.cluster.pools["simulate"]

    def _make(self, shape: PoolShape, name: str, address: str) -> Distant:
        self.made.append(Distant(shape, name, address))
        return self.made[-1]

    def fail(self, distant: Distant) -> None:
        """End a worker that has not come, and wait until the pool has seen it."""
        self.cluster.soon(distant.end.set_result, WorkerEnd(f"{distant.name} crashed"))
        self.wait(lambda: distant.name not in self.pool.members)

    def submit(self) -> Future[int]:
        return self.client.submit(abs, -1, tag="simulate")

    def wait(self, what: Callable[[], object]) -> None:
        deadline = time.monotonic() + 30
        while not what():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.01)

    def close(self) -> None:
        self.client.close()
        self.cluster.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    # Nobody is asked for in the place of those that fail.
    monkeypatch.setattr(module, "_BACKOFF_S", 60.0)
    made = Bench(4)
    try:
        made.wait(lambda: all(member.requested for member in made.pool.staying))
        yield made
    finally:
        made.close()


def test_tasks_fail_when_the_last_worker_fails_that_was_under_way(bench: Bench) -> None:
    future = bench.submit()
    for distant in bench.made[:3]:
        bench.fail(distant)
    assert "3 workers in a row did not start" in bench.pool.broken
    # The fourth may still come.
    assert not future.done()
    bench.fail(bench.made[3])
    with pytest.raises(WorkersLost, match="3 workers in a row did not start: simulate-2 crashed"):
        future.result(timeout=30)


def test_a_worker_that_comes_after_all_mends_the_pool(bench: Bench) -> None:
    future = bench.submit()
    for distant in bench.made[:3]:
        bench.fail(distant)
    assert bench.pool.broken
    bench.cluster.sync(bench.made[3].come)
    assert future.result(timeout=30) == 1
    bench.wait(lambda: not bench.pool.broken)
    assert bench.submit().result(timeout=30) == 1
    # Those that failed meanwhile are asked for anew.
    bench.wait(lambda: len(bench.pool.members) == 4)


class Present:
    """A worker that comes at once, or is refused for good."""

    def __init__(self, shape: PoolShape, name: str, address: str) -> None:
        self.options: dict[str, Any] = {"name": name, "nthreads": 1, "resources": dict(shape.labels)}
        self.refused = shape.name == "refused"
        self.address = address
        self.worker: Worker | None = None

    def __await__(self) -> Generator[Any, Any, None]:
        return self._start().__await__()

    async def _start(self) -> None:
        if self.refused:
            raise SubmitFailed("sbatch", 1, "no such partition")
        self.worker = await Worker(self.address, dashboard_address="127.0.0.1:0", **self.options)

    async def close(self) -> None:
        if self.worker is not None:
            await self.worker.close()


def test_a_task_that_is_ready_only_after_its_pool_was_given_up_fails_too() -> None:
    shapes = [PoolShape.of(ComponentSpec(name, ResourceRequest(1, 2**28, 0))) for name in ("given", "refused")]
    options = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard": False, "dashboard_address": "127.0.0.1:0"}
    with contextlib.closing(PoolCluster(shapes, Present, scheduler_options=options, maximum=4)) as cluster:
        cluster.start_pools({"given": 1}, "plan")
        with ScalableClient(cluster) as client:
            first = client.submit(time.sleep, 1.0, tag="given")
            after = client.submit(lambda _: 1, first, tag="refused")
            with pytest.raises(SubmitFailed, match="no such partition"):
                cluster.start_pools({"refused": 1}, "plan")
            assert not after.done()
            with pytest.raises(WorkersLost, match="no such partition"):
                after.result(timeout=30)
