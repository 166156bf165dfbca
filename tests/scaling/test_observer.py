"""What a policy is shown of the pools."""

from __future__ import annotations

import time
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import pytest

from scalable.pools.demand import Demand, DemandCounter, Kind, step_of_size
from scalable.pools.pool import Member, Pool
from scalable.pools.routing import Router
from scalable.pools.shape import PoolShape
from scalable.pricing import Rate
from scalable.scaling.beforehand import Beforehand, Recalled
from scalable.scaling.model import Observation
from scalable.scaling.observer import Observer
from scalable.spec import ComponentSpec, Limits, ResourceRequest

FIT = Kind((("a", 1.0),), "fit")


class World:
    """Pools whose workers are what the test says, beside a scheduler that is not there."""

    def __init__(self, *components: ComponentSpec, threads: int = 1) -> None:
        shapes = [PoolShape(component, threads) for component in components or (ComponentSpec("a"),)]
        self.pools = {shape.name: Pool(shape) for shape in shapes}
        self.counter = DemandCounter()
        self.workers: dict[str, Any] = {}
        self.router = Router(shapes, {})
        self.now = 1000.0

    def add(self, name: str, *tasks: tuple[Any, float], up: bool = True, age_s: float = 0.0, **more: Any) -> Member:
        pool = self.pools[name.partition("-")[0]]
        member = pool.members[name] = Member(name)
        member.up, member.asked_at = up, self.now - age_s
        pool.desired += 1
        for key, value in more.items():
            setattr(member, key, value)
        if up:
            executing = {task: seconds for task, seconds in tasks if seconds >= 0}
            self.workers[name] = SimpleNamespace(
                address=name,
                processing={task for task, _ in tasks},
                executing=executing,
                long_running=(),
                last_seen=time.time(),
            )
            self.counter.active_at[name] = self.now - age_s
        return member

    @cached_property
    def cluster(self) -> Any:
        return SimpleNamespace(
            pools=self.pools,
            demand_counter=self.counter,
            worker_of=lambda member: self.workers.get(member.name),
            maximum=9,
        )

    def observer(self, known: Beforehand | None = None, **more: Any) -> Observer:
        return Observer(self.cluster, self.router, Limits(0, 9), known, **more)

    def look(self, known: Beforehand | None = None, **more: Any) -> Observation:
        return self.observer(known, **more).look(self.now)


