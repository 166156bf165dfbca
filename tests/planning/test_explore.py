"""What the search chooses, from plain data and without a manifest."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scalable.errors import PlanError
from scalable.planning import PoolModel, TaskGroup, Workload, search

HOUR = 3600.0


def work(count: int = 100, *seconds: float, **more: Any) -> Workload:
    return Workload.of([TaskGroup("g", "p", count, seconds or (60.0,), **more)])


def pool(**more: Any) -> PoolModel:
    return PoolModel("p", **{"limit": 1000, "boot_s": (30.0,), "price_per_s": 0.01, **more})


def test_minimize_cost_takes_the_fewest_workers_that_keep_the_deadline_with_headroom() -> None:
    found = search(work(), [pool()], objective="minimize cost", deadline_s=HOUR)
    assert found.point.counts == {"p": 3}  # 34 rounds of 60 s and a start are 2070 s; two workers took 3030 s
    assert found.within
    assert found.point.time_s.high * 1.2 <= HOUR


def test_the_aggressive_policy_leaves_no_headroom() -> None:
    deadline = 30 + 50 * 60
    assert search(work(), [pool()], objective="minimize cost", deadline_s=deadline).point.counts == {"p": 3}
    found = search(work(), [pool()], objective="minimize cost", policy="aggressive", deadline_s=deadline)
    assert found.point.counts == {"p": 2}


def test_minimize_time_takes_the_most_workers_that_still_help() -> None:
    found = search(work(), [pool()], objective="minimize time")
    assert found.point.counts == {"p": 100}
    assert "more workers would not help" in found.limited_by
    limited = search(work(), [pool(limit=25)], objective="minimize time")
    assert limited.point.counts == {"p": 25}
    assert "workers there can be" in limited.limited_by


def test_minimize_time_stays_within_the_budget() -> None:
    everything = 0.01 * (100 * 60 + 100 * 30)
    found = search(work(), [pool()], objective="minimize time", budget=everything - 5)
    assert found.point.cost.high <= everything - 5
    assert found.point.counts == {"p": 50}  # more save no round before there are 100
    assert "budget" in found.limited_by


def test_balance_is_the_least_product_of_cost_and_time() -> None:
    found = search(work(), [pool()], objective="balance")
    products = {n: (100 * 60 + 30 * n) * (30 + 60 * -(-100 // n)) for n in range(1, 101)}
    (chosen,) = found.point.counts.values()
    assert products[chosen] == min(products.values())


def test_the_front_has_both_ends_and_nothing_that_is_slower_and_dearer() -> None:
    front = search(work(), [pool()]).front
    times, costs = [one.time_s.mean for one in front], [one.cost.mean for one in front]
    assert times == sorted(times)
    assert costs == sorted(costs, reverse=True)
    assert (front[0].counts, front[-1].counts) == ({"p": 100}, {"p": 1})


def test_bounds_that_cannot_be_kept_are_missed_by_as_little_as_possible_and_said() -> None:
    found = search(work(), [pool(limit=10)], objective="minimize cost", deadline_s=300.0)
    assert not found.feasible
    assert found.point.counts == {"p": 10}
    assert found.missed == {"deadline_s": pytest.approx(630 - 300)}
    poor = search(work(), [pool()], objective="minimize time", budget=50.0)
    assert poor.missed == {"budget": pytest.approx(60.3 - 50)}
    assert poor.point.counts == {"p": 1}


def test_a_narrow_budget_does_not_make_the_run_many_times_as_long() -> None:
    past = tuple(np.random.default_rng(1).lognormal(4.0, 1.0, 50))
    slow = pool(boot_s=(100.0,))
    cheapest = search(work(100, *past), [slow], objective="minimize cost", policy="aggressive").point
    found = search(work(100, *past), [slow], objective="minimize time", budget=cheapest.cost.median * 1.15)
    assert (found.feasible, found.within) == (True, False)
    assert found.point.time_s.mean < cheapest.time_s.mean / 3


def test_a_deadline_that_leaves_too_little_headroom_still_gets_most_of_it() -> None:
    past, limited = tuple(np.random.default_rng(1).lognormal(4.0, 0.5, 50)), pool(limit=20)
    fastest = search(work(200, *past), [limited], objective="minimize time").point
    found = search(work(200, *past), [limited], objective="minimize cost", deadline_s=fastest.time_s.high * 1.15)
    assert (found.feasible, found.within) == (True, False)
    assert found.point.counts["p"] >= 19


def test_workers_that_cost_as_much_however_short_they_live_are_fewer() -> None:
    without = search(work(), [pool()]).point.counts["p"]
    assert search(work(), [pool(min_bill_s=1800.0)]).point.counts["p"] < without / 2


def test_pools_one_after_the_other_may_each_have_all_workers() -> None:
    groups = [TaskGroup("a", "p", 40, (60.0,)), TaskGroup("b", "q", 40, (60.0,), after=("a",))]
    pools = [pool(), PoolModel("q", limit=1000, boot_s=(30.0,))]
    found = search(Workload.of(groups), pools, objective="minimize time", limit=20)
    assert found.point.counts == {"p": 20, "q": 20}
    assert found.point.peak == 20


@settings(max_examples=15, deadline=None)
@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    limit=st.integers(6, 30),
    objective=st.sampled_from(["minimize cost", "minimize time", "balance"]),
    chain=st.booleans(),
)
def test_no_choice_has_more_workers_than_there_may_be(
    counts: list[int], limit: int, objective: str, *, chain: bool
) -> None:
    groups = [
        TaskGroup(f"g{n}", f"p{n}", count, (5.0, 10.0, 40.0), after=(f"g{n - 1}",) if chain and n else ())
        for n, count in enumerate(counts)
    ]
    pools = [PoolModel(f"p{n}", limit=8, boot_s=(10.0, 20.0)) for n in range(len(counts))]
    point = search(Workload.of(groups), pools, objective=objective, limit=limit).point
    assert point.peak <= limit
    assert all(1 <= count <= 8 for count in point.counts.values())


def test_the_same_question_has_the_same_answer() -> None:
    asked = work(300, 10.0, 20.0, 90.0)
    first = search(asked, [pool()])
    assert search(asked, [pool()]) == first


def test_a_hundred_thousand_tasks_take_no_longer_to_plan_than_ten_thousand() -> None:
    def spent_on(count: int) -> float:
        random = np.random.default_rng(0)
        durations = [tuple(random.lognormal(2, 0.8, 100)) for _ in range(20)]
        groups = [
            TaskGroup(f"g{n}", f"p{n}", count, durations[n], after=(f"g{n - 5}",) if n > 4 else ()) for n in range(20)
        ]
        pools = [PoolModel(f"p{n}", 500, boot_s=(30.0, 50.0)) for n in range(20)]
        begun = time.thread_time()
        search(Workload.of(groups), pools)
        return time.thread_time() - begun

    # Ten times as much, if it grew with the tasks.
    assert min(spent_on(5_000) for _ in range(2)) < 4 * min(spent_on(500) for _ in range(2))


def test_words_that_are_not_known_are_refused_with_the_nearest() -> None:
    with pytest.raises(PlanError, match="did you mean 'minimize cost'"):
        search(work(), [pool()], objective="minimise cost")
    with pytest.raises(PlanError, match=r"policy 'save'.*did you mean 'safe'"):
        search(work(), [pool()], policy="save")
    with pytest.raises(PlanError, match="there are no tasks"):
        search(Workload(()), [pool()])


def test_the_cheapest_is_within_a_per_mille_of_all_that_keep_the_bounds_and_the_fastest_of_those() -> None:
    minute = tuple(60.0 * part for part in (0.75, 0.85, 0.95, 1.0, 1.05, 1.15, 1.3))
    found = search(work(100, *minute), [PoolModel("p", limit=50, boot_s=(2.0,), wait_s=(0.25,))],
                   objective="minimize cost", deadline_s=1000 * HOUR)  # fmt: skip
    least = found.front[-1].cost.mean
    assert found.point.cost.mean <= 1.001 * least
    assert all(one.cost.mean > 1.001 * least for one in found.front if one.time_s.mean < found.point.time_s.mean)
    free = search(work(), [pool(boot_s=(0.0,))], objective="minimize cost")
    assert free.point.counts == {"p": 100}  # workers that cost nothing to start cost the same however many
