"""A flow run that is cancelled in Prefect's UI, where nobody but its own process can end it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.objects import State as FlowState
from prefect.states import Cancelled, Cancelling, Paused, Running

from scalable_prefect import watch
from scalable_prefect.watch import Watch
from tests.prefect.helpers import eventually

SCRIPT = """\
import time
from prefect import flow, task
from prefect.runtime import flow_run
from scalable_prefect import ScalableTaskRunner

@task
def sleep():
    time.sleep(600)

def told(flow, flow_run, state):
    print("hook", state.name, flush=True)

@flow(task_runner=ScalableTaskRunner(target="processes"), on_cancellation=[told], on_failure=[told], retries=1)
def pipeline():
    waiting = [sleep.submit() for _ in range(5)]
    print("flow", flow_run.id, flush=True)
    waiting[0].result()

if __name__ == "__main__":
    print("ended", pipeline(return_state=True).name, flush=True)
"""
SUPERVISED = "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS"


@pytest.mark.slow
def test_a_script_that_is_cancelled_in_the_ui_ends_with_its_workers(
    api: SyncPrefectClient, manifest_path: Path
) -> None:
    where = manifest_path.parent
    (where / "flow.py").write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, "flow.py"], cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    flow_run_id = UUID(next(line for line in process.stdout if line.startswith("flow ")).split()[1])
    children = eventually(lambda: psutil.Process(process.pid).children(recursive=True), lambda them: len(them) > 2)

    api.set_flow_run_state(flow_run_id, Cancelling())

    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    assert "hook Cancelling" in output
    assert "hook Failed" not in output
    assert "ended Cancelled" in output
    assert api.read_flow_run(flow_run_id).state_name == "Cancelled"
    assert eventually(lambda: not [child for child in children if child.is_running()])


class Link:
    """An API that knows a flow run's states, the last one for ever."""

    def __init__(self, *states: FlowState[Any]) -> None:
        self.states = [*states]
        self.asked = 0

    def ask(self, question: Callable[[Any], Any]) -> Any:
        self.asked += 1
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return question(SimpleNamespace(read_flow_run=lambda _: SimpleNamespace(state=state)))


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, int]]:
    """Let a watch look five times and return how often it asked, and told."""
    monkeypatch.setattr(watch, "_LOOK_S", 0.0)
    monkeypatch.delenv(SUPERVISED, raising=False)

    def look(*states: FlowState[Any], **more: Any) -> tuple[int, int]:
        told: list[int] = []
        done = threading.Event()

        def on_cancelled() -> None:
            told.append(1)
            done.set()

        link = Link(*states)
        one = Watch(link, FlowRun(flow_id=uuid4(), **more), on_cancelled)  # type: ignore[arg-type]
        for _ in range(5):
            one.look()
        if any(state.is_cancelling() or state.is_cancelled() for state in states) and link.asked:
            assert done.wait(10)
        return link.asked, len(told)

    return look


def test_a_cancelled_flow_run_is_told_of_once(looks: Callable[..., tuple[int, int]]) -> None:
    assert looks(Running(), Cancelling()) == (2, 1)
    assert looks(Cancelled()) == (1, 1)


def test_one_that_runs_or_is_paused_goes_on(looks: Callable[..., tuple[int, int]]) -> None:
    assert looks(Running(), Paused(), Running()) == (5, 0)


def test_where_a_prefect_worker_ends_the_flow_it_is_left_to_that(
    looks: Callable[..., tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SUPERVISED, "false")

    assert looks(Cancelling()) == (0, 0)


def test_a_flow_inside_another_has_no_such_supervisor(
    looks: Callable[..., tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SUPERVISED, "false")

    assert looks(Cancelling(), parent_task_run_id=uuid4()) == (1, 1)


def test_the_api_is_not_asked_more_often_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUPERVISED, raising=False)
    link = Link(Running())
    one = Watch(link, FlowRun(flow_id=uuid4()), lambda: None)  # type: ignore[arg-type]

    for _ in range(1000):
        one.look()

    assert link.asked == 0