class Task:
    """A scheduler's task."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.prefix = SimpleNamespace(name="fit")
        self.resource_restrictions = {"a": 1.0}


def test_each_worker_is_in_exactly_one_count() -> None:
    world = World()
    world.add("a-1", (Task("t"), 3.0))
    world.add("a-2", age_s=30.25)
    world.add("a-3", up=False, age_s=4.5)
    world.add("a-4", retiring=True)
    world.add("a-5", up=False, remote=SimpleNamespace(note="PENDING (Resources)", group="1"))
    world.pools["a"].desired = 5
    seen = world.look().pools["a"]
    assert (seen.busy, seen.idle, seen.starting, seen.draining, seen.unbilled) == (1, 1, 3, 1, 1)
    assert seen.live == world.pools["a"].desired
    assert seen.idle_ages == pytest.approx([30.25])
    assert seen.start_ages == pytest.approx([4.5, 0.0, 0.0])


def test_start_ups_and_failures_are_shown_once() -> None:
    world = World()
    world.pools["a"].startups.extend([2.0, 3.0])
    world.pools["a"].failed = 2
    watch = world.observer()
    first, second = watch.look(1.0).pools["a"], watch.look(2.0).pools["a"]
    assert (list(first.startups), first.failed) == ([2.0, 3.0], 2)
    assert (list(second.startups), second.failed) == ([], 0)


def test_what_runs_is_told_from_what_stands_in_line_on_the_same_worker() -> None:
    world = World(threads=2)
    tasks = [Task(f"t{i}") for i in range(5)]
    world.add("a-1", (tasks[0], 8.0), *((one, -1.0) for one in tasks[1:]))
    world.counter._kinds[FIT] = Demand(ready=6)
    seen = world.look().tags["fit"]
    assert (seen.running, seen.queued) == (2, 4)
    assert sorted(round(age) for age, _ in seen.running_for) == [0, 8]


def test_a_task_began_when_it_began_whatever_a_later_heartbeat_says() -> None:
    world = World()
    running = Task("t")
    world.add("a-1", (running, 8.0))
    world.counter._kinds[FIT] = Demand(ready=1)
    watch = world.observer()
    (first,) = watch.look(1000.0).tags["fit"].running_for
    world.workers["a-1"].executing[running] = 8.9
    (second,) = watch.look(1002.0).tags["fit"].running_for
    assert second[0] - first[0] == pytest.approx(2.0)


def test_sizes_of_what_waits_do_not_count_what_runs() -> None:
    world = World()
    world.counter.size_of = lambda _key: 64.0
    world.add("a-1", (Task("t"), 1.0))
    demand = world.counter._kinds[FIT] = Demand(ready=3)
    demand.steps[step_of_size(64.0)] = 2
    demand.steps[step_of_size(4096.0)] = 1
    assert world.look().tags["fit"].queued_sizes == [(64.0, 1), (4096.0, 1)]


def test_the_pool_that_is_meant_for_a_task_comes_first_and_the_dearest_last() -> None:
    def component(name: str, cpus: float, *tags: str) -> ComponentSpec:
        return ComponentSpec(name, ResourceRequest(cpus), tags=tags)

    world = World(component("big", 64, "a"), component("small", 2, "a"), component("a", 8))
    world.counter._kinds[FIT] = Demand(ready=1)
    assert world.look().tags["fit"].info.pools == ("a", "small", "big")


def test_prices_are_dollars_only_where_every_pool_has_one() -> None:
    world = World(ComponentSpec("a", ResourceRequest(4)), ComponentSpec("b", ResourceRequest(2)))
    rates = {"a": Rate(0.5, 60.0), "b": Rate(0.1)}
    seen = world.look(Beforehand(rates)).pools
    assert (seen["a"].info.price_per_s, seen["a"].info.usd_per_s, seen["a"].info.min_bill_s) == (0.5, 0.5, 60.0)
    mixed = world.look(Beforehand({"a": Rate(0.5)})).pools
    assert (mixed["a"].info.price_per_s, mixed["b"].info.price_per_s, mixed["b"].info.usd_per_s) == (4.0, 2.0, None)


def test_what_is_free_is_cheaper_than_all_that_is_not_but_no_reason_to_hold_it() -> None:
    world = World(ComponentSpec("a"), ComponentSpec("b"))
    seen = world.look(Beforehand({"a": Rate(0.0), "b": Rate(0.2)})).pools
    assert 0 < seen["a"].info.price_per_s < seen["b"].info.price_per_s
    assert seen["a"].info.usd_per_s == 0.0


def test_a_pool_has_the_least_of_what_the_run_the_target_and_the_plan_allow() -> None:
    world = World(ComponentSpec("a"), ComponentSpec("b"))
    seen = world.look(most={"b": 4}).pools
    assert (seen["a"].info.limit, seen["b"].info.limit) == (9, 4)


def test_history_that_is_read_late_is_shown_from_then_on() -> None:
    world = World()
    world.counter._kinds[FIT] = Demand(ready=1)
    recalled = Recalled()
    watch = world.observer(Beforehand(recalled=recalled, prior_s={"fit": 7.0}))
    before = watch.look(1.0).tags["fit"].info
    recalled._known["fit"] = ((None, 3.0),)
    after = watch.look(2.0).tags["fit"].info
    assert (before.history, before.prior_s, after.history) == ((), 7.0, ((None, 3.0),))


def test_looking_again_at_what_has_not_changed_shows_the_same_facts_not_new_ones() -> None:
    world = World()
    world.counter._kinds[FIT] = Demand(ready=1)
    watch = world.observer()
    first, second = watch.look(1.0), watch.look(2.0)
    assert first.tags["fit"].info is second.tags["fit"].info
    assert first.pools["a"].info is second.pools["a"].info


def test_groups_are_shown_to_those_who_ask_for_them() -> None:
    world = World()
    remote = SimpleNamespace(note="", group="job-1")
    world.add("a-1", (Task("t"), 1.0), (Task("u"), -1.0), age_s=5, remote=remote)
    world.add("a-2", age_s=5, remote=remote)
    world.add("a-3", up=False, age_s=2)
    assert world.look().pools["a"].groups == ()
    first, second = world.look(groups=True).pools["a"].groups
    assert (first.name, first.workers, first.waiting, first.running, first.age_s) == ("job-1", 2, 1, 1, 5.0)
    assert (second.name, second.workers, second.age_s) == ("a-3", 0, 2.0)


def test_a_pool_that_was_given_up_holds_no_places_that_others_could_have() -> None:
    world = World()
    world.pools["a"].desired, world.pools["a"].broken = 4, "no licence"
    assert world.look().pools["a"].live == 0


def test_a_worker_that_cannot_leave_is_not_asked_to_again_and_again() -> None:
    world = World()
    world.add("a-1", stuck=True)
    seen = world.look().pools["a"]
    assert (seen.idle, seen.busy) == (0, 1)


def test_a_pool_that_comes_later_is_for_tasks_that_are_there_and_counts_in_prices_and_limits() -> None:
    world = World()
    world.counter._kinds[FIT] = Demand(ready=1)
    watch = world.observer(Beforehand({"a": Rate(0.5)}))
    before = watch.look(1.0)
    later = PoolShape(ComponentSpec("b", ResourceRequest(4), tags=("a",)), 1)
    world.cluster.pools = world.pools | {"b": Pool(later)}
    world.cluster.maximum = 12
    world.router.add(later)
    after = watch.look(2.0)
    assert (before.tags["fit"].info.pools, after.tags["fit"].info.pools) == (("a",), ("a", "b"))
    assert (before.limit, after.limit) == (9, 12)
    assert (before.pools["a"].info.price_per_s, after.pools["a"].info.price_per_s) == (0.5, 1.0)
