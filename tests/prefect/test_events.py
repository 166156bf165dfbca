"""What happens to the pools as events, on which Prefect's automations act."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event
from prefect.runtime import flow_run as runtime
from prefect.server.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.server.events.schemas.events import ReceivedEvent
from prefect.settings import PREFECT_LOGGING_LEVEL, temporary_settings

from scalable_prefect import ScalableTaskRunner, events
from scalable_prefect.events import Events, Heard, kind_of
from tests.prefect.helpers import eventually, listening, task_run_state

MANIFEST = """\
version: 1
project: {name: events}
targets:
  processes: {provider: local, max_workers: 2, processes: true}
components:
  small: {cpus: 1, memory: 500M}
  other: {cpus: 1, memory: 1G}
tasks:
  hungry: {component: small}
  calm: {component: other, after: [hungry]}
"""


@task
def hungry(mebibytes: int) -> int:
    kept = []
    for _ in range(mebibytes // 20):
        kept.append(bytearray(b"x") * (20 * 2**20))
        time.sleep(0.05)
    return len(kept)


@task(log_prints=True)
def calm(x: int) -> int:
    print("all is calm")
    return x


@pytest.mark.slow
def test_a_task_run_that_is_out_of_memory_is_an_event_and_says_so_itself(
    server: str, api: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "INFO")  # for the workers, which print
    (tmp_path / "scalable.yaml").write_text(MANIFEST)

    @flow(task_runner=ScalableTaskRunner(tmp_path / "scalable.yaml", target="processes"))
    def study() -> tuple[str, UUID, str, str, str]:
        greedy = hungry.submit(800)
        late = calm.submit(greedy)
        greedy.wait()
        late.wait()
        assert calm.submit(1).result() == 1
        return str(runtime.id), greedy.task_run_id, greedy.state.name, str(greedy.state.message), late.state.name

    with listening("scalable.") as heard, temporary_settings({PREFECT_LOGGING_LEVEL: "INFO"}):
        flow_run_id, task_run_id, name, message, after = study()
        eventually(lambda: {one.payload.get("reason") for one in [*heard]}, lambda reasons: "closed" in reasons)

    assert (name, after) == ("Crashed", "NotReady")
    assert message.startswith(f"Task 'hungry-{task_run_id}' ran out of memory: it reached ")
    assert message.endswith("M of 500M.")
    assert task_run_state(api, task_run_id, "Crashed") == "Crashed"
    of = {kind: [one for one in heard if one.event == f"scalable.{kind}"] for kind in KINDS}
    (oom,) = of["task-oom"]
    assert (oom.payload["task"], oom.payload["task_run_id"]) == ("hungry", str(task_run_id))
    assert oom.payload["asked_bytes"] == 500 * 2**20
    assert oom.payload["peak_bytes"] > 300 * 2**20
    assert {(one.role, one.id) for one in oom.related} >= {
        ("flow-run", f"prefect.flow-run.{flow_run_id}"),
        ("task-run", f"prefect.task-run.{task_run_id}"),
    }
    assert {one.payload["pool"] for one in of["worker-added"]} == {"small", "other"}
    assert {"lost", "closed"} <= {one.payload["reason"] for one in of["worker-removed"]}
    assert ("other", 0) in {(one.payload["pool"], one.payload["from"]) for one in of["scale-decision"]}
    assert all(one.resource["scalable.target"] == "processes" for one in heard)
    chosen = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[UUID(flow_run_id)]))
    lines = eventually(
        lambda: [one.message for one in api.read_logs(chosen)], lambda them: "all is calm" in them, seconds=30
    )
    assert "all is calm" in lines
    assert any("is gone: lost" in line for line in lines)


KINDS = ("scale-decision", "worker-added", "worker-removed", "task-oom")


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Catch what is emitted."""
    caught: list[Event] = []

    def catch(event: str, resource: dict[str, str], **more: Any) -> None:
        caught.append(Event(event=event, resource=resource, **more))  # type: ignore[arg-type]

    monkeypatch.setattr(events, "emit_event", catch)
    return caught


def added(number: int, pool: str = "simulate") -> Heard:
    record = {"event": "worker_added", "at": 1000.0 + number, "worker": f"{pool}-{number}", "tag": pool}
    return Heard("scalable.worker-added", record | {"startup_s": 2.0, "memory_bytes": 2**30})


def decided(before: int, after: int) -> Heard:
    record = {"event": "scale_decision", "at": 1000.0, "tag": "simulate", "from": before, "to": after}
    return Heard("scalable.scale-decision", record | {"reason": f"{after} tasks wait", "policy": "elastic"})


def flow_run(**more: Any) -> FlowRun:
    return FlowRun(flow_id=uuid4(), name="some", **more)


