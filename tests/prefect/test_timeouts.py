"""Timeouts hold whatever a task does, though workers run tasks in threads."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest
from distributed import get_worker, worker_client
from prefect import flow, get_run_logger, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.runtime import task_run

from scalable import ScalableSession
from scalable_prefect import ScalableTaskRunner, deadline
from tests.prefect.helpers import eventually


def block(seconds: float) -> None:
    """Sleep where no exception of Python's arrives."""
    ctypes.CDLL(None).usleep(int(seconds * 1e6))


@task
def ident(x: Any) -> Any:
    return x


@task(timeout_seconds=0.3)
def stuck() -> None:
    block(2)


@task(timeout_seconds=0.4, retries=2)
def stuck_at_first(marks: Path) -> int:
    with marks.open("a") as file:
        file.write("x")
    if marks.stat().st_size < 3:
        block(2)
    return int(task_run.run_count)


@task(timeout_seconds=0.3)
def spin(ended: Path) -> None:
    try:
        while True:
            time.sleep(0.01)
    finally:
        ended.touch()


@task(timeout_seconds=0.2)
async def drowse() -> None:
    await asyncio.sleep(30)


@task(timeout_seconds=30)
def at_home(x: int) -> tuple[Any, ...]:
    get_run_logger().info("as usual")
    with worker_client() as client:
        seven = client.submit(int, "7", key=f"seven-{x}").result()
    return x, str(get_worker().name), str(task_run.name), seven, ident.submit(x).result()


@task(timeout_seconds=30)
def awry() -> None:
    raise KeyError("as usual")


@task(timeout_seconds=30)
def count() -> Any:
    yield from range(3)


@task(timeout_seconds=0.3)
def count_slowly() -> Any:
    yield 1
    block(2)


def test_an_attempt_ends_in_time_though_its_code_blocks_and_the_worker_serves_others(
    runner: ScalableTaskRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @flow(task_runner=runner)
    def late() -> list[Any]:
        # The slot is taken for so long only if the timeout does not hold: they all go to one worker.
        futures = [stuck.submit(), stuck_at_first.submit(tmp_path / "marks"), count_slowly.submit(), ident.submit(1)]
        for future in futures:
            future.wait(60)
        assert [future.state.name for future in futures] == ["TimedOut", "Completed", "TimedOut", "Completed"]
        assert futures[0].state.message == "Task run exceeded timeout of 0.3 second(s)"
        error = futures[0].result(raise_on_failure=False)
        assert isinstance(error, TimeoutError)
        return [futures[1].result(), futures[3].result()]

    with caplog.at_level(logging.WARNING):
        assert late() == [3, 1]
    texts = [record.getMessage() for record in caplog.records]
    assert not [text for text in texts if "cannot interrupt" in text]
    if runner.session is None:
        (told,) = [text for text in texts if text.startswith("Task 'stuck' timed out after 0.3 second(s)")]
        assert "its code goes on in block" in told


def test_code_that_can_be_interrupted_does_end(runner: ScalableTaskRunner, tmp_path: Path) -> None:
    @flow(task_runner=runner)
    def endless() -> list[str | None]:
        states = [spin.submit(tmp_path / "ended", return_state=True), drowse.submit(return_state=True)]
        assert eventually((tmp_path / "ended").exists)
        return [state.name for state in states]

    assert endless() == ["TimedOut", "TimedOut"]


def test_a_task_with_a_timeout_finds_everything_as_without(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def usual() -> Any:
        inside = [at_home.submit(x) for x in range(2)]
        with pytest.raises(KeyError, match="as usual"):
            awry.submit().result()
        assert count.submit().result() == [0, 1, 2]
        return [future.result() for future in inside]

    for x, (got, worker, name, seven, nested) in enumerate(usual()):
        assert (got, worker.rsplit("-", 1)[0], seven, nested) == (x, "default", 7, x)
        assert name.startswith("at_home-")


def test_cache_keys_are_those_of_the_task_itself(runner: ScalableTaskRunner, tmp_path: Path) -> None:
    policy = INPUTS + TASK_SOURCE

    @task(timeout_seconds=30, cache_policy=policy, persist_result=True)
    def one(marks: Path) -> int:
        marks.touch()
        return 1

    @task(timeout_seconds=30, cache_policy=policy, persist_result=True)
    def other(marks: Path) -> int:
        marks.touch()
        return 2

    @flow(task_runner=runner)
    def cached() -> list[int]:
        return [one.submit(tmp_path / "marks").result(), other.submit(tmp_path / "marks").result()]

    assert cached() == [1, 2]


@pytest.mark.slow
def test_a_worker_process_in_which_code_hangs_is_replaced_and_loses_no_result(
    processes: ScalableSession,
) -> None:
    client = processes.client.dask

    def hurry(seconds: float) -> None:
        deadline._REPLACE_AFTER_S = seconds

    @task(timeout_seconds=0.2)
    def hang() -> None:
        block(170)

    @task
    def large() -> tuple[int, bytes]:
        return os.getpid(), bytes(200_000)

    @task
    def process() -> int:
        return os.getpid()

    @flow(task_runner=ScalableTaskRunner(session=processes))
    def hanging() -> tuple[int, int, int]:
        kept = large.submit()
        kept.wait()
        hang.submit().wait()
        before = set(client.run(os.getpid).values())
        eventually(lambda: set(client.run(os.getpid).values()) - before, seconds=60)
        was, content = kept.result()
        return was, process.submit().result(), len(content)

    patience = deadline._REPLACE_AFTER_S
    client.run(hurry, 0.2)
    was, now, size = hanging()
    client.run(hurry, patience)
    assert was != now
    assert size == 200_000


def test_outside_of_workers_nothing_changes() -> None:
    assert deadline.enforced(ident) is ident
    assert deadline.enforced(drowse) is drowse
    limited = deadline.enforced(at_home)
    assert limited is not at_home
    assert limited.timeout_seconds == 30
    with pytest.raises(KeyError):
        deadline.enforced(awry).fn()
