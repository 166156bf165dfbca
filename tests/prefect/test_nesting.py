"""Tasks that submit tasks and call flows: a pool with one slot is enough for any depth."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import threading
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, LocalCluster, get_worker
from prefect import flow, task, unmapped
from prefect.futures import as_completed, wait
from prefect.runtime import flow_run

from scalable import ScalableSession
from scalable_prefect import ScalableTaskRunner, slots
from tests.prefect.helpers import eventually

ONE_SLOT = """\
version: 1
project: {name: narrow}
targets:
  threads: {provider: local, max_workers: 1}
  processes: {provider: local, max_workers: 1, processes: true}
components:
  default: {cpus: 1, memory: 1G}
"""


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
def fail() -> None:
    raise ValueError("deep down")


@task
def family(depth: int) -> int:
    """Count descendants, three ways of waiting for them after one another."""
    if depth == 0:
        return 1
    twins = sum(family.map([depth - 1, 0]).result())
    completed = sum(future.result() for future in as_completed([add.submit(1, 1), add.submit(2, 2)]))
    done, not_done = wait([add.submit(3), add.submit(4)], timeout=60)
    assert not not_done
    mapped = add.map([1, 2], unmapped(1))
    mapped.wait()
    return 1 + twins + 0 * (completed + sum(future.result() for future in (*done, *mapped)))


@task
async def family_async(depth: int) -> int:
    if depth == 0:
        return 1
    futures = family_async.map([depth - 1, 0])
    # One blocks the task's loop, the other a thread beside it.
    return 1 + futures[0].result() + await asyncio.to_thread(futures[1].result)


@task
def looks_back() -> tuple[int, int]:
    """Wait with a slot that is given away, and take it back."""
    first = add.submit(1)
    for future in as_completed([first]):
        future.result()
    return add.submit(first, 1).result(), int(add.submit(add.submit(1), 3).result())


@flow
def below(x: int) -> tuple[int, str | None]:
    return add.submit(x, 1).result(), flow_run.parent_flow_run_id


@task
def calls_flow(x: int) -> tuple[tuple[int, str | None], str]:
    return below(x), str(get_worker().name)


busy, release = threading.Event(), threading.Event()


def block() -> None:
    busy.set()
    release.wait(60)


def take_back(slot: slots.Slot) -> None:
    with contextlib.suppress(KeyError):
        slot.take_back()


def give_up(interrupted: bool) -> bool:
    """End while a thread of ours waits to take back the slot, which another task has; return whether it still waits."""
    worker = get_worker()
    with slots.held(worker, worker.get_current_task()):
        slot = slots.current()
        assert slot is not None
        slot.lend()
        assert busy.wait(60)
        waiting = threading.Thread(target=take_back, args=[slot])
        waiting.start()
        assert eventually(lambda: slot.executor()._rejoin_list)
        if interrupted:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(waiting.ident or 0), ctypes.py_object(KeyError))
            waiting.join(60)
        return bool(slot.executor()._rejoin_list)


def look(dask_worker: Any) -> tuple[float, int]:
    """Return what a worker has free, and how many of its threads live."""
    threads = [thread for thread in dask_worker.executors["default"]._threads if thread.is_alive()]
    return dask_worker.state.available_resources["gpu"], len(threads)


def books(session: ScalableSession) -> list[tuple[Any, ...]]:
    """Return what each worker has free, and how many threads beyond its own."""

    def look(dask_worker: Any) -> tuple[Any, ...]:
        own = dask_worker.state.total_resources == dask_worker.state.available_resources
        return own, len(dask_worker.executors["default"]._threads) <= dask_worker.state.nthreads

    return list(session.client.dask.run(look).values())


@pytest.mark.parametrize("target", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_tasks_wait_for_theirs_in_every_way_and_never_for_their_own_slot(
    server: str, tmp_path: Path, target: str
) -> None:
    (tmp_path / "scalable.yaml").write_text(ONE_SLOT)

    @flow(task_runner=ScalableTaskRunner(tmp_path / "scalable.yaml", target=target))
    def ancestry() -> list[int]:
        return [family.submit(2).result(timeout=90), family_async.submit(2).result(timeout=90)]

    assert ancestry() == [5, 5]


def test_a_slot_that_was_lent_is_taken_back_and_none_is_left_over(processes: ScalableSession) -> None:
    @flow(task_runner=ScalableTaskRunner(session=processes))
    def lending() -> list[Any]:
        return [looks_back.submit().result(timeout=60) for _ in range(2)]

    assert lending() == [(2, 4)] * 2
    in_order = {(True, True)}
    assert eventually(lambda: set(books(processes)), lambda seen: seen == in_order) == in_order


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_task_given_up_while_it_takes_its_slot_back_leaves_the_workers_books_in_order(*, interrupted: bool) -> None:
    busy.clear()
    release.clear()
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, resources={"gpu": 1}, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        given_up = client.submit(give_up, interrupted, resources={"gpu": 1})
        blocks = client.submit(block)
        still_waiting = given_up.result(60)
        release.set()
        blocks.result(60)
        assert eventually(lambda: list(client.run(look).values()), lambda seen: seen == [(1, 1)]) == [(1, 1)]
        assert still_waiting is not interrupted


def test_a_failure_deep_down_arrives_and_can_be_let_pass_on_the_way(runner: ScalableTaskRunner) -> None:
    @task
    def middle(*, tolerant: bool) -> str:
        return repr(fail.submit().result(raise_on_failure=not tolerant))

    @flow(task_runner=runner)
    def deep() -> str:
        with pytest.raises(ValueError, match="deep down"):
            middle.submit(tolerant=False).result()
        return middle.submit(tolerant=True).result()

    assert deep() == "ValueError('deep down')"


def test_a_flow_in_a_flow_has_a_runner_of_its_own(runner: ScalableTaskRunner) -> None:
    own = below.with_options(task_runner=runner)

    @flow(task_runner=runner)
    def above() -> list[Any]:
        return [str(flow_run.id), own(1), below(2), add.submit(3).result()]

    parent, first, second, mine = above()
    assert (first, second, mine) == ((2, parent), (3, parent), 3)


def test_a_task_on_a_worker_calls_a_flow(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def above() -> tuple[str, Any]:
        return str(flow_run.id), calls_flow.submit(5).result(timeout=60)

    parent, ((six, told_parent), worker) = above()
    assert (six, told_parent) == (6, parent)
    assert worker.startswith("default")
