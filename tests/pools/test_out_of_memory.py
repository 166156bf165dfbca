"""A task that takes more memory than its worker has: it fails by name, or is tried again in a larger worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import KilledWorker

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


def load() -> bytearray:
    return bytearray(30 * 2**20)


def hungry_of(block: bytearray, mebibytes: int) -> int:
    return hungry(mebibytes) + len(block)


@pytest.mark.slow
def test_it_fails_although_its_input_died_with_the_worker_and_is_made_anew(manifest: Write) -> None:
    text = MANIFEST.replace("RETRY", "retries: 0").replace("max_workers: 2", "max_workers: 1")
    with ScalableSession.from_yaml(manifest(text)) as session:
        client = session.start()
        block = client.submit(load, tag="quick")
        future = client.submit(hungry_of, block, 600, name="hungry")
        with pytest.raises(TaskOutOfMemory, match="ran out of memory"):
            future.result(timeout=100)
        assert client.submit(wait, 0.01, tag="quick").result(timeout=60) == 0.01
    assert attempts(session) == [(1, "failed", "simulate")]


@pytest.mark.slow
def test_of_several_in_one_worker_the_one_that_took_the_memory_is_found_and_the_others_go_on(manifest: Write) -> None:
    text = (
        MANIFEST.replace("RETRY", "retries: 0")
        .replace("cpus: 1", "cpus: 3")
        .replace("max_workers: 2", "max_workers: 1")
    )
    with ScalableSession.from_yaml(manifest(text)) as session:
        client = session.start()
        good = client.map(wait, [3.0, 3.1], tag="quick")
        greedy = client.submit(hungry, 600)
        with pytest.raises(TaskOutOfMemory):
            greedy.result(timeout=100)
        assert client.gather(good) == [3.0, 3.1]
    assert [outcome for _, outcome, _ in attempts(session)] == ["lost", "failed"]


@pytest.mark.slow
def test_where_the_larger_worker_takes_the_only_place_the_others_get_it_back(manifest: Write) -> None:
    text = MANIFEST.replace("RETRY", "retries: 1, memory_step: 400M").replace("max_workers: 2", "max_workers: 1")
    with ScalableSession.from_yaml(manifest(text)) as session:
        client = session.start()
        greedy = client.submit(hungry, 600)
        assert greedy.result(timeout=100) == 600
        # Its result is held, and only where the worker was that has to leave.
        assert client.submit(wait, 0.01, tag="quick").result(timeout=60) == 0.01
        assert greedy.result() == 600


@pytest.mark.slow
def test_who_killed_the_worker_is_known_from_its_first_moment_on(manifest: Write) -> None:
    with ScalableSession.from_yaml(manifest(MANIFEST.replace("RETRY", "retries: 0"))) as session:
        client = session.start()
        killers = [client.submit(die, name="hungry", priority=-number) for number in range(3)]
        others = client.map(wait, [0.01] * 60, tag="quick")
        assert sum(client.gather(others)) == pytest.approx(0.6)
        for killer in killers:
            with pytest.raises(KilledWorker, match="hungry"):
                killer.result(timeout=100)
    lost = [one["name"] for one in records(session.run_dir, "tasks") if one["outcome"] == "lost"]
    # With each of them at most one that had just ended, of which the worker could say so no more.
    assert set(lost) <= {"hungry", "wait"}
    assert lost.count("wait") <= lost.count("hungry")


def die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def die_once(directory: str) -> str:
    import os
    import signal

    mark = Path(directory, "died")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"
