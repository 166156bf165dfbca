"""What the controller does to real pools when a policy decides."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scalable import ScalableClient, ScalableSession
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import Pool, WorkerAdapter
from scalable.pools.shape import PoolShape
from scalable.scaling.controller import Controller, Means
from scalable.scaling.guard import Guard
from scalable.scaling.model import Observation, ScaleDecision
from scalable.scaling.observer import Observer
from scalable.spec import Limits
from scalable.telemetry.recorder import Recorder
from tests.conftest import MANIFEST, records
from tests.scaling.test_observer import World

GATE = threading.Event()


def wait_for_gate(_: object) -> bool:
    """Hold a worker that is a thread of this process until the test lets go."""
    return GATE.wait(20)


class Scripted:
    """A policy that says what the test says, once."""

    name = "scripted"
    interval_s = 0.05
    wants_groups = True

    def __init__(self) -> None:
        self.seen: list[Observation] = []
        self.next = ScaleDecision()
        self.error: Exception | None = None

    def decide(self, observation: Observation) -> ScaleDecision:
        self.seen.append(observation)
        error, self.error = self.error, None
        if error is not None:
            raise error
        decision, self.next = self.next, ScaleDecision()
        return decision


class Bench:
    """A run whose pools a scripted policy scales."""

    def __init__(self, session: ScalableSession) -> None:
        self.session = session
        self.client: ScalableClient = session.start()
        run = session._run
        assert run is not None
        self.cluster: PoolCluster = run.cluster
        run.controller.stop()
        self.policy = Scripted()
        self.means: dict[str, Any] = {}

    def controller(self) -> Controller:
        run = self.session._run
        assert run is not None
        limits = Limits(0, 8)
        observer = Observer(self.cluster, run.router, limits, groups=True)
        return Controller(self.cluster, observer, self.policy, Guard(), run.recorder, means=Means(**self.means))

    def decide(self, decision: ScaleDecision) -> ScaleDecision:
        """Have one decision applied at once."""
        self.policy.next = decision

        async def tick() -> ScaleDecision:
            return self.controller().tick(time.monotonic())

        return self.cluster.sync(tick)

    def wait(self, what: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, "it did not come to that"
            time.sleep(0.02)

    def up(self, pool: str = "simulate") -> int:
        return self.client.worker_count(pool)

    def hold(self, count: int, pool: str = "simulate") -> list[Any]:
        """Keep so many workers of a pool busy."""
        GATE.clear()
        held = self.client.map(wait_for_gate, range(count), tag=pool)
        workers = self.cluster.scheduler.workers
        self.wait(lambda: sum(bool(one.processing) for one in list(workers.values())) == count)
        return held


@pytest.fixture
def bench(manifest: Callable[..., Path]) -> Iterator[Bench]:
    text = MANIFEST.replace("max_workers: 3}", "adaptive: {minimum: 2, maximum: 8}}")
    with ScalableSession.from_yaml(manifest(text), target="threads") as session:
        yield Bench(session)
        GATE.set()


def test_workers_that_are_decided_on_come_and_the_reason_is_on_record(bench: Bench) -> None:
    bench.decide(ScaleDecision({"simulate": 3}, reasons={"simulate": "a burst"}))
    bench.wait(lambda: bench.up() == 4)
    bench.session.close()
    changes = [one for one in records(bench.session.run_dir, "scaling") if one["event"] == "scale_decision"]
    told = [(one["tag"], one["from"], one["to"], one["reason"]) for one in changes if one["policy"] == "scripted"]
    assert told == [("simulate", 1, 4, "a burst")]


def test_only_idle_workers_leave_however_many_are_to(bench: Bench) -> None:
    bench.decide(ScaleDecision({"simulate": 3}))
    bench.wait(lambda: bench.up() == 4)
    held = bench.hold(3)
    bench.decide(ScaleDecision(workers_to_remove={"simulate": 4}))
    bench.wait(lambda: bench.up() == 3)
    time.sleep(0.3)
    assert bench.up() == 3
    GATE.set()
    assert bench.client.gather(held) == [True] * 3


def test_workers_that_drain_finish_what_they_run(bench: Bench) -> None:
    held = bench.hold(1)
    bench.decide(ScaleDecision(workers_to_drain={"simulate": 1}, workers_to_add={"postprocess": 1}))
    time.sleep(0.3)
    assert not held[0].done()
    GATE.set()
    assert bench.client.gather(held) == [True]


def test_a_group_leaves_by_its_name(bench: Bench) -> None:
    bench.decide(ScaleDecision({"simulate": 2}))
    bench.wait(lambda: bench.up() == 3)
    names = {group.name for group in bench.policy.seen[-1].pools["simulate"].groups}
    bench.decide(ScaleDecision(groups_to_stop={"simulate": tuple(names)}))
    bench.wait(lambda: not names & set(bench.cluster.pools["simulate"].members))
    assert bench.up() == 2


def test_starting_workers_that_are_not_needed_after_all_do_not_come(bench: Bench) -> None:
    async def change_of_mind() -> tuple[int, int]:
        controller = bench.controller()
        bench.policy.next = ScaleDecision({"simulate": 3})
        controller.tick(time.monotonic())
        starting = bench.cluster.pools["simulate"].desired
        bench.policy.next = ScaleDecision(workers_to_cancel={"simulate": 3})
        controller.tick(time.monotonic())
        return starting, bench.cluster.pools["simulate"].desired

    assert bench.cluster.sync(change_of_mind) == (4, 1)
    bench.wait(lambda: len(bench.cluster.pools["simulate"].members) == 1)


def test_a_policy_that_fails_is_asked_again(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    controller = bench.controller()
    bench.policy.error = ValueError("cannot think")
    controller.start()
    bench.wait(lambda: "a scaling decision failed" in caplog.text)
    bench.policy.next = ScaleDecision({"simulate": 1})
    bench.wait(lambda: bench.up() == 2)
    controller.stop()


def test_a_pool_whose_workers_take_for_ever_to_start_does_not_hold_up_another(bench: Bench) -> None:
    released = threading.Event()
    source = bench.cluster.pools["postprocess"]
    factory = source.source.factory

    class Slow:
        def __init__(self, made: Any) -> None:
            self.made = made

        def __await__(self) -> Any:
            while not released.is_set():
                yield from asyncio.sleep(0.01).__await__()
            return (yield from self.made.__await__())

        async def close(self) -> None:
            released.set()
            await self.made.close()

    def slow(shape: PoolShape, *facts: str) -> Any:
        made = factory(shape, *facts)
        return Slow(made) if shape.name == "postprocess" else made

    object.__setattr__(source.source, "factory", slow)
    begun = bench.up("postprocess")
    bench.decide(ScaleDecision({"postprocess": 1}))
    bench.decide(ScaleDecision({"simulate": 1}))
    bench.wait(lambda: bench.up() == 2)
    assert bench.up("postprocess") == begun
    released.set()
    bench.wait(lambda: bench.up("postprocess") == begun + 1)


def test_a_policy_is_shown_what_is_left_of_money_and_time(bench: Bench) -> None:
    bench.means = {"budget_usd": 5.0, "deadline_s": 60.0, "spent_usd": lambda: 1.5}

    async def twice() -> None:
        controller = bench.controller()
        controller.tick(100.0)
        controller.tick(110.0)

    bench.cluster.sync(twice)
    first, second = bench.policy.seen
    assert (first.budget_usd, first.deadline_s) == (3.5, 60.0)
    assert (second.budget_usd, second.deadline_s) == (3.5, 50.0)


class Told:
    """Pools of a world of the test, and what they are told to do."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.left: list[str] = []
        self.scaled: dict[str, int] = {}
        self.policy = Scripted()
        cluster = world.cluster
        cluster.release = lambda _pool, names, _reason: self.left.extend(names)
        cluster.scale = lambda counts, _reason: self.scaled.update(counts)
        observer = Observer(cluster, world.router, Limits(0, 9))
        self.controller = Controller(cluster, observer, self.policy, Guard(), Recorder(None))

    def decide(self, decision: ScaleDecision) -> list[str]:
        """Return who is to leave."""
        self.policy.next = decision
        self.controller.tick(self.world.now)
        return self.left


