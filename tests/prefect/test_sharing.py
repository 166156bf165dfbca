"""Flow runs that share a session leave each other alone, and nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect import flow, task
from prefect.context import SyncClientContext

from scalable import ScalableSession
from scalable_prefect import ScalableTaskRunner
from scalable_prefect.backends import SessionBackend
from scalable_prefect.ledger import LOST
from tests.prefect.helpers import eventually

# Tasks are copied even to workers that are threads, and with them what they name; but not functions of a module.
GO_ON = threading.Event()
CLIENTS: list[Any] = []


def wait_to_go_on() -> bool:
    return GO_ON.wait(60)


def keep_client() -> None:
    context = SyncClientContext.get()
    assert context is not None
    CLIENTS.append(context.client)


@pytest.fixture
def session(server: str, manifest_path: Path) -> Iterator[ScalableSession]:
    with ScalableSession.from_yaml(manifest_path, target="threads") as started:
        started.start()
        yield started


@task
def ident(x: Any) -> Any:
    return x


@task
def hold() -> bool:
    return wait_to_go_on()


@task
def client() -> None:
    keep_client()


def brought(session: ScalableSession) -> list[str]:
    assert session._run is not None
    return [name for name in session._run.cluster.scheduler.worker_plugins if name.startswith("scalable-prefect")]


def test_a_flow_run_hears_of_dead_workers_whoever_came_and_went_since(session: ScalableSession) -> None:
    GO_ON.clear()

    @flow(task_runner=ScalableTaskRunner(session=session))
    def other() -> int:
        return ident.submit(1).result()

    @flow(task_runner=ScalableTaskRunner(session=session))
    def first() -> str:
        future = hold.submit()
        beside = threading.Thread(target=other)
        beside.start()
        beside.join()
        session.client.dask.log_event(LOST, {"key": future.key, "lost": 1, "memory": ""})
        future.wait(20)
        GO_ON.set()
        return str(future.state.message)

    assert "The worker died while it ran this task" in first()


def test_what_a_flow_run_brought_goes_with_it_and_its_clients_are_closed(session: ScalableSession) -> None:
    CLIENTS.clear()

    @flow(task_runner=ScalableTaskRunner(session=session))
    def brief() -> int:
        client.submit().result()
        return len(brought(session))

    assert [brief(), brief()] == [1, 1]
    assert brought(session) == []
    assert eventually(lambda: [one._closed for one in CLIENTS] == [True, True])


def test_two_runners_of_one_flow_run_do_not_take_away_what_the_other_needs(session: ScalableSession) -> None:
    @flow(task_runner=ScalableTaskRunner(session=session))
    def both() -> list[int]:
        before = ident.submit(1).result()
        with ScalableTaskRunner(session=session) as second:
            beside = second.submit(ident, {"x": 2}).result()
        return [before, beside, ident.submit(3).result()]

    assert both() == [1, 2, 3]
    assert brought(session) == []


def test_workers_of_somebody_elses_session_go_on_taking_profiles(session: ScalableSession) -> None:
    @flow(task_runner=ScalableTaskRunner(session=session))
    def brief() -> int:
        return ident.submit(1).result()

    brief()
    workers = session.client.dask.run(lambda dask_worker: dask_worker.periodic_callbacks["profile"].is_running())
    assert set(workers.values()) == {True}


def test_a_session_is_closed_though_nobody_could_be_told_of_it(
    manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    session = ScalableSession.from_yaml(manifest_path, target="threads")
    monkeypatch.setattr(session, "close", lambda status: closed.append(f"session {status}"))
    backend = SessionBackend(session, owned=True)

    def settle() -> None:
        raise RuntimeError("no progress")

    backend._publisher = SimpleNamespace(settle=settle, close=lambda: closed.append("publisher"))  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match="no progress"):
        backend.close("failed")
    assert closed == ["session failed", "publisher"]
