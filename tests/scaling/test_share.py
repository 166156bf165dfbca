from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from scalable.scaling.share import PoolLoad, share
from scalable.spec import Limits

FIXED = Limits(4, 4)


def load(name: str, workers: int, ready: int, surplus_s: float = 0.0, threads: int = 1) -> PoolLoad:
    return PoolLoad(name, workers, threads, ready, surplus_s)


def test_pools_that_have_what_they_need_stay_as_they_are() -> None:
    assert share([load("a", 3, 10), load("b", 1, 5)], FIXED).counts == {}


def test_a_pool_with_work_and_no_worker_gets_a_free_place_first() -> None:
    decision = share([load("a", 2, 9), load("b", 0, 1)], FIXED)
    assert decision.counts["b"] == 1
    assert decision.reasons["b"] == "1 tasks ready and no worker"


def test_a_pool_with_work_and_no_worker_takes_one_from_a_busy_pool_that_has_several() -> None:
    assert share([load("a", 4, 100), load("b", 0, 1)], FIXED).counts == {"a": 3, "b": 1}


def test_the_last_worker_of_a_busy_pool_is_never_taken() -> None:
    assert share([load("a", 1, 5), load("b", 0, 5)], Limits(1, 1)).counts == {}


def test_the_last_worker_of_a_pool_without_work_is_taken_at_once_for_one_that_starves() -> None:
    assert share([load("a", 1, 0, surplus_s=0.1), load("b", 0, 5)], Limits(1, 1)).counts == {"a": 0, "b": 1}


def test_an_idle_workers_place_goes_to_a_pool_that_misses_workers_once_that_is_settled() -> None:
    soon = [load("a", 3, 0, surplus_s=1.0), load("b", 1, 9)]
    later = [load("a", 3, 0, surplus_s=5.0), load("b", 1, 9)]
    assert share(soon, FIXED).counts == {}
    assert share(later, FIXED).counts == {"a": 0, "b": 4}


def test_a_worker_that_took_long_to_get_is_kept_for_as_long_before_another_pool_gets_its_place() -> None:
    hard_won = PoolLoad("a", 3, 1, 0, surplus_s=50.0, startup_s=60.0)
    starved = load("b", 1, 9)
    assert share([hard_won, starved], FIXED).counts == {}
    assert share([replace(hard_won, surplus_s=61.0), starved], FIXED).counts == {"a": 0, "b": 4}


def test_a_worker_that_took_long_to_get_is_kept_three_times_as_long_before_it_goes_for_good() -> None:
    hard_won = PoolLoad("a", 4, 1, 0, surplus_s=170.0, startup_s=60.0)
    assert share([hard_won], Limits(1, 4)).counts == {}
    assert share([replace(hard_won, surplus_s=181.0)], Limits(1, 4)).counts == {"a": 1}


def test_no_worker_is_kept_for_more_than_ten_minutes_however_long_it_was_in_coming() -> None:
    hard_won = PoolLoad("a", 4, 1, 0, surplus_s=601.0, startup_s=7200.0)
    assert share([hard_won], Limits(1, 4)).counts == {"a": 1}


def test_workers_are_counted_by_the_tasks_they_run_at_a_time() -> None:
    assert share([load("a", 0, 10, threads=4)], Limits(0, 9)).counts == {"a": 3}


def test_an_adaptive_run_lets_idle_workers_go_down_to_its_minimum_after_a_while() -> None:
    limits = Limits(1, 4)
    assert share([load("a", 4, 0, surplus_s=5.0)], limits).counts == {}
    assert share([load("a", 4, 0, surplus_s=11.0)], limits).counts == {"a": 1}


def test_a_run_below_its_minimum_is_filled_up() -> None:
    assert share([load("a", 0, 0), load("b", 1, 3)], Limits(2, 2)).counts == {"b": 2}


pools = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 40), st.floats(0, 60), st.integers(1, 4)), min_size=1, max_size=5
)


@given(pools, st.integers(0, 12), st.integers(1, 12))
def test_no_decision_breaks_a_bound_or_takes_a_worker_that_is_needed(
    rows: list[tuple[int, int, float, int]], minimum: int, maximum: int
) -> None:
    limits = Limits(min(minimum, maximum), maximum)
    loads = [PoolLoad(f"p{i}", *_first(row), row[1], row[2]) for i, row in enumerate(rows)]
    before = sum(one.workers for one in loads)
    after = {one.name: one.workers for one in loads} | share(loads, limits).counts
    assert all(count >= 0 for count in after.values())
    assert sum(after.values()) <= max(before, limits.maximum)
    assert sum(after.values()) >= min(before, limits.minimum)
    for one in loads:
        if one.useful and one.workers:
            assert after[one.name] >= 1
    starving = [one for one in loads if one.useful and not after[one.name]]
    if starving:
        assert all(after[one.name] <= min(1, one.useful) for one in loads) or before > limits.maximum


def _first(row: tuple[int, int, float, int]) -> tuple[int, int]:
    return row[0], row[3]


@given(pools, st.integers(1, 12))
def test_a_decision_that_is_applied_is_not_taken_back(rows: list[tuple[int, int, float, int]], maximum: int) -> None:
    limits = Limits(0, maximum)
    loads = [PoolLoad(f"p{i}", *_first(row), row[1], row[2]) for i, row in enumerate(rows)]
    counts = share(loads, limits).counts
    settled = [PoolLoad(one.name, counts.get(one.name, one.workers), one.threads, one.ready, 0.0) for one in loads]
    again = share(settled, limits).counts
    for name, count in again.items():
        first = counts.get(name)
        was = next(one.workers for one in loads if one.name == name)
        if first is not None and first > was:
            assert count >= first