def test_groups_leave_whole_as_they_are_paid_for_whole() -> None:
    world = World()
    world.pools["a"] = Pool(world.pools["a"].shape, WorkerAdapter(group_size=2))
    for group, ages in (("job-1", (50.0, 5.0)), ("job-2", (40.0, 30.0))):
        for place, age in enumerate(ages):
            world.add(f"a-{group}~-{place}", age_s=age, remote=SimpleNamespace(group=group, note=""))
    assert Told(world).decide(ScaleDecision(workers_to_remove={"a": 2})) == ["a-job-2~-0", "a-job-2~-1"]


def test_of_starting_workers_the_one_that_hangs_is_given_up_and_the_latest_is_not_needed() -> None:
    world = World()
    world.add("a-hung", up=False, age_s=2000.0)
    world.add("a-late", up=False, age_s=20.0, requested=True)
    assert Told(world).decide(ScaleDecision()) == ["a-hung"]
    world = World()
    world.add("a-early", up=False, age_s=100.0)
    world.add("a-late", up=False, age_s=20.0)
    assert Told(world).decide(ScaleDecision(workers_to_cancel={"a": 1})) == ["a-late"]


def test_a_worker_that_is_lost_when_the_budget_is_used_up_is_not_replaced(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    spent = [1.0]
    bench.means = {"budget_usd": 2.0, "spent_usd": lambda: spent[0]}
    controller = bench.controller()
    controller.start()
    bench.wait(lambda: bool(bench.policy.seen))
    spent[0] = 2.5
    bench.wait(lambda: "the budget of $2.00 is used up" in caplog.text)

    async def lose() -> None:
        bench.cluster._replace(pool, list(pool.members.values()))

    pool = bench.cluster.pools["simulate"]
    (worker,) = (bench.cluster.worker_of(one) for one in pool.members.values())
    assert worker is not None
    bench.cluster.sync(bench.cluster.scheduler.remove_worker, worker.address, stimulus_id="test", expected=True)
    bench.cluster.sync(lose)
    bench.wait(lambda: not pool.members)
    assert pool.desired == 0
    controller.stop()


def test_a_worker_that_cannot_leave_keeps_its_place_and_nobody_goes_in_its_stead(bench: Bench) -> None:
    held = bench.client.submit(bytes, 1000, tag="simulate")
    bench.wait(held.done)
    bench.decide(ScaleDecision(workers_to_remove={"postprocess": 1}))
    bench.wait(lambda: bench.up("postprocess") == 0)
    pool = bench.cluster.pools["simulate"]
    bench.decide(ScaleDecision(workers_to_remove={"simulate": 1}))
    bench.wait(lambda: any(member.stuck for member in pool.members.values()))
    assert (pool.desired, bench.up()) == (1, 1)
    assert held.result() == bytes(1000)
