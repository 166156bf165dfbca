"""What Prefect's server has a say in: limits on what runs at a time, assets, pauses."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, task
from prefect.assets import Asset, materialize
from prefect.client.orchestration import SyncPrefectClient
from prefect.concurrency.sync import concurrency
from prefect.context import FlowRunContext
from prefect.events import Event
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.runtime import flow_run

from scalable import ScalableSession
from scalable_prefect import ScalableTaskRunner
from tests.prefect.helpers import eventually, listening


def busy(spans: Path) -> None:
    """Note from when to when this ran."""
    began = time.time()
    time.sleep(0.2)
    with spans.open("a") as file:
        file.write(f"{began} {time.time()}\n")


@task(tags=["one-at-a-time"])
def limited(spans: Path) -> None:
    busy(spans)


@task
def cautious(spans: Path) -> None:
    with concurrency("scarce-licences", occupy=1):
        busy(spans)


@materialize("file:///data/yields.csv")
def collect_yields() -> int:
    return 3


@materialize(Asset(key="file:///data/best.csv"))
def pick_best(_: int) -> int:
    return 1


@task
def ident(x: Any) -> Any:
    return x


def overlaps(spans: Path) -> int:
    """Return how often one began before the one before it had ended."""
    times = sorted(tuple(map(float, line.split())) for line in spans.read_text().splitlines())
    return sum(later[0] < earlier[1] for earlier, later in itertools.pairwise(times))


def test_limits_on_tags_and_global_ones_hold_across_the_workers_of_several_pools(
    processes: ScalableSession, api: SyncPrefectClient, tmp_path: Path
) -> None:
    api._client.post("/concurrency_limits/", json={"tag": "one-at-a-time", "concurrency_limit": 1})
    api._client.post("/v2/concurrency_limits/", json={"name": "scarce-licences", "limit": 1})
    tagged, named = tmp_path / "tagged", tmp_path / "named"

    @flow(task_runner=ScalableTaskRunner(session=processes))
    def crowd() -> None:
        futures = []
        for pool in ("default", "rank", "simulate"):
            futures += [
                limited.with_options(tags=["one-at-a-time", pool]).submit(tagged),
                cautious.with_options(tags=[pool]).submit(named),
            ]
        for future in futures:
            future.result(timeout=120)

    crowd()
    assert len(tagged.read_text().splitlines()) == len(named.read_text().splitlines()) == 3
    assert overlaps(tagged) == 0
    assert overlaps(named) == 0


def test_assets_and_what_they_are_made_of_are_known_to_the_server(
    runner: ScalableTaskRunner,
) -> None:
    ids: list[UUID] = []

    @flow(task_runner=runner)
    def materializing() -> None:
        ids.append(UUID(flow_run.id))
        pick_best.submit(collect_yields.submit()).result()

    with listening("prefect.asset.") as heard:
        materializing()
        own = f"prefect.flow-run.{ids[0]}"

        def made() -> list[Event]:
            return [one for one in heard if any(res.id == own for res in one.related)]

        eventually(made, lambda found: len(found) >= 3)
    best = next(one for one in made() if one.resource.id == "file:///data/best.csv")
    assert best.event == "prefect.asset.materialization.succeeded"
    assert "file:///data/yields.csv" in {one.id for one in best.related}


@pytest.mark.slow
def test_a_flow_run_that_is_paused_goes_on_with_its_workers_when_it_is_resumed(
    runner: ScalableTaskRunner, api: SyncPrefectClient
) -> None:
    ids: list[UUID] = []

    @flow(task_runner=runner)
    def pausing() -> list[int]:
        ids.append(FlowRunContext.get().flow_run.id)  # type: ignore[union-attr, arg-type]
        before = ident.submit(1)
        before.wait()
        pause_flow_run(timeout=120, poll_interval=1)
        return [before.result(), ident.submit(2).result()]

    def resume() -> None:
        state = eventually(lambda: ids and api.read_flow_run(ids[0]).state, lambda one: one and one.is_paused(), 60)
        assert state.is_paused()
        resume_flow_run(ids[0])

    thread = threading.Thread(target=resume)
    thread.start()
    assert pausing() == [1, 2]
    thread.join()
