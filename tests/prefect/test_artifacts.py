"""What Prefect's UI shows of a flow run's pools: artifacts, and lines in its log."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun
from prefect.context import SettingsContext, get_settings_context
from prefect.runtime import flow_run as runtime
from prefect.settings import PREFECT_API_URL

from scalable import ScalableSession, TagProgress
from scalable_prefect import ScalableTaskRunner, publish
from scalable_prefect.artifacts import Board, Decisions, Page, Progress, by_pool, plan_page, progress_page
from scalable_prefect.events import Heard
from scalable_prefect.lines import Lines
from scalable_prefect.link import Link
from scalable_prefect.publish import Publisher, Story
from tests.prefect.helpers import eventually

MANIFEST = """\
version: 1
project: {name: watched}
targets:
  threads: {provider: local, max_workers: 2}
components:
  simulate: {cpus: 1, memory: 1G}
  rank: {cpus: 2, memory: 2G}
tasks:
  first: {component: simulate}
  then: {component: rank, after: [first]}
"""


@pytest.fixture
def manifest_path(tmp_path: Path) -> Path:
    path = tmp_path / "watched.yaml"
    path.write_text(MANIFEST)
    return path


@task
def first(x: int) -> int:
    return x


@task
def then(x: int) -> int:
    if x == 2:
        raise ValueError("out of water")
    return x


def artifacts_of(api: SyncPrefectClient, flow_run_id: UUID) -> dict[str, Any]:
    """Return the artifacts of a flow run by their keys, of which there must be one each."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    found = api.read_artifacts(artifact_filter=chosen)
    assert len({one.key for one in found}) == len(found)
    return {str(one.key): one for one in found}


def lines_of(api: SyncPrefectClient, flow_run_id: UUID) -> list[str]:
    return [log.message for log in api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])))]


def test_a_flow_run_shows_its_plan_its_decisions_how_far_it_is_and_a_report(
    api: SyncPrefectClient, manifest_path: Path
) -> None:
    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    def study() -> str:
        for future in then.map(first.map(range(4))):
            future.wait()
        return str(runtime.id)

    flow_run_id = UUID(study())

    shown = artifacts_of(api, flow_run_id)
    kinds = {key: one.type for key, one in shown.items()}
    assert kinds == {
        "scalable-plan": "table",
        "scalable-decisions": "table",
        "scalable-simulate": "progress",
        "scalable-rank": "progress",
        "scalable-report": "markdown",
    }
    plan = {row["pool"]: row for row in json.loads(shown["scalable-plan"].data)}
    assert (plan["simulate"]["workers at start"], plan["rank"]["workers at start"]) == (2, 0)
    assert (plan["rank"]["cpus"], plan["rank"]["memory"]) == (2, "2G")
    newest, *_ = json.loads(shown["scalable-decisions"].data)
    assert set(newest) == {"time", "pool", "from", "to", "reason", "policy"}
    assert float(shown["scalable-simulate"].data) == float(shown["scalable-rank"].data) == 100
    assert shown["scalable-rank"].description.startswith("4 of 4 tasks ended, 1 of them failed or were cancelled")
    assert "](data:image/svg+xml;base64," in shown["scalable-report"].data
    assert "- Tasks: 7 completed, 1 failed" in shown["scalable-report"].data
    lines = eventually(
        lambda: lines_of(api, flow_run_id), lambda them: any("Pool rank: 0 -> 1 workers: " in line for line in them)
    )
    assert any("Pool rank: 0 -> 1 workers: " in line for line in lines)
    assert any(line.startswith("Target 'threads', run run-") and "simulate 2" in line for line in lines)


def test_a_session_of_somebody_else_shows_only_the_tasks_of_this_flow_run(
    api: SyncPrefectClient, manifest_path: Path
) -> None:
    with ScalableSession.from_yaml(manifest_path) as session:

        @flow(task_runner=ScalableTaskRunner(session=session))
        def study(n: int) -> str:
            first.map(range(n)).wait()
            return str(runtime.id)

        study(5)
        shown = artifacts_of(api, UUID(study(3)))
        listeners = len(session._listeners)

    assert shown["scalable-simulate"].description.startswith("3 of 3 tasks ended")
    assert "scalable-report" not in shown
    assert listeners == 0


