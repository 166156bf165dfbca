"""A task that takes more memory than its worker has: it fails by name, or is tried again in a larger worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable import ScalableSession
from scalable.errors import TaskOutOfMemory
from tests.conftest import records

Write = Callable[..., Path]

MANIFEST = """\
version: 1
project: {name: memory}
targets:
  processes: {provider: local, max_workers: 2, processes: true}
components:
  simulate: {cpus: 1, memory: 400M, tags: [quick]}
tasks:
  hungry: {component: simulate, RETRY}
"""


def hungry(mebibytes: int) -> int:
    kept = []
    for _ in range(mebibytes // 20):
        kept.append(bytearray(b"x") * (20 * 2**20))
        time.sleep(0.05)
    return len(kept) * 20


def wait(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def attempts(session: ScalableSession) -> list[tuple[int, str, str]]:
    found = [one for one in records(session.run_dir, "tasks") if one["name"] == "hungry"]
    return [(one["attempt"], one["outcome"], one["worker"].rpartition("-")[0]) for one in found]


@pytest.mark.slow
def test_without_a_memory_step_retries_are_of_the_same_size_and_the_task_fails_in_the_end(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(MANIFEST.replace("RETRY", "retries: 1"))) as session:
        client = session.start()
        future = client.submit(hungry, 600)
        with pytest.raises(TaskOutOfMemory, match=r"task 'hungry-.*' ran out of memory: it reached \d+M of 400M"):
            future.result(timeout=100)
    assert attempts(session) == [(1, "failed", "simulate"), (2, "failed", "simulate")]
    failures = records(session.run_dir, "failures")
    assert {one["error_type"] for one in failures} == {"TaskOutOfMemory"}
    peaks = [one["peak_bytes"] for one in records(session.run_dir, "tasks") if one["name"] == "hungry"]
    assert min(peaks) > 300 * 2**20


@pytest.mark.slow
def test_with_a_memory_step_it_is_tried_again_in_a_larger_worker_and_others_stay(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(MANIFEST.replace("RETRY", "retries: 2, memory_step: 400M"))) as session:
        client = session.start()
        greedy = client.submit(hungry, 600)
        others = client.map(wait, [0.05] * 40, tag="quick")
        assert greedy.result(timeout=100) == 600
        assert sum(client.gather(others)) == pytest.approx(2.0)
        # The larger pool is for what was sent there: nobody else can ask for it.
        assert session.route("quick") == session.route("simulate") == "simulate"
    assert attempts(session) == [(1, "failed", "simulate"), (2, "completed", "simulate+400")]
    sizes = {one["tag"]: one["memory_bytes"] for one in records(session.run_dir, "workers") if one["memory_bytes"]}
    assert sizes == {"simulate": 400 * 2**20, "simulate+400": 800 * 2**20}


@pytest.mark.slow
def test_a_worker_that_dies_of_something_else_is_not_taken_for_one_out_of_memory(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(MANIFEST.replace("RETRY", "retries: 0"))) as session:
        client = session.start()
        future = client.submit(die_once, str(session.run_dir), name="hungry")
        assert future.result(timeout=60) == "alive"
    assert attempts(session) == [(1, "lost", "simulate"), (2, "completed", "simulate")]


def die_once(directory: str) -> str:
    import os
    import signal

    mark = Path(directory, "died")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"
