"""What tasks and flows say about themselves: hooks, retries, names, prints, options, states."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import allow_failure, flow, task
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import get_run_context
from prefect.exceptions import UnfinishedRun
from prefect.runtime import task_run
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner

from scalable_prefect import ScalableFuture, ScalableTaskRunner
from tests.prefect.helpers import eventually, read_if_known


def note(path: str, what: str) -> None:
    with Path(path).open("a") as file:
        file.write(f"{what}\n")


@task
def ident(x: Any) -> Any:
    return x


@task
def boom() -> None:
    raise ValueError("out of water")


@task(retries=3, retry_delay_seconds=[0.05, 0.1], retry_condition_fn=lambda _, __, state: "again" in state.message)
def stubborn(marks: Path, lasting: str) -> int:
    note(str(marks), repr(time.time()))
    count = len(marks.read_text().splitlines())
    if count < 3:
        raise RuntimeError(f"{lasting} {count}")
    return int(task_run.run_count)


@task(task_run_name="tilt {tilt} of {site}", log_prints=True)
def named(tilt: int, site: str) -> str:
    print(f"printed for {site}")
    assert get_run_context().log_prints  # type: ignore[union-attr]
    return str(task_run.name)


@task
async def counting(n: int) -> Any:
    for x in range(n):
        await asyncio.sleep(0)
        yield x


@task
def half() -> Any:
    return Completed(message="as far as it goes", data=0.5)


def test_hooks_of_tasks_and_flows_are_called_with_what_happened(runner: ScalableTaskRunner, tmp_path: Path) -> None:
    log = str(tmp_path / "log")

    def hook(what: str) -> Any:
        return lambda _, __, state: note(log, f"{what} {state.name}")

    @task(on_running=[hook("runs")], on_completion=[hook("done")], on_failure=[hook("failed")])
    def watched(*, fails: bool) -> None:
        if fails:
            raise ValueError

    @flow(
        task_runner=runner,
        on_running=[hook("flow runs")],
        on_completion=[hook("flow done")],
        on_failure=[hook("flow failed")],
    )
    def whole() -> None:
        watched.submit(fails=False).wait()
        watched.submit(fails=True).result()

    whole(return_state=True)
    assert Path(log).read_text().splitlines() == [
        "flow runs Running",
        *("runs Running", "done Completed"),
        *("runs Running", "failed Failed"),
        "flow failed Failed",
    ]


def test_retries_wait_as_they_were_told_and_happen_only_on_the_condition(
    runner: ScalableTaskRunner, tmp_path: Path
) -> None:
    @flow(task_runner=runner)
    def trying() -> Any:
        hopeless = stubborn.submit(tmp_path / "hopeless", "never")
        return stubborn.submit(tmp_path / "again", "again").result(), hopeless.result(raise_on_failure=False)

    count, error = trying()
    assert count == 3
    assert str(error) == "never 1"
    first, second, third = (float(line) for line in (tmp_path / "again").read_text().splitlines())
    assert second - first >= 0.05
    assert third - second >= 0.1


def test_names_and_prints_of_task_runs_are_those_of_the_task(
    runner: ScalableTaskRunner, api: SyncPrefectClient
) -> None:
    futures: list[ScalableFuture[str]] = []

    @flow(task_runner=runner)
    def naming() -> str:
        futures.append(named.submit(30, site="Gobi"))  # type: ignore[arg-type]
        return futures[0].result()

    assert naming().startswith("tilt 30 of Gobi")
    task_run_id = futures[0].task_run_id
    run = eventually(lambda: read_if_known(api, task_run_id))
    assert run.name.startswith("tilt 30 of Gobi")

    def lines() -> list[str]:
        logs = api._client.post("/logs/filter", json={"logs": {"task_run_id": {"any_": [str(task_run_id)]}}}).json()
        return [line["message"] for line in logs if line["message"].startswith("printed")]

    # Worker processes of these tests log warnings only.
    assert runner.session is not None or eventually(lines) == ["printed for Gobi"]


def test_options_states_and_failures_are_taken_and_given_as_prefect_defines_them(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=ThreadPoolTaskRunner())
    def usual() -> list[Any]:
        failed = boom.submit()
        renamed = ident.with_options(name="energy", retries=1).submit(1)
        assert isinstance(renamed, ScalableFuture)
        state = boom.submit(return_state=True)
        assert state.is_failed()
        assert isinstance(failed.result(raise_on_failure=False), ValueError)
        states = ident.map([1, 2], return_state=True)
        assert [one.result() for one in states] == [1, 2]
        with pytest.raises(UnfinishedRun):
            ident.map([failed, 1]).result()
        passed = ident.submit([1], wait_for=[allow_failure(failed)])
        mapped = ident.map([1, 2], wait_for=[allow_failure(failed)])
        return [passed.result(), mapped.result(raise_on_failure=False), half.submit().result()]

    assert usual.with_options(task_runner=runner)() == [[1], [1, 2], 0.5]


def test_what_async_generators_yield_is_a_list(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def all_of() -> Any:
        return counting.submit(3).result()

    assert all_of() == [0, 1, 2]
