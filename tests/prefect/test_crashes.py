"""Workers that die, flows that are ended: nothing hangs, nothing runs twice, nobody outlives the flow run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient

from scalable import ScalableSession
from scalable.errors import ScalableError
from scalable_prefect import ScalableFuture, ScalableTaskRunner
from scalable_prefect.ledger import WorkerDied
from tests.conftest import records
from tests.prefect.helpers import eventually, task_run_state

pytestmark = pytest.mark.slow


def mark(path: Path) -> int:
    """Count a call where all processes see it, and return how many there were."""
    with path.open("a") as file:
        file.write("x")
    return path.stat().st_size


@task
def die(marks: Path, lives: int) -> str:
    if mark(marks) <= lives:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@task
def ident(x: Any) -> Any:
    return x


@task
def note(x: int, marks: Path) -> int:
    mark(marks)
    time.sleep(0.1)
    return x


@task
def field(n: int, marks: Path) -> np.ndarray:
    mark(marks)
    return np.zeros(n)


@task
def size(values: np.ndarray) -> int:
    return values.size


@task
def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_crashes_its_task_run_and_no_other(
    processes: ScalableSession, api: SyncPrefectClient, tmp_path: Path
) -> None:
    seen: dict[str, ScalableFuture[Any]] = {}

    @flow(task_runner=ScalableTaskRunner(session=processes))
    def losing() -> list[int]:
        others = [note.submit(x, tmp_path / f"note-{x}") for x in range(4)]
        seen["dead"] = dead = die.submit(tmp_path / "dead", 9)  # type: ignore[assignment]
        seen["after"] = after = ident.submit(dead)  # type: ignore[assignment]
        others += [note.submit(x, tmp_path / f"note-{x}") for x in range(4, 8)]
        dead.wait(60)
        assert isinstance(dead.result(raise_on_failure=False), WorkerDied)
        after.wait(60)
        return [future.result() for future in others]

    assert losing() == list(range(8))
    assert seen["dead"].state.is_crashed()
    assert "died while it ran this task" in str(seen["dead"].state.message)
    assert seen["after"].state.name == "NotReady"
    assert (tmp_path / "dead").stat().st_size == 1
    assert [(tmp_path / f"note-{x}").stat().st_size for x in range(8)] == [1] * 8
    assert task_run_state(api, seen["dead"].task_run_id, "Crashed") == "Crashed"
    assert task_run_state(api, seen["after"].task_run_id, "NotReady") == "NotReady"


def test_a_task_with_retries_runs_again_after_its_worker_died(processes: ScalableSession, tmp_path: Path) -> None:
    @flow(task_runner=ScalableTaskRunner(session=processes))
    def persistent() -> str:
        return str(die.with_options(retries=1).submit(tmp_path / "marks", 1).result(60))

    assert persistent() == "alive"
    assert (tmp_path / "marks").stat().st_size == 2


def kill_all_workers(session: ScalableSession) -> None:
    client = session.client.dask
    for process in client.run(os.getpid).values():
        os.kill(process, signal.SIGKILL)


def test_a_completed_task_is_not_run_again_because_its_result_was_lost(
    processes: ScalableSession, tmp_path: Path
) -> None:
    @flow(task_runner=ScalableTaskRunner(session=processes))
    def forgetful() -> tuple[str | None, list[int], str | None]:
        small, large = ident.submit(5), field.submit(100_000, tmp_path / "large")
        stored = field.with_options(persist_result=True).submit(100_001, tmp_path / "stored")
        # Its argument is let go of when it has ended.
        argued = ident.with_options(persist_result=True).submit(np.zeros(200_000))
        for future in (small, large, stored, argued):
            future.wait(60)
        time.sleep(1)
        kill_all_workers(processes)
        after, rescued = size.submit(large), [size.submit(stored), size.submit(argued)]
        after.wait(60)
        assert ident.submit(small).result(60) == 5
        return after.state.name, [one.result(60) for one in rescued], large.state.name

    assert forgetful() == ("NotReady", [100_001, 200_000], "Crashed")
    assert [(tmp_path / name).stat().st_size for name in ("large", "stored")] == [1, 1]


def test_cancel_all_on_the_template_ends_tasks_and_workers(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]]
) -> None:
    template = ScalableTaskRunner(manifest_path, target="processes")

    @task
    def sleep() -> int:
        time.sleep(120)
        return os.getpid()

    @flow(task_runner=template)
    def endless() -> list[str]:
        workers = [ident.submit(0)]
        workers[0].result(60)
        futures = [sleep.submit() for _ in range(5)]
        time.sleep(0.5)
        template.cancel_all()
        for future in futures:
            future.wait(5)
        with pytest.raises(ScalableError, match="cancelled"):
            ident.submit(1)
        return [str(future.state.name) for future in futures]

    before = set(psutil.Process().children(recursive=True))
    assert endless() == ["Cancelled"] * 5
    left = set(psutil.Process().children(recursive=True)) - before
    assert not [child for child in left if "spawn_main" in " ".join(child.cmdline())]
    (run,) = runs()
    assert json.loads((run / "summary.json").read_text())["status"] == "cancelled"


def test_task_runs_that_nobody_waits_for_are_finished_or_cancelled_when_the_flow_ends(
    server: str, manifest_path: Path, tmp_path: Path, runs: Callable[[], list[Path]]
) -> None:
    futures = []

    @task
    def leave(seconds: float) -> None:
        time.sleep(seconds)

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads", drain_seconds=2.0))
    def careless() -> str:
        futures.extend([leave.submit(0.5), leave.submit(30)])
        return "done"

    assert careless() == "done"
    assert [future.state.name for future in futures] == ["Completed", "Cancelled"]


def test_attempts_of_one_flow_run_share_one_run(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]]
) -> None:
    attempts = []

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"), retries=1)
    def again() -> int:
        attempts.append(1)
        result = ident.submit(len(attempts)).result()
        if len(attempts) == 1:
            raise RuntimeError("once more")
        return int(result)

    assert again() == 2
    (run,) = runs()
    assert json.loads((run / "summary.json").read_text())["status"] == "completed"
    assert [task["name"] for task in records(run, "tasks")] == ["ident", "ident"]


def test_a_flow_run_is_one_run_with_prefects_task_names_and_the_flows_fate(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]]
) -> None:
    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    def failing() -> None:
        ident.with_options(name="Rank by yield", tags=["rank"]).submit(1).result()
        raise RuntimeError("no")

    failing(return_state=True)
    (run,) = runs()
    assert json.loads((run / "summary.json").read_text())["status"] == "failed"
    (task_record,) = records(run, "tasks")
    assert (task_record["name"], task_record["component"]) == ("Rank by yield", "rank")
    assert task_record["key"].startswith("Rank by yield-")


SCRIPT = """
import os, time
from prefect import flow, task
from scalable_prefect import ScalableTaskRunner

