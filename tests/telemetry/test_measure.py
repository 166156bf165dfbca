from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
import time

import pytest

from scalable.errors import TaskError
from scalable.telemetry import measure
from scalable.telemetry.measure import Measured, _Stopwatch, measured

MB = 2**20


@pytest.fixture(autouse=True)
def process_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(measure._activity.__dict__, "dedicated", True)


def test_a_peak_that_is_gone_at_the_end_is_seen() -> None:
    stopwatch = _Stopwatch()
    resting = measure._resident()
    block = bytearray(150 * MB)
    del block
    assert stopwatch.stop()["peak_bytes"] >= resting + 140 * MB


def test_the_peak_of_one_task_is_not_counted_for_the_next() -> None:
    first = _Stopwatch()
    block = bytearray(200 * MB)
    del block
    high = first.stop()["peak_bytes"]
    assert _Stopwatch().stop()["peak_bytes"] < high - 150 * MB


def test_memory_and_processor_time_of_child_processes_count() -> None:
    code = "b = bytearray(200 * 2**20)\nfrom time import process_time as t\nend = t() + 0.4\nwhile t() < end: pass"
    stopwatch = _Stopwatch()
    resting = measure._resident()
    subprocess.run([sys.executable, "-c", code], check=True)
    result = stopwatch.stop()
    assert result["peak_bytes"] >= resting + 190 * MB
    assert result["cpu_s"] >= 0.4


def test_sleeping_takes_time_but_no_processor() -> None:
    stopwatch = _Stopwatch()
    time.sleep(0.3)
    result = stopwatch.stop()
    assert result["duration_s"] >= 0.3
    assert result["cpu_s"] < 0.2
    assert result["exclusive"]


def test_tasks_that_overlap_in_one_process_are_not_exclusive() -> None:
    first = _Stopwatch()
    results = []
    thread = threading.Thread(target=lambda: results.append(_Stopwatch().stop()))
    thread.start()
    thread.join()
    assert not results[0]["exclusive"]
    assert not first.stop()["exclusive"]
    assert _Stopwatch().stop()["exclusive"]


def test_open_files_of_the_parent_are_not_read_after_a_fork() -> None:
    own = measure._files().statm
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        block = bytearray(300 * MB)
        os.write(writing, str(measure._resident() - len(block)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 50)) > 0
    os.close(reading)
    os.close(writing)
    assert measure._files().statm == own


def test_a_measured_function_keeps_its_name_and_outside_a_worker_just_runs() -> None:
    def double(x: int) -> int:
        return 2 * x

    wrapped = measured(double)
    assert wrapped(4) == 8
    assert wrapped.__name__ == "double"
    assert isinstance(wrapped, Measured)


def test_a_coroutine_function_stays_one() -> None:
    async def double(x: int) -> int:
        return 2 * x

    wrapped = measured(double)
    assert inspect.iscoroutinefunction(wrapped)
    assert asyncio.run(wrapped(4)) == 8


@pytest.mark.parametrize("leaving", [SystemExit(4), KeyboardInterrupt()])
def test_a_task_that_exits_fails_and_does_not_end_its_process(leaving: BaseException) -> None:
    def leave() -> None:
        raise leaving

    async def leave_async() -> None:
        raise leaving

    with pytest.raises(TaskError, match=r"sys.exit\(4\)|KeyboardInterrupt"):
        measured(leave)()
    with pytest.raises(TaskError, match=r"sys.exit\(4\)|KeyboardInterrupt"):
        asyncio.run(measured(leave_async)())
