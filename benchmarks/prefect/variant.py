"""One flow of trivial tasks on one task runner, measured from inside: ``variant NAME TASKS REPORT``.

The script is the program, as a user's is: its tasks belong to ``__main__``.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, task
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

WORKERS = 2
WARM_UP = 8
MANIFEST = f"""\
version: 1
project: {{name: bench}}
targets:
  processes: {{provider: local, max_workers: {WORKERS}, processes: true}}
  threads: {{provider: local, max_workers: {WORKERS}}}
components: {{work: {{cpus: 1, memory: 1G}}}}
"""
_IDLE = 0.04
_PATIENCE_S = 120.0


@task
def trivial(x: int) -> int:
    return x


@task
def warm(x: int) -> tuple[int, int]:
    time.sleep(0.05)
    return os.getpid(), threading.get_ident()


def dask(*, processes: bool) -> Callable[[], TaskRunner[Any]]:
    def make() -> TaskRunner[Any]:
        from prefect_dask import DaskTaskRunner

        options = {"n_workers": WORKERS, "threads_per_worker": 1, "dashboard_address": None}
        return DaskTaskRunner(cluster_kwargs={**options, "processes": processes})

    return make


def scalable(target: str) -> Callable[[], TaskRunner[Any]]:
    def make() -> TaskRunner[Any]:
        from scalable_prefect import ScalableTaskRunner

        folder = Path(os.environ["SCALABLE_RUNS_DIR"])
        folder.mkdir(parents=True, exist_ok=True)
        manifest = folder / "scalable.yaml"
        manifest.write_text(MANIFEST)
        return ScalableTaskRunner(manifest, target=target)

    return make


RUNNERS: dict[str, Callable[[], TaskRunner[Any]]] = {
    "dask": dask(processes=True),
    "scalable": scalable("processes"),
    "scalable-map": scalable("processes"),
    "dask-threads": dask(processes=False),
    "pool": lambda: ThreadPoolTaskRunner(max_workers=WORKERS),
    "scalable-threads": scalable("threads"),
    "scalable-threads-map": scalable("threads"),
}


def submit_all(name: str, tasks: int) -> list[Any]:
    if name.endswith("-map"):
        return list(trivial.map(range(tasks)))
    return [trivial.submit(i) for i in range(tasks)]


@flow(name="bench")
def measure(name: str, tasks: int) -> dict[str, Any]:
    begin = time.perf_counter()
    seen = {future.result() for future in [warm.submit(i) for i in range(WARM_UP)]}
    warm_up = time.perf_counter() - begin
    while len(seen) < WORKERS:
        seen |= {future.result() for future in [warm.submit(i) for i in range(WARM_UP)]}
    Clock().until_idle()
    profile = os.environ.get("BENCH_PROFILE_READY")
    if profile:
        _let_profilers_in(Path(profile))
    clock = Clock()
    begin = time.perf_counter()
    futures = submit_all(name, tasks)
    submitted = time.perf_counter()
    results = [future.result() for future in futures]
    ended = time.perf_counter()
    if profile:
        Path(profile).with_suffix(".done").touch()
    assert results == list(range(tasks))
    at_end = clock.split()
    # Events and logs are sent behind the last result's back; they are part of the price.
    clock.until_idle()
    return {
        "submit": 1000 * (submitted - begin) / tasks,
        "wall": 1000 * (ended - begin) / tasks,
        "warm_up": warm_up,
        **{name: 1000 * seconds / tasks for name, seconds in clock.split().items()},
        **{f"{name}_at_end": 1000 * seconds / tasks for name, seconds in at_end.items()},
        "threads": {name: 1000 * seconds / tasks for name, seconds in clock.by_thread().items()},
    }


class Clock:
    """Processor seconds since it was made: of this process, of its threads, and of the workers that it started."""

    def __init__(self) -> None:
        self._self = psutil.Process()
        self._workers = self._self.children(recursive=True)
        self._before = self._read()
        self._threads_before = self._read_threads()

    def split(self) -> dict[str, float]:
        """Return the seconds of this process and of the workers."""
        client, workers = self._read()
        return {"client": client - self._before[0], "workers": workers - self._before[1]}

    def by_thread(self) -> dict[str, float]:
        """Return the seconds of this process's threads, by name."""
        names = {thread.native_id: thread.name for thread in threading.enumerate()}
        spent: dict[str, float] = {}
        for number, seconds in self._read_threads().items():
            name = names.get(number, "others")
            spent[name] = spent.get(name, 0.0) + seconds - self._threads_before.get(number, 0.0)
        return {name: seconds for name, seconds in sorted(spent.items(), key=lambda one: -one[1]) if seconds > 0.005}

    def until_idle(self) -> None:
        """Wait until neither has done much for a second."""
        give_up = time.monotonic() + _PATIENCE_S
        before = sum(self._read())
        while time.monotonic() < give_up:
            time.sleep(1.0)
            now = sum(self._read())
            if now - before < _IDLE * (1 + len(self._workers)):
                return
            before = now
        raise TimeoutError("it does not come to rest")

    def _read(self) -> tuple[float, float]:
        return _seconds(self._self), sum(_seconds(worker) for worker in self._workers if worker.is_running())

    def _read_threads(self) -> dict[int, float]:
        return {one.id: one.user_time + one.system_time for one in self._self.threads()}


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def _let_profilers_in(ready: Path) -> None:
    """Tell who is to be profiled, and wait until it is."""
    workers = [one.pid for one in psutil.Process().children(recursive=True) if "resource_tracker" not in _line(one)]
    ready.write_text(json.dumps({"flow": os.getpid(), "workers": workers}))
    while ready.exists():
        time.sleep(0.1)


def _line(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def main() -> None:
    name, tasks, report = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["SCALABLE_RUNS_DIR"] = str(Path(folder) / "runs")
        figures = measure.with_options(task_runner=RUNNERS[name]())(name, int(tasks))
    Path(report).write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