@task
def pid():
    return os.getpid(), os.environ.get("PREFECT_API_URL")

@task
def sleep():
    time.sleep(120)

@flow(task_runner=ScalableTaskRunner("scalable.yaml", target="processes"), log_prints=False)
def pipeline():
    print("worker", *pid.submit().result(), flush=True)
    {body}

if __name__ == "__main__":
    pipeline()
"""


def start(where: Path, body: str, **environment: str | None) -> subprocess.Popen[str]:
    (where / "flow.py").write_text(SCRIPT.format(body=body))
    merged = {**os.environ, **environment}
    return subprocess.Popen(
        [sys.executable, "flow.py"],
        cwd=where,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={name: value for name, value in merged.items() if value is not None},
    )


def test_sigterm_ends_the_flow_run_and_every_worker(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]]
) -> None:
    process = start(manifest_path.parent, "[sleep.submit() for _ in range(5)]; time.sleep(1); sleep.submit().result()")
    assert process.stdout is not None
    line = next(line for line in process.stdout if line.startswith("worker"))
    children = psutil.Process(process.pid).children(recursive=True)
    assert int(line.split()[1]) in {child.pid for child in children}
    time.sleep(2)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert eventually(lambda: not [child for child in children if child.is_running()])
    (run,) = runs()
    summary = json.loads((run / "summary.json").read_text())
    assert summary["status"] == "cancelled"
    assert summary["tasks"]["cancelled"] == 6


def test_without_an_api_the_workers_use_the_one_server_that_prefect_starts(manifest_path: Path, tmp_path: Path) -> None:
    process = start(
        manifest_path.parent,
        "import psutil; print('servers', sum('uvicorn' in c.cmdline() for c in psutil.Process().children(True)))",
        PREFECT_API_URL=None,
        PREFECT_HOME=str(tmp_path / "home"),
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="120",
    )
    output, _ = process.communicate(timeout=170)
    assert process.returncode == 0, output
    assert "http://127.0.0.1:" in next(line for line in output.splitlines() if line.startswith("worker"))
    assert "servers 1" in output


def test_a_task_run_that_fails_counts_as_failed_in_the_run_too(
    server: str, manifest_path: Path, runs: Callable[[], list[Path]]
) -> None:
    @task
    def boom() -> None:
        raise ValueError("out of water")

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    def one_fails() -> int:
        boom.submit().wait()
        return int(ident.submit(1).result())

    assert one_fails() == 1
    (run,) = runs()
    told = {one["name"]: (one["outcome"], one["error_type"], one["error"]) for one in records(run, "tasks")}
    assert told == {"boom": ("failed", "ValueError", "out of water"), "ident": ("completed", None, None)}
