"""However a flow run ends, its tasks and workers end with it; and it may begin in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect import flow, task
from prefect.flow_engine import run_flow_in_subprocess

from scalable_prefect import ScalableFuture, ScalableTaskRunner
from tests.prefect.helpers import eventually

SCRIPT = """
import os, time
from prefect import flow, task
from scalable_prefect import ScalableTaskRunner

@task
def pid():
    return os.getpid()

@task
def sleep():
    time.sleep(120)

@flow(task_runner=ScalableTaskRunner("scalable.yaml", target="processes"))
def pipeline():
    print("worker", pid.submit().result(), flush=True)
    sleep.submit().result()

if __name__ == "__main__":
    pipeline()
"""


@task
def ident(x: Any) -> Any:
    return x


@task
def last(until: Path) -> str:
    give_up = time.monotonic() + 60
    while not until.exists() and time.monotonic() < give_up:
        time.sleep(0.02)
    return "at last"


@flow(task_runner=ScalableTaskRunner("scalable.yaml", target="threads"))
def apart(out: str) -> None:
    Path(out).write_text(f"{os.getpid()} {ident.submit(3).result()}")


@pytest.mark.slow
def test_the_workers_of_a_flow_process_that_is_killed_are_soon_gone(server: str, manifest_path: Path) -> None:
    (manifest_path.parent / "flow.py").write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, "flow.py"],
        cwd=manifest_path.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("worker"))
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        process.send_signal(signal.SIGKILL)
        assert eventually(lambda: not [child for child in children if child.is_running()], seconds=60)


def test_a_flow_that_takes_too_long_times_out_and_its_tasks_with_it(
    server: str, manifest_path: Path, tmp_path: Path
) -> None:
    futures: list[ScalableFuture[Any]] = []
    end = tmp_path / "end"

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"), timeout_seconds=2)
    def endless() -> None:
        ident.submit(1).wait()
        futures.append(last.submit(end))  # type: ignore[arg-type]
        futures[0].result()

    state = endless(return_state=True)
    end.touch()
    assert state.name == "TimedOut"
    assert futures[0].state.name == "Cancelled"


def test_an_async_flow_that_is_cancelled_while_it_waits_leaves_nothing_behind(
    server: str, manifest_path: Path, tmp_path: Path
) -> None:
    futures: list[ScalableFuture[Any]] = []
    end = tmp_path / "end"

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    async def endless() -> None:
        futures.append(last.submit(end))  # type: ignore[arg-type]
        await asyncio.to_thread(futures[0].wait)

    async def cancelled() -> None:
        running = asyncio.ensure_future(endless())
        while not futures:
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)
        running.cancel()
        try:
            with pytest.raises(asyncio.CancelledError):
                await running
        finally:
            end.touch()

    asyncio.run(cancelled())
    assert futures[0].state.name == "Cancelled"


@pytest.mark.slow
def test_a_flow_runs_in_a_process_of_its_own(
    server: str, manifest_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(manifest_path.parent)
    process = run_flow_in_subprocess(apart, parameters={"out": str(tmp_path / "out")})
    process.join(120)
    where, result = (tmp_path / "out").read_text().split()
    assert int(where) != os.getpid()
    assert result == "3"
