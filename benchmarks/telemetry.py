"""Processor time that telemetry costs a task, by where it is spent."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

from scalable.telemetry import measure as measure_room
from scalable.telemetry.measure import _Stopwatch
from scalable.telemetry.probe import Submission, TaskProbe
from scalable.telemetry.recorder import Recorder

TASKS = 20_000


def cost(work: Callable[[int], Any]) -> float:
    """Return microseconds of this thread's processor time a call."""
    begin = time.thread_time()
    for i in range(TASKS):
        work(i)
    return (time.thread_time() - begin) / TASKS * 1e6


def main() -> None:
    with TemporaryDirectory() as folder:
        recorder = Recorder(Path(folder) / "run")
        probe = TaskProbe(recorder)
        tasks = {
            f"work-{i}": SimpleNamespace(metadata=None, suspicious=0, retries=0, resource_restrictions={})
            for i in range(TASKS)
        }
        probe._scheduler = SimpleNamespace(tasks=tasks)
        measurement = {
            "started_at": 0.0,
            "ended_at": 1.0,
            "duration_s": 1.0,
            "cpu_s": 1.0,
            "peak_bytes": 1,
            "exclusive": True,
        }
        facts = {"metadata": {"scalable": measurement}, "worker": "tcp://127.0.0.1:1", "startstops": []}

        def register(i: int) -> None:
            probe.register(f"work-{i}", Submission("work", "work", {}, 1, 28, None, time.time()))

        def follow(i: int) -> None:
            key = f"work-{i}"
            probe.transition(key, "released", "waiting")
            probe.transition(key, "waiting", "processing")
            probe.transition(key, "processing", "memory", **facts)
            probe.transition(key, "memory", "released")
            probe.transition(key, "released", "forgotten")

        def measure(_: int) -> None:
            _Stopwatch().stop()

        measure_room._activity.__dict__["dedicated"] = True
        print(f"telemetry on the client:    {cost(register):5.1f} us a task (aim <= 10)")
        print(f"telemetry on the scheduler: {cost(follow):5.1f} us a task")
        print(f"telemetry on the worker:    {cost(measure):5.1f} us a task")
        begin = time.process_time()
        recorder.finish("completed", {})
        print(
            f"writing, in its own thread, what was left: {(time.process_time() - begin) / TASKS * 1e6:5.1f} us a task"
        )


if __name__ == "__main__":
    main()
