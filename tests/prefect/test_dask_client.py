"""A Dask client for the user's own Dask work, inside tasks and flows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import dask
import prefect_dask
import pytest
from distributed import Client, LocalCluster, default_client, get_worker
from prefect import flow, task

from scalable import ScalableSession
from scalable_prefect import ScalableTaskRunner, dask_client, get_async_dask_client, get_dask_client

TLS = """\
version: 1
project: {name: tls}
targets:
  home: {provider: local, max_workers: 1, processes: true}
  far: {provider: local, max_workers: 1, processes: true}
  both: {provider: hybrid, primary: home, secondary: far, remote: true, interface: lo}
components:
  default: {cpus: 1, memory: 1G}
"""


def double(x: int) -> int:
    return 2 * x


@task
def drained() -> tuple[int, int]:
    """Wait for what needs the slot that this task has."""
    with get_dask_client() as client:
        mapped = sum(client.gather(client.map(double, range(5), pure=False)))
        return mapped, dask.delayed(double)(21, dask_key_name="delayed").compute()


@task
async def drained_async() -> int:
    async with get_async_dask_client() as client:
        return int(sum(await client.gather(client.map(double, range(5), pure=False))))


@task
def theirs() -> tuple[bool, bool]:
    with prefect_dask.get_dask_client() as client:
        address = client.scheduler_info()["address"]
    return address == get_worker().scheduler.address, address.startswith("tls://")


@task
async def theirs_async() -> bool:
    async with prefect_dask.get_async_dask_client() as client:
        return bool((await client.scheduler.identity())["address"] == get_worker().scheduler.address)


@task
def ident(x: Any) -> Any:
    return x


def test_inside_tasks_it_reaches_our_scheduler_and_one_slot_is_enough(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def draining() -> list[Any]:
        first = drained.submit()
        futures = [drained_async.submit(), theirs.submit(), theirs_async.submit()]
        return [future.result(timeout=90) for future in (first, *futures)]

    assert draining() == [(20, 42), 20, (True, False), True]


def test_in_flows_it_reaches_the_scheduler_even_before_the_first_task(runner: ScalableTaskRunner) -> None:
    @flow(task_runner=runner)
    def own() -> list[Any]:
        with get_dask_client() as client:
            ours = client.gather(client.map(double, range(3)))
            computed = dask.delayed(double)(4, dask_key_name="delayed").compute()
        with prefect_dask.get_dask_client() as client:
            prefects = client.gather(client.map(double, range(3)))
        return [ours, computed, prefects, ident.submit(1).result()]

    @flow(task_runner=runner)
    async def own_async() -> list[Any]:
        async with get_async_dask_client() as client:
            ours = await client.gather(client.map(double, range(3)))
        async with prefect_dask.get_async_dask_client() as client:
            return [ours, await client.gather(client.map(double, range(3)))]

    assert own() == [[0, 2, 4], 8, [0, 2, 4], 1]
    assert asyncio.run(own_async()) == [[0, 2, 4]] * 2


def test_a_client_of_another_cluster_that_is_current_in_the_process_changes_nothing(
    runner: ScalableTaskRunner,
) -> None:
    @task
    def address() -> str:
        return str(get_worker().scheduler.address)

    @flow(task_runner=runner)
    def undisturbed() -> str:
        first = address.submit()
        assert ident.map([first, 2]).result() == [first.result(), 2]
        return first.result()

    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as foreign,
    ):
        assert default_client() is foreign
        assert undisturbed() != cluster.scheduler_address
        assert default_client() is foreign
        assert not cluster.scheduler.tasks


@pytest.mark.slow
def test_where_the_scheduler_wants_certificates_they_are_found(server: str, tmp_path: Path) -> None:
    path = tmp_path / "scalable.yaml"
    path.write_text(TLS)

    @flow(task_runner=ScalableTaskRunner(path, target="both"))
    def secure() -> list[Any]:
        with prefect_dask.get_dask_client() as client:
            address = client.scheduler_info()["address"].partition(":")[0]
        return [address, theirs.submit().result(timeout=90), drained.submit().result(timeout=90)]

    assert secure() == ["tls", (True, True), (20, 42)]


def test_a_security_loader_of_the_users_is_asked_for_other_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(dask_client, "_before", [])
    monkeypatch.setattr(dask_client, "users", asked.append, raising=False)
    with dask.config.set({"distributed.client.security-loader": "scalable_prefect.dask_client.users"}):
        dask_client.known_to_clients()
        dask_client.known_to_clients()
        assert dask.config.get("distributed.client.security-loader") == "scalable_prefect.dask_client.security_for"
        assert dask_client.security_for({"address": "tls://elsewhere:1"}) is None
    assert asked == [{"address": "tls://elsewhere:1"}]


def test_a_flow_run_does_not_turn_off_what_dask_tells_of_anothers_session(processes: ScalableSession) -> None:
    @flow(task_runner=ScalableTaskRunner(session=processes))
    def guest() -> int:
        return drained.submit().result()[0]

    def profiles(dask_worker: Any) -> bool:
        return bool(dask_worker.periodic_callbacks["profile"].is_running())

    assert guest() == 20
    assert all(processes.client.dask.run(profiles).values())