def test_a_few_workers_are_an_event_each(emitted: list[Event]) -> None:
    run = flow_run(deployment_id=uuid4())

    Events(run, {"scalable.target": "hpc"}).emit("run-1", [added(0), added(1)])

    assert [one.payload for one in emitted] == [
        {"pool": "simulate", "count": 1, "worker": f"simulate-{n}", "startup_s": 2.0, "memory_bytes": 2**30}
        for n in (0, 1)
    ]
    assert emitted[0].resource.id == "scalable.pool.run-1.simulate"
    assert emitted[0].resource["scalable.target"] == "hpc"
    assert {(one.role, one.id) for one in emitted[0].related} == {
        ("flow-run", f"prefect.flow-run.{run.id}"),
        ("flow", f"prefect.flow.{run.flow_id}"),
        ("deployment", f"prefect.deployment.{run.deployment_id}"),
    }
    assert emitted[1].occurred.timestamp() == 1001.0


def test_thousands_of_workers_are_one_event_for_each_pool(emitted: list[Event]) -> None:
    Events(flow_run(), {}).emit("run-1", [*(added(number) for number in range(10_000)), added(0, "rank")])

    assert [(one.payload["pool"], one.payload["count"]) for one in emitted] == [("simulate", 10_000), ("rank", 1)]
    assert emitted[0].payload["worker"] == [f"simulate-{number}" for number in range(10)]
    assert emitted[0].size_bytes < 10_000


def test_many_decisions_at_once_are_one_from_the_first_to_the_last(emitted: list[Event]) -> None:
    Events(flow_run(), {}).emit("run-1", [decided(number, number + 1) for number in range(11)])

    (one,) = emitted
    assert one.payload == {
        "pool": "simulate",
        "count": 11,
        "from": 0,
        "to": 11,
        "reason": "11 tasks wait",
        "policy": "elastic",
    }


def test_a_task_that_was_not_submitted_by_prefect_has_no_task_run(emitted: list[Event]) -> None:
    record = {"key": "f-01a2", "name": "f", "tag": "quick", "component": "simulate", "ended_at": 1000.0}
    record |= {"error_type": "TaskOutOfMemory", "asked_bytes": 1, "peak_bytes": None}

    Events(flow_run(), {}).emit("run-1", [Heard("scalable.task-oom", record)])

    (one,) = emitted
    assert (one.payload["pool"], one.payload["task_run_id"]) == ("simulate", None)
    assert {related.role for related in one.related} == {"flow-run", "flow"}


def test_only_what_is_to_be_told_is_an_event() -> None:
    assert kind_of("workers", {"event": "worker_removed"}) == "scalable.worker-removed"
    assert kind_of("scaling", {"event": "scale_decision"}) == "scalable.scale-decision"
    assert kind_of("scaling", {"event": "observation"}) is None
    assert kind_of("tasks", {"error_type": "TaskOutOfMemory"}) == "scalable.task-oom"
    assert kind_of("tasks", {"error_type": None}) is None
    assert kind_of("cost", {"event": "paid"}) is None


def test_the_automation_in_the_documentation_acts_on_a_task_out_of_memory(emitted: list[Event]) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/watch-a-flow-run.md").read_text()
    automation = AutomationCore.model_validate(yaml.safe_load(page.split("```yaml\n")[1].split("```")[0]))
    record = {"key": f"f-{uuid4()}", "name": "f", "tag": "simulate", "component": "simulate", "ended_at": 1000.0}
    record |= {"error_type": "TaskOutOfMemory", "asked_bytes": 1, "peak_bytes": 2}

    Events(flow_run(), {}, "pipeline").emit("run-1", [Heard("scalable.task-oom", record)])
    Events(flow_run(), {}, "another").emit("run-2", [Heard("scalable.task-oom", record)])

    assert isinstance(automation.trigger, EventTrigger)
    received = [ReceivedEvent.model_validate(one.model_dump()) for one in emitted]
    assert [automation.trigger.covers(one) for one in received] == [True, False]


def test_an_automation_can_act_on_what_happens_to_the_pools_of_a_flow(emitted: list[Event]) -> None:
    run = flow_run()
    Events(run, {"scalable.target": "hpc"}).emit("run-1", [decided(1, 5)])
    trigger = EventTrigger(
        expect={"scalable.scale-decision"},
        match={"prefect.resource.id": "scalable.pool.*", "scalable.target": "hpc"},
        match_related={"prefect.resource.id": f"prefect.flow.{run.flow_id}", "prefect.resource.role": "flow"},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )

    assert trigger.covers(ReceivedEvent.model_validate(emitted[0].model_dump()))
