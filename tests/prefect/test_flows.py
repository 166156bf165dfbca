"""What users of Prefect rely on, with workers that are threads and with workers that are processes."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed import get_worker
from prefect import allow_failure, flow, get_run_logger, tags, task, unmapped
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import get_run_context
from prefect.futures import as_completed, wait
from prefect.runtime import flow_run, task_run
from prefect.settings import PREFECT_TASKS_DEFAULT_RETRIES, temporary_settings
from prefect.states import Failed
from prefect.utilities.annotations import opaque, quote
from pydantic import BaseModel

from scalable.errors import TaskError
from scalable_prefect import AmbiguousTags, ScalableFuture, ScalableTaskRunner
from tests.prefect.helpers import eventually, read_if_known, task_run_state


@dataclass(frozen=True)
class Design:
    tilt: Any
    name: str = "d"


class Site(BaseModel):
    model_config = {"arbitrary_types_allowed": True}
    designs: list[Any]


@task
def where() -> str:
    """Return the pool that runs this."""
    return str(get_worker().name).rsplit("-", 1)[0]


@task
def ident(x: Any) -> Any:
    return x


@task
def add(a: int, b: int = 0) -> int:
    return a + b


@task
def boom() -> None:
    raise ValueError("out of water")


@task
def total(xs: Any) -> Any:
    return sum(xs)


@task
async def later(x: int) -> int:
    await asyncio.sleep(0.01)
    return x + 1


@task
def tilt_of(holder: Any) -> Any:
    if isinstance(holder, Site):
        return [design.tilt for design in holder.designs]
    return holder.tilt


def test_a_task_goes_where_its_tag_or_its_name_says_and_else_to_the_default(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def route() -> list[str]:
        with tags("rank"):
            ranked = where.submit()
        futures = [
            where.with_options(tags=["simulate"]).submit(),
            ranked,
            where.with_options(name="energy").submit(),
            where.with_options(tags=["postprocess"]).submit(),
            where.with_options(tags=["team-a", "nightly"]).submit(),
            where.submit(),
        ]
        return [future.result() for future in futures]

    assert route() == ["simulate", "rank", "simulate", "rank", "default", "default"]


def test_tags_that_name_two_pools_are_an_error_at_the_submit(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def torn() -> str:
        with pytest.raises(AmbiguousTags, match="'rank' names rank, 'simulate' names simulate"), tags("rank"):
            where.with_options(tags=["simulate"]).submit()
        return str(where.with_options(tags=["simulate", "heavy"]).submit().result())

    assert torn() == "simulate"


def test_dask_annotations_around_a_submit_ask_for_capabilities_and_order(
    runner: ScalableTaskRunner, tmp_path: Path
) -> None:
    @task
    def note(name: str) -> None:
        time.sleep(0.05)
        with (tmp_path / "order").open("a") as file:
            file.write(name)

    @flow(task_runner=runner)
    def annotated() -> str:
        futures = [note.submit("a") for _ in range(40)]
        with dask.annotate(priority=10):
            futures.append(note.submit("b"))
        for future in futures:
            future.wait()
        with dask.annotate(resources={"gpu": 1}):
            return str(where.submit().result())

    assert annotated() == "rank"
    # Other workers may come to help while it goes on; the last to be submitted is not among the last to run.
    assert (tmp_path / "order").read_text().index("b") < 30


def test_map_takes_values_futures_lists_of_futures_and_what_is_unmapped(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def mapped() -> list[list[int]]:
        one = ident.submit(1)
        some = ident.map([10, 20, 30])
        numbers = ident.submit([1, 2, 3])
        return [
            add.map([1, 2, 3], b=5).result(),
            add.map(some, b=one).result(),
            add.map(numbers, b=unmapped(100)).result(),
            add.map([one, one], some[:2]).result(),
            [total.submit(some).result()],
            total.map([some, [one, 2]]).result(),
        ]

    assert mapped() == [[6, 7, 8], [11, 21, 31], [101, 102, 103], [11, 21], [60], [60, 3]]


def test_futures_are_found_wherever_they_are(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def nested() -> list[Any]:
        future = ident.submit(7)
        return [
            ident.submit({"a": [future, (future, 1)], "b": {"c": future}}).result(),
            tilt_of.submit(Design(future)).result(),
            tilt_of.submit(Site(designs=[Design(future), Design(8)])).result(),
            ident.submit([Design([future])]).result(),
        ]

    assert nested() == [
        {"a": [7, (7, 1)], "b": {"c": 7}},
        7,
        [7, 8],
        [Design([7])],
    ]


def test_prefects_annotations_arrive_as_they_were_meant(runner: ScalableTaskRunner) -> None:
    @task
    def kind(x: Any) -> str:
        return type(x).__name__

    @flow(task_runner=runner)
    def annotated() -> list[Any]:
        failed = boom.submit()
        future = ident.submit([1, 2])
        return [
            ident.submit(quote([1, 2])).result(),
            kind.submit(quote(future)).result(),
            str(ident.submit(allow_failure(failed)).result()),
            ident.submit(opaque(future)).result(),
            ident.submit([opaque(future), quote((3,))]).result(),
        ]

    assert annotated() == [[1, 2], "PrefectDistributedFuture", "out of water", [1, 2], [[1, 2], (3,)]]


def test_a_task_that_fails_is_failed_and_what_needs_it_is_not_run(
    runner: ScalableTaskRunner, api: SyncPrefectClient
) -> None:
    seen: dict[str, ScalableFuture[Any]] = {}

    @flow(task_runner=runner)
    def failing() -> str:
        seen["failed"] = failed = boom.submit()  # type: ignore[assignment]
        seen["after"] = after = ident.submit(failed)  # type: ignore[assignment]
        seen["waiting"] = ident.submit(1, wait_for=[failed])  # type: ignore[assignment]
        error = failed.result(raise_on_failure=False)
        with pytest.raises(ValueError, match="out of water"):
            failed.result()
        after.wait()
        seen["waiting"].wait()
        return f"{error!r}"

    assert failing() == "ValueError('out of water')"
    assert seen["failed"].state.is_failed()
    assert [seen[name].state.name for name in ("after", "waiting")] == ["NotReady", "NotReady"]
    assert task_run_state(api, seen["failed"].task_run_id, "Failed") == "Failed"
    assert task_run_state(api, seen["after"].task_run_id, "NotReady") == "NotReady"


def test_a_task_is_tried_again_as_often_as_prefect_was_told(runner: ScalableTaskRunner, tmp_path: Path) -> None:
    @task(retries=2)
    def flaky(marks: Path) -> int:
        with marks.open("a") as file:
            file.write("x")
        if marks.stat().st_size < 3:
            raise RuntimeError("not yet")
        return int(task_run.run_count)

    @flow(task_runner=runner)
    def trying() -> int:
        return flaky.submit(tmp_path / "marks").result()

    assert trying() == 3


def test_wait_for_holds_a_task_back_until_others_have_ended(runner: ScalableTaskRunner, tmp_path: Path) -> None:
    @task
    def write(path: Path) -> None:
        time.sleep(0.3)
        path.touch()

    @task
    def there(path: Path) -> bool:
        return path.exists()

    @flow(task_runner=runner)
    def ordered() -> list[bool]:
        first = write.submit(tmp_path / "one")
        return [
            there.submit(tmp_path / "one", wait_for=[first]).result(),
            there.submit(tmp_path / "two", wait_for=write.submit(tmp_path / "two")).result(),
        ]

    assert ordered() == [True, True]


def test_async_tasks_and_async_flows_mix_with_the_others(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def plain() -> list[int]:
        return later.map([1, 2]).result()

    @flow(task_runner=runner)
    async def asynchronous() -> list[int]:
        futures = later.map([add.submit(1, 1), 5])
        return [await later(0), *(future.result() for future in futures)]

    assert plain() == [2, 3]
    assert asyncio.run(asynchronous()) == [1, 3, 6]


def test_futures_can_be_waited_for_together_or_with_patience_that_ends(
    runner: ScalableTaskRunner, tmp_path: Path
) -> None:
    @task
    def last(until: Path) -> str:
        while not until.exists():
            time.sleep(0.02)
        return "at last"

    @flow(task_runner=runner)
    def waiting() -> None:
        lasting = last.submit(tmp_path / "end")
        quick = [ident.with_options(tags=["simulate"]).submit(0) for _ in range(2)]
        assert {future.result() for future in as_completed([*quick])} == {0}
        done, not_done = wait([lasting, *quick], timeout=0.1)
        assert (len(done), len(not_done)) == (2, 1)
        with pytest.raises(TimeoutError, match=r"did not complete within 0\.05 seconds"):
            lasting.result(timeout=0.05)
        called = threading.Event()
        lasting.add_done_callback(lambda _: called.set())
        (tmp_path / "end").touch()
        assert lasting.result() == "at last"
        assert called.wait(5)

    waiting()


def test_states_and_generators_come_back_as_prefect_defines_them(runner: ScalableTaskRunner) -> None:
    @task
    def count() -> Any:
        yield from range(3)

    @task
    def resign() -> Any:
        return Failed(message="I give up")

    @flow(task_runner=runner)
    def returning() -> Any:
        assert count.submit().result() == [0, 1, 2]
        state = resign.submit(return_state=True)
        assert state.is_failed()
        assert state.message == "I give up"
        return [ident.submit(1), ident.submit(2)]

    assert [state.result() for state in returning(return_state=True).result()] == [1, 2]


def test_a_task_knows_its_flow_run_and_its_log_lines_reach_it(
    runner: ScalableTaskRunner, api: SyncPrefectClient
) -> None:
    @task
    def speak() -> tuple[str, str]:
        get_run_logger().warning("hello from the pool")
        return str(flow_run.id), str(get_run_context().task_run.flow_run_id)  # type: ignore[union-attr]

    @flow(task_runner=runner)
    def talking() -> tuple[str, tuple[str, str]]:
        return str(flow_run.id), speak.submit().result()

    flow_run_id, known = talking()
    assert known == (flow_run_id, flow_run_id)

    def lines() -> list[str]:
        logs = api._client.post("/logs/filter", json={"logs": {"flow_run_id": {"any_": [flow_run_id]}}}).json()
        return [line["message"] for line in logs if line["message"] == "hello from the pool"]

    assert eventually(lines) == ["hello from the pool"]


def test_task_runs_and_their_inputs_are_known_to_the_api(runner: ScalableTaskRunner, api: SyncPrefectClient) -> None:
    ids = []

    @flow(task_runner=runner)
    def linked() -> None:
        first = ident.submit(3)
        second = add.with_options(tags=["rank", "team-a"]).submit(first, 4)
        ids.extend([first.task_run_id, second.task_run_id])
        assert second.result() == 7

    linked()
    run = eventually(lambda: read_if_known(api, ids[1]), lambda run: run is not None and run.state.is_completed())
    assert run.name.startswith("add-")
    assert run.name.endswith("@rank")
    assert set(run.tags) == {"rank", "team-a", "pool:rank"}
    assert [one.id for one in run.task_inputs["a"]] == [ids[0]]


def test_settings_and_tags_that_change_between_submits_take_effect(runner: ScalableTaskRunner) -> None:
    @task
    def retries_here() -> int:
        return int(PREFECT_TASKS_DEFAULT_RETRIES.value())

    @flow(task_runner=runner)
    def changing() -> list[int]:
        before = retries_here.submit()
        with temporary_settings({PREFECT_TASKS_DEFAULT_RETRIES: 7}):
            within = retries_here.submit()
        return [before.result(), within.result(), retries_here.submit().result()]

    assert changing() == [0, 7, 0]


def test_tasks_that_submit_tasks_never_wait_for_their_own_slot(runner: ScalableTaskRunner) -> None:
    @task
    def dig(depth: int) -> int:
        return 0 if depth == 0 else 1 + dig.submit(depth - 1).result()

    @flow(task_runner=runner)
    def digging() -> int:
        return dig.submit(4).result()

    assert digging() == 4


def test_large_results_stay_with_the_workers_until_they_are_asked_for(runner: ScalableTaskRunner) -> None:
    @task
    def field(n: int) -> np.ndarray:
        return np.arange(n, dtype=float)

    @task
    def mean(values: np.ndarray) -> float:
        return float(values.mean())

    @flow(task_runner=runner)
    def fields() -> tuple[float, int, str]:
        large = field.submit(500_000)
        average = mean.submit(large).result()
        large.wait()
        return average, len(large.result()), large.state.name  # type: ignore[return-value]

    assert fields() == (249_999.5, 500_000, "Completed")


def test_what_cannot_be_sent_is_refused_by_name(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def unsendable() -> str:
        with pytest.raises(TaskError, match="task 'add': parameter 'b' cannot be sent to a worker"):
            add.submit(1, threading.Lock())
        return "refused"

    assert unsendable() == "refused"


class AwkwardError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def test_an_exception_that_does_not_unpickle_is_still_a_failure_with_its_text(runner: ScalableTaskRunner) -> None:
    @task
    def awkward() -> None:
        raise AwkwardError(1, 2)

    @flow(task_runner=runner)
    def clumsy() -> str:
        future = awkward.submit()
        error = future.result(raise_on_failure=False)
        assert future.state.is_failed()
        return str(error)

    assert "1 and 2" in clumsy()


def test_two_flow_runs_of_one_template_do_not_meet(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def small(x: int) -> int:
        return add.submit(x, 1).result()

    results: dict[int, int] = {}
    threads = [threading.Thread(target=lambda x=x: results.update({x: small(x)})) for x in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {0: 1, 1: 2}


def test_workers_are_where_the_target_says(runner: ScalableTaskRunner) -> None:
    @task
    def process() -> int:
        return os.getpid()

    @flow(task_runner=runner)
    def locate() -> int:
        return process.submit().result()

    assert (locate() == os.getpid()) is (runner.session is None)
