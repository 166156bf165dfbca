"""What other task runners on Dask are known to do wrong, where no other test here tells of it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, get_run_logger, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.runtime import task_run
from prefect.settings import PREFECT_API_URL, temporary_settings

from scalable import ScalableSession
from scalable_prefect import ScalableFuture, ScalableTaskRunner, buffers
from scalable_prefect.ledger import Ledger, WorkerDied
from tests.prefect.helpers import eventually, read_if_known, task_run_state


class Unfaithful:
    """Pickles, but does not unpickle."""

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse, ()


def refuse() -> None:
    raise RuntimeError("I stay where I am")


@task
def ident(x: Any) -> Any:
    return x


@task
def make(kind: str) -> Any:
    return {"unfaithful": Unfaithful, "lock": threading.Lock}[kind]()


@task
def dig_in(dug: Path) -> None:
    assert eventually(dug.exists)


@task
def spare() -> Any:
    yield from range(3)


@task
def length(x: Any) -> int:
    return len(x)


@task(retries=1, retry_delay_seconds=120)
def dozes(marks: Path) -> int:
    """Fail, so that the worker can die in the delay before the next try."""
    with marks.open("a") as file:
        file.write(f"{os.getpid()}\n")
    if len(marks.read_text().splitlines()) == 1:
        raise RuntimeError("later")
    return int(task_run.run_count)


@task
def last_words(text: str) -> None:
    get_run_logger().warning(text)


def test_the_scheduler_and_the_runner_remember_nothing_of_task_runs_that_are_over(
    processes: ScalableSession,
) -> None:
    left: dict[str, int] = {}
    scheduler = processes._run.cluster.scheduler  # type: ignore[union-attr]
    before = len(scheduler.tasks)

    @flow(task_runner=ScalableTaskRunner(session=processes))
    def many() -> None:
        for _ in range(2):
            futures = ident.map(range(30))
            assert length.submit(futures).result() == 30
            assert ident.submit(bytes(2 * 2**20)).result() == bytes(2 * 2**20)
            dispatcher = futures[0].owner
            del futures
            gc.collect()
            ledger = next(plugin for plugin in scheduler.plugins.values() if isinstance(plugin, Ledger))

            def count(dispatcher: Any = dispatcher, ledger: Ledger = ledger) -> dict[str, int]:
                return {
                    "scheduler": len(scheduler.tasks) - before,
                    "ledger": len(ledger._verdicts),
                    "collector": len(dispatcher._collector._pending),
                    "buffers": len(buffers._store._kept),
                    "contexts": len(dispatcher._contexts) - 1,
                }

            left.update(eventually(count, lambda counts: not any(counts.values())))
            assert not any(count().values())

    many()
    assert left == {"scheduler": 0, "ledger": 0, "collector": 0, "buffers": 0, "contexts": 0}


def test_values_that_do_not_travel_are_reported_and_nothing_hangs(
    runner: ScalableTaskRunner, api: SyncPrefectClient
) -> None:
    seen: list[ScalableFuture[Any]] = []
    away = runner.session is not None

    @flow(task_runner=runner)
    def odd() -> None:
        cycle: list[Any] = [1]
        cycle.append(cycle)
        twice = ident.submit(cycle).result()
        assert twice[1] is twice
        assert ident.submit({"set": {1, 2}, "unhashable": [{}]}).result() == {"set": {1, 2}, "unhashable": [{}]}
        assert length.submit("x" * 3_000_000).result() == 3_000_000
        assert spare.submit().result() == [0, 1, 2]
        for kind in ("unfaithful", "lock"):
            future = make.submit(kind)
            after = ident.submit(future)
            future.wait(60)
            after.wait(60)
            assert future.state.is_crashed() is away
            seen.append(future)  # type: ignore[arg-type]
            if away:
                assert after.state.name == "NotReady" or after.state.is_crashed()

    odd()
    if away:
        assert "I stay where I am" in str(seen[0].state.message)
        assert "cannot be sent from the worker" in str(seen[1].state.message)
        assert [task_run_state(api, one.task_run_id, "Crashed") for one in seen] == ["Crashed"] * 2
    else:
        assert isinstance(seen[0].result(), Unfaithful)


def test_what_is_not_run_tells_which_task_run_it_needed(processes: ScalableSession) -> None:
    @flow(task_runner=ScalableTaskRunner(session=processes))
    def needy() -> tuple[str, str]:
        # It does not even begin: on the worker its argument cannot be rebuilt.
        first = ident.submit(Unfaithful())
        after = ident.submit(first)
        after.wait(60)
        return str(first.task_run_id), str(after.state.message)

    needed, told = needy()
    assert needed in told


def test_a_callback_that_fails_is_logged_and_holds_up_nobody(
    server: str, manifest_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    called = []

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="threads"))
    def noisy() -> list[int]:
        dug = tmp_path / "dug"
        future = dig_in.submit(dug)
        future.add_done_callback(lambda _: 1 / 0)
        future.add_done_callback(called.append)
        dug.touch()
        future.result(timeout=30)
        future.add_done_callback(lambda _: 1 / 0)
        return ident.map(range(4)).result()

    assert noisy() == [0, 1, 2, 3]
    assert len(called) == 1
    failures = [record for record in caplog.records if "of dig_in failed" in record.message]
    assert [record.exc_info and record.exc_info[0] for record in failures] == [ZeroDivisionError] * 2


@pytest.mark.slow
def test_a_worker_that_dies_in_a_retry_delay_uses_up_a_retry_and_it_stays_one_task_run(
    processes: ScalableSession, api: SyncPrefectClient, tmp_path: Path
) -> None:
    ids = []

    @flow(task_runner=ScalableTaskRunner(session=processes))
    def interrupted() -> int:
        future = dozes.submit(tmp_path / "marks")
        ids.append(future.task_run_id)
        assert task_run_state(api, future.task_run_id, "AwaitingRetry") == "AwaitingRetry"
        os.kill(int((tmp_path / "marks").read_text()), signal.SIGKILL)
        return future.result(timeout=90)

    # Once before the worker died, once after: it goes on counting.
    assert interrupted() == 2
    run = eventually(lambda: read_if_known(api, ids[0]), lambda run: run.state.is_completed())
    assert run.run_count == 2
    assert len((tmp_path / "marks").read_text().splitlines()) == 2


@pytest.mark.slow
def test_what_a_task_says_last_reaches_the_server_and_workers_end_by_themselves(
    server: str,
    manifest_path: Path,
    api: SyncPrefectClient,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids = []

    @flow(task_runner=ScalableTaskRunner(manifest_path, target="processes"))
    def brief() -> None:
        futures = [last_words.with_options(tags=[tag]).submit(f"farewell from {tag}") for tag in ("rank", "simulate")]
        for future in futures:
            future.wait()
            ids.append(future.task_run_id)

    with caplog.at_level(logging.WARNING):
        brief()
    assert [task_run_state(api, one, "Completed") for one in ids] == ["Completed"] * 2

    def lines() -> set[str]:
        asked = {"logs": {"task_run_id": {"any_": [str(one) for one in ids]}}}
        return {line["message"] for line in api._client.post("/logs/filter", json=asked).json()}

    wanted = {"farewell from rank", "farewell from simulate"}
    assert eventually(lines, wanted.issubset) >= wanted
    assert "still alive" not in caplog.text + capfd.readouterr().err


@pytest.mark.slow
def test_an_api_that_goes_away_delays_no_task_and_the_end_only_for_a_while(
    processes: ScalableSession, runs: Callable[[], list[Path]]
) -> None:
    runner = ScalableTaskRunner(session=processes)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}), runner.duplicate() as cut_off:
        began = time.monotonic()
        assert [cut_off.submit(ident, {"x": x}).result() for x in range(5)] == list(range(5))
        lost = cut_off.submit(make, {"kind": "lock"})
        lost.wait(60)
        assert isinstance(lost.result(raise_on_failure=False), Exception)
        assert not isinstance(lost.result(raise_on_failure=False), WorkerDied)
    assert time.monotonic() - began < 60
