"""What a task has submitted ends with it: waited for, and cancelled where the task ran out of time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from prefect import flow, task

from scalable_prefect import ScalableTaskRunner
from tests.prefect.helpers import eventually


@task
def note(where: Path, seconds: float) -> int:
    time.sleep(seconds)
    where.touch()
    return 1


@task
def careless(where: Path) -> str:
    note.submit(where, 0.3)
    return "done"


@task(timeout_seconds=1)
def late(where: Path) -> str:
    return str(note.submit(where, 30).result())


@task
def parent(x: int) -> int:
    return int(note.with_options(name="child").submit(Path("/dev/null"), 0).result()) + x


def test_a_task_that_does_not_wait_for_what_it_submitted_ends_after_it(
    runner: ScalableTaskRunner, tmp_path: Path
) -> None:
    @flow(task_runner=runner)
    def study() -> tuple[str, bool]:
        result = careless.submit(tmp_path / "child").result()
        return result, (tmp_path / "child").exists()

    assert study() == ("done", True)


def test_what_a_task_submitted_that_ran_out_of_time_is_cancelled(runner: ScalableTaskRunner, tmp_path: Path) -> None:
    @flow(task_runner=runner)
    def study() -> tuple[str, float]:
        future = late.submit(tmp_path / "child")
        began = time.monotonic()
        future.wait()
        return str(future.state.name), time.monotonic() - began

    name, seconds = study()
    assert name == "TimedOut"
    assert seconds < 25
    assert not (tmp_path / "child").exists()


def test_no_threads_are_left_of_tasks_that_submitted_others(server: str, manifest_path: Path) -> None:
    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    def study() -> tuple[int, list[str]]:
        total = sum(parent.map(range(6)).result())
        eventually(lambda: len(ours()) <= 2)
        return total, ours()

    def ours() -> list[str]:
        names = (thread.name for thread in threading.enumerate())
        return [name for name in names if name in {"scalable-prefect-send", "scalable-prefect-collect"}]

    total, left = study()
    assert total == 21
    assert len(left) == 2