def test_without_a_flow_run_nothing_is_published(
    server: str, manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something is published")

    monkeypatch.setattr(publish.Publisher, "__init__", refuse)
    with ScalableTaskRunner(manifest_path, target="threads") as runner:
        assert runner.submit(first, {"x": 1}).result() == 1


def decision(at: float, pool: str = "simulate", before: int = 1, after: int = 2) -> dict[str, Any]:
    return {"event": "scale_decision", "at": at, "tag": pool, "from": before, "to": after, "reason": "7 tasks wait"} | {
        "policy": "elastic"
    }


def test_of_many_decisions_the_newest_are_shown_and_all_are_counted() -> None:
    decisions = Decisions()
    assert decisions.page() is None

    for index in range(250):
        decisions.add(decision(1_779_271_200.0 + index, after=index))

    page = decisions.page()
    assert page is not None
    rows = json.loads(str(page.data))
    assert (len(rows), rows[0]["to"], rows[-1]["to"]) == (200, 249, 50)
    assert rows[0]["time"] == "2026-05-20 10:04:09"
    assert page.description == "250 scaling decisions, of which the newest 200 are here. Times are UTC."


def test_the_plan_says_what_is_expected_and_why(manifest_path: Path) -> None:
    text = MANIFEST.replace("{component: simulate}", "{component: simulate, count: 100, duration: 60s, memory: 1G}")
    text = text.replace("after: [first]", "after: [first], count: 10, duration: 30s, memory: 1G")
    session = ScalableSession.from_text(text.replace("max_workers: 2", "max_workers: 8, price: {core_hour: 0.5}"))

    plan = session.plan(objective="minimize time")
    page = plan_page(plan)

    rows = {row["pool"]: row for row in json.loads(str(page.data))}
    assert {pool: row["at most"] for pool, row in rows.items()} == plan.counts
    assert "objective minimize time, policy safe; at most 8 workers in all" in page.description
    assert f"Why: {plan.why}" in page.description
    assert "Expected time: " in page.description
    assert "Expected cost: $" in page.description


def row(tag: str, *, queued: int = 0, running: int = 0, done: int = 0, failed: int = 0) -> TagProgress:
    return TagProgress(tag, 0, queued, running, done, failed, 2, "3 PENDING (Resources)" if queued else "")


def test_tags_that_mean_one_pool_count_for_it_and_those_of_several_stand_for_themselves() -> None:
    pools = {"simulate": ("simulate",), "quick": ("simulate",), "heavy": ("simulate", "rank"), "rank": ("rank",)}

    found = by_pool([row("simulate", queued=1, done=1), row("quick", done=2), row("heavy", running=3), row("")], pools)

    assert found["simulate"] == Progress(1, 0, 3, 0, 2, "3 PENDING (Resources)")
    assert (found["heavy"].running, found["any"].total) == (3, 0)


def test_progress_is_the_share_of_the_known_tasks_that_have_ended() -> None:
    page = progress_page(Progress(waiting=4, running=2, done=5, failed=1, workers=2, blocked_by="1 PENDING (Priority)"))

    assert (page.kind, page.data) == ("progress", 50.0)
    assert page.description == (
        "6 of 12 tasks ended, 1 of them failed or were cancelled, 2 running, 4 waiting, 2 workers, "
        "not started yet: 1 PENDING (Priority)"
    )


class Api:
    """A client that notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def create_artifact(self, artifact: Any) -> SimpleNamespace:
        self.calls.append(("create", artifact.key))
        return SimpleNamespace(id=artifact.key)

    def update_artifact(self, artifact_id: Any, artifact: Any) -> None:
        self.calls.append(("update", artifact_id))


def test_what_is_shown_already_is_not_sent_again_and_keys_of_pools_differ() -> None:
    api = Api()
    board = Board(SimpleNamespace(ask=lambda question: question(api)), uuid4())  # type: ignore[arg-type]

    for pool in ("Big Memory", "big_memory", "plan", "é", "simulate+400"):
        board.put_pool(pool, Page("progress", 1.0, "one"))
        board.put_pool(pool, Page("progress", 1.0, "one"))
    board.put_pool("big_memory", Page("progress", 2.0, "two"))
    board.put("plan", Page("table", "[]", "none"))

    keys = ["big-memory", "big-memory-2", "plan-2", "pool", "simulate-400"]
    assert api.calls == [
        *(("create", f"scalable-{key}") for key in keys),
        ("update", "scalable-big-memory-2"),
        ("create", "scalable-plan"),
    ]


@pytest.fixture
def logged() -> Iterator[tuple[logging.Logger, list[tuple[str, str]]]]:
    """Give a logger, and what it was told."""
    told: list[tuple[str, str]] = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append((record.levelname, record.getMessage()))  # type: ignore[method-assign]
    logger = logging.getLogger("tests.told")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, told
    logger.removeHandler(handler)


Logged = tuple[logging.Logger, list[tuple[str, str]]]


def left(reason: str, number: int = 0) -> Heard:
    record = {"event": "worker_removed", "at": 1.0, "worker": f"simulate-{number}", "tag": "simulate", "reason": reason}
    return Heard("scalable.worker-removed", record)


def test_a_lost_worker_is_a_warning_and_one_that_is_not_needed_is_none(logged: Logged) -> None:
    logger, told = logged

    Lines(logger).heard([left("lost"), left("scaled down", 1), left("closed", 2)])

    assert told == [("WARNING", "Pool simulate: worker simulate-0 is gone: lost")]


def test_thousands_of_lost_workers_are_a_few_lines(logged: Logged) -> None:
    logger, told = logged

    Lines(logger).heard([left("lost", number) for number in range(10_000)])

    assert len(told) == 11
    assert told[-1] == ("WARNING", "... and 9990 more like this")


def test_what_jobs_wait_for_is_said_when_it_is_new_and_not_each_second(logged: Logged) -> None:
    logger, told = logged
    lines = Lines(logger)

    for number in range(5):
        lines.blocked({"simulate": Progress(blocked_by=f"{number + 1} PENDING (Resources)"), "rank": Progress()})

    assert told == [("INFO", "Pool simulate: workers that have not started: 1 PENDING (Resources)")]


def nowhere() -> SettingsContext:
    """Return settings of an API that nobody serves."""
    settings = get_settings_context()
    return SettingsContext(
        profile=settings.profile,
        settings=settings.settings.copy_with_update(updates={PREFECT_API_URL: "http://127.0.0.1:9/api"}),
    )


def test_an_api_that_does_not_answer_is_told_of_once_and_left_alone(server: str, logged: Logged) -> None:
    logger, told = logged
    link = Link(nowhere(), logger)
    asked: list[str] = []

    def question(client: SyncPrefectClient) -> str:
        asked.append("once")
        return str(client.hello())

    answers = [link.ask(question) for _ in range(3)]
    link.close()

    assert answers == [None, None, None]
    assert asked == ["once"]
    assert [level for level, _ in told] == ["WARNING"]


def test_a_flow_does_not_wait_for_an_api_that_hangs(
    server: str, manifest_path: Path, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, told = logged
    monkeypatch.setattr(publish, "_FAREWELL_S", 0.2)
    asked = threading.Event()

    def hang(link: Link, question: Callable[[SyncPrefectClient], Any]) -> None:
        asked.set()
        time.sleep(1.0)

    monkeypatch.setattr(Link, "ask", hang)
    with ScalableSession.from_yaml(manifest_path) as session:
        story = Story(FlowRun(flow_id=uuid4(), name="some"), get_settings_context(), logger, lambda: None)
        publisher = Publisher(session, story, report=True)
        session.start()
        publisher.started()
        publisher.settle()
        begun = time.monotonic()
        publisher.close()
        waited = time.monotonic() - begun
        publisher._thread.join()

    assert waited < 1.0
    assert ("WARNING", "The flow run ends before Prefect's UI was told all of its run") in told
