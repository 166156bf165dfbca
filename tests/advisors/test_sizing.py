from __future__ import annotations

import pytest
from dask import config
from hypothesis import given
from hypothesis import strategies as st

from scalable.advisors.sizing import ideal_workers, round_up, walltime_s, walltime_text, worker_bytes
from scalable.units import parse_duration

GIB = 2**30


@given(st.floats(2**20, 2**42), st.integers(1, 16))
def test_a_worker_of_the_size_that_is_given_neither_kills_its_tasks_nor_stops_beginning_others(
    task_bytes: float, tasks: int
) -> None:
    import distributed  # noqa: F401  (whose configuration it is)

    settings = config.get("distributed.worker.memory")
    assert settings["pause"] < settings["terminate"]
    assert task_bytes * tasks <= settings["pause"] * worker_bytes(task_bytes, tasks) * (1 + 1e-12)


@given(st.floats(1, 2**42))
def test_rounding_never_takes_away_and_adds_little(size: float) -> None:
    rounded = round_up(size)
    assert rounded >= size
    assert rounded - size < max(64 * 2**20, size / 15)


@given(st.floats(0.001, 1e6))
def test_a_walltime_is_longer_than_the_task_and_read_back_as_written(duration: float) -> None:
    seconds = walltime_s(duration)
    assert seconds >= max(60.0, 1.2 * duration * (1 - 1e-12))
    assert parse_duration(walltime_text(seconds)) == seconds


@given(st.floats(0.1, 1e7), st.floats(0.1, 1e4))
def test_no_other_number_of_workers_has_a_smaller_product_of_time_and_cost(work: float, startup: float) -> None:
    def product(workers: int) -> float:
        return (startup + work / workers) * (workers * startup + work)

    best = ideal_workers(work, startup, 0.0, 10**9)
    others = [one for one in (best - 1, best + 1, best // 2, 2 * best) if one >= 1]
    # Of two neighbours, rounding may choose the one that is worse by a hair.
    assert all(product(best) <= product(other) * 1.03 for other in others)


@pytest.mark.parametrize(
    ("work", "startup", "longest", "tasks", "workers"),
    [(3600, 60, 30, 1000, 60), (3600, 60, 900, 1000, 4), (3600, 1, 1, 7, 7), (10, 60, 10, 5, 1), (0, 60, 0, 0, 1)],
)
def test_workers_are_bounded_by_the_longest_task_and_by_the_number_of_tasks(
    work: float, startup: float, longest: float, tasks: int, workers: int
) -> None:
    assert ideal_workers(work, startup, longest, tasks) == workers
