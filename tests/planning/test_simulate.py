"""What the simulation says, against what can be worked out by hand or task by task."""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scalable.errors import PlanError
from scalable.planning import PoolModel, TaskGroup, Workload
from scalable.planning.simulate import Simulator, Worlds

POOL = PoolModel("p", boot_s=(5.0,))


def group(count: int, *seconds: float, name: str = "g", pool: str = "p", **more: Any) -> TaskGroup:
    return TaskGroup(name, pool, count, seconds, **more)


def run(*groups: TaskGroup, pools: tuple[PoolModel, ...] = (POOL,), **counts: int) -> Worlds:
    return Simulator(Workload.of(groups), pools).run(counts)


def seconds(worlds: Worlds) -> float:
    assert np.ptp(worlds.time_s) < 1e-6
    return float(worlds.time_s[0])


@pytest.mark.parametrize(("workers", "rounds"), [(1, 7), (2, 4), (3, 3), (6, 2), (7, 1), (9, 1)])
def test_equal_tasks_take_whole_rounds_after_the_start(workers: int, rounds: int) -> None:
    assert seconds(run(group(7, 10.0), p=workers)) == pytest.approx(5 + 10 * rounds)


@pytest.mark.parametrize(("tasks", "workers"), [(5000, 1250), (5001, 1250), (5000, 3), (900, 300)])
def test_rounds_are_whole_also_where_only_some_of_the_work_is_simulated(tasks: int, workers: int) -> None:
    exact = 5 + 10 * -(-tasks // workers)
    assert run(group(tasks, 10.0), p=workers).time_s == pytest.approx(exact, rel=0.002)


@pytest.mark.parametrize(("tasks", "workers"), [(40, 6), (700, 30), (3000, 4), (5000, 1700)])
def test_uneven_tasks_take_as_long_as_list_scheduling_task_by_task(tasks: int, workers: int) -> None:
    random = np.random.default_rng(1)
    past = random.lognormal(2.0, 0.8, 200)
    found = Simulator(Workload.of([group(tasks, *past)]), [POOL], worlds=100).run({"p": workers}).time_s
    exact = [list_scheduled(random.choice(past, tasks), workers) for _ in range(60)]
    assert found.mean() == pytest.approx(np.mean(exact), rel=0.03)
    assert np.quantile(found, 0.9) == pytest.approx(np.quantile(exact, 0.9), rel=0.08)


def list_scheduled(durations: Any, workers: int) -> float:
    heap, end = [5.0] * workers, 0.0
    for takes in durations:
        end = max(end, heap[0] + takes)
        heapq.heapreplace(heap, heap[0] + takes)
    return end


def test_a_group_begins_when_all_that_it_waits_for_is_done_and_its_pool_starts_only_then() -> None:
    second = group(1, 10.0, name="h", pool="q", after=("g",))
    worlds = run(group(4, 10.0), second, pools=(POOL, PoolModel("q", boot_s=(3.0,))), p=2, q=1)
    assert seconds(worlds) == pytest.approx(5 + 20 + 3 + 10)
    assert worlds.peak == 2
    assert worlds.worker_s["q"][0] == pytest.approx(13)


def test_a_group_that_waits_task_by_task_overlaps_with_the_other() -> None:
    pools = (POOL, PoolModel("q", boot_s=(0.0,)))
    chained = group(4, 10.0, name="h", pool="q", each=("g",))
    assert seconds(run(group(4, 10.0), chained, pools=pools, p=1, q=1)) == pytest.approx(5 + 50)
    waiting = replace(chained, each=(), after=("g",))
    assert seconds(run(group(4, 10.0), waiting, pools=pools, p=1, q=1)) == pytest.approx(5 + 80)


def test_groups_of_one_pool_share_its_workers() -> None:
    assert seconds(run(group(2, 10.0), group(4, 10.0, name="h"), p=2)) == pytest.approx(5 + 30)


def test_a_worker_runs_as_many_tasks_as_fit_and_a_large_one_takes_several_places() -> None:
    assert seconds(run(group(8, 10.0, slots=4), p=1)) == pytest.approx(5 + 20)
    large = group(2, 10.0, name="h", slots=2)
    assert seconds(run(group(4, 10.0, slots=4), large, p=1)) == pytest.approx(5 + 20)


def test_workers_are_paid_from_their_boot_to_their_last_task() -> None:
    pool = PoolModel("p", wait_s=(100.0,), boot_s=(5.0,), price_per_s=2.0)
    worlds = run(group(3, 10.0), pools=(pool,), p=2)
    assert seconds(worlds) == pytest.approx(125)
    assert worlds.cost[0] == pytest.approx(2 * ((5 + 20) + (5 + 10)))


def test_the_least_bill_counts_for_each_worker() -> None:
    worlds = run(group(3, 10.0), pools=(replace(POOL, min_bill_s=60.0),), p=3)
    assert worlds.worker_s["p"][0] == pytest.approx(180)


def test_workers_that_still_wait_when_all_is_done_cost_nothing() -> None:
    pool = PoolModel("p", wait_s=(0.0, 1000.0), boot_s=(5.0,))
    worlds = run(group(20, 1.0), pools=(pool,), p=2)
    quick = worlds.time_s < 100
    assert quick.any()
    one_came_late = worlds.worker_s["p"][quick] < 26
    assert one_came_late.any()


@pytest.mark.parametrize(("between_s", "paid_s"), [(3.0, 5 + 10 + 3 + 10), (300.0, 2 * (5 + 10))])
def test_a_worker_waits_for_its_pools_next_work_only_if_that_is_shorter_than_a_start(
    between_s: float, paid_s: float
) -> None:
    other = group(1, between_s, name="h", pool="q", after=("g",))
    last = group(1, 10.0, name="i", after=("h",))
    pools = (POOL, PoolModel("q", boot_s=(0.0,)))
    worlds = run(group(1, 10.0), other, last, pools=pools, p=1, q=1)
    assert worlds.worker_s["p"][0] == pytest.approx(paid_s)


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(PlanError, match="pool 'q', which is not there"):
        run(group(1, 1.0, pool="q"))
    with pytest.raises(PlanError, match="'g': it is not known how long"):
        run(group(1), p=1)
    with pytest.raises(PlanError, match="wait for 'z', of which there are none"):
        Workload.of([group(1, 1.0, after=("z",))])
    with pytest.raises(PlanError, match="in a circle: g, h"):
        Workload.of([group(1, 1.0, after=("h",)), group(1, 1.0, name="h", after=("g",))])


def test_a_pool_whose_tasks_come_one_by_one_starts_with_the_first_of_them() -> None:
    pools = (POOL, PoolModel("q", boot_s=(3.0,)))
    worlds = run(group(4, 10.0), group(8, 2.0, name="h", pool="q", each=("g",)), pools=pools, p=1, q=1)
    # The first comes at 15, each next one after ten seconds more, and each brings two.
    assert seconds(worlds) == pytest.approx(45 + 4)
    assert worlds.worker_s["q"][0] == pytest.approx(49 - 15)


def test_a_group_may_wait_for_all_of_one_and_one_by_one_for_another() -> None:
    last = group(2, 10.0, name="i", pool="q", after=("h",), each=("g",))
    slow = group(1, 100.0, name="h", pool="r")
    pools = (POOL, PoolModel("q", boot_s=(3.0,)), PoolModel("r", boot_s=(0.0,)))
    assert seconds(run(group(2, 10.0), slow, last, pools=pools, p=1, q=1, r=1)) == pytest.approx(100 + 3 + 20)


def test_very_many_workers_cost_what_they_are() -> None:
    worlds = run(group(100_000, 10.0), p=10_000)
    assert worlds.time_s == pytest.approx(105)
    assert worlds.cost == pytest.approx(10_000 * 105)
