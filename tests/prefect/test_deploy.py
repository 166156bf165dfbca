"""What `scalable deploy prefect` writes, on a real Prefect server, and run by a real worker of Prefect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun

from scalable.cli import main
from tests.cli.deploy.project import MANIFEST
from tests.prefect.helpers import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

FLOW = """\
import os
import time
from pathlib import Path

from prefect import flow, task

from scalable_prefect import ScalableTaskRunner


def note():
    with Path("pids").open("a") as file:
        print(os.getpid(), file=file, flush=True)


@task
def square(number):
    note()
    return number * number


@task
def stay():
    note()
    Path("staying").touch()
    time.sleep(600)


@flow(task_runner=ScalableTaskRunner())
def pipeline(count: int = 3, wait: bool = False):
    note()
    Path("target").write_text(os.environ["SCALABLE_TARGET"])
    if wait:
        stay.submit().result()
    Path("sum").write_text(str(sum(square.map(range(count)).result())))
"""

Prefect = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALABLE_MANIFEST", raising=False)
    Path("flow.py").write_text(FLOW)
    return tmp_path


@pytest.fixture
def prefect(project: Path) -> Prefect:
    """Run Prefect's command as a program does: nobody answers questions."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=project,
            env=os.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def scalable_deploy(*options: str) -> None:
    assert main(["deploy", "prefect", "--flow", "flow.py:pipeline", *options]) == 0


def run_printed(prefect: Prefect, out: str) -> None:
    """Run the commands that make work pools, as they were printed."""
    for line in out.splitlines():
        if line.startswith("  prefect work-pool create "):
            prefect(*line.split()[1:])


def test_prefect_takes_the_deployments_of_all_providers_as_they_are_meant(
    prefect: Prefect, api: SyncPrefectClient, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY", "registry.example")
    Path("scalable.yaml").write_text(MANIFEST.replace("registry.example", "${REGISTRY}"))
    targets = ("--target", "hpc", "--target", "cloud", "--target", "aws")
    options = ("--param", "count=5", "--concurrency-limit", "2", "--cron", "0 6 * * 1", "--timezone", "Asia/Tokyo")
    scalable_deploy(*targets, *options)
    run_printed(prefect, capsys.readouterr().out)
    prefect("deploy", "--all")
    found = {name: api.read_deployment_by_name(f"pipeline/{name}") for name in ("hpc", "cloud", "aws")}
    for name, one in found.items():
        assert one.work_pool_name == f"scalable-{name}"
        assert one.tags == ["scalable", f"target:{name}"]
        assert one.parameters == {"count": 5}
        assert one.global_concurrency_limit is not None
        assert one.global_concurrency_limit.limit == 2
        (schedule,) = one.schedules
        assert (schedule.schedule.cron, schedule.schedule.timezone) == ("0 6 * * 1", "Asia/Tokyo")
        assert one.job_variables["env"]["SCALABLE_TARGET"] == name
    assert found["cloud"].job_variables["image"] == "registry.example/study:1"
    assert found["cloud"].job_variables["memory_limit"] == "3072Mi"
    assert found["aws"].job_variables["network_configuration"]["subnets"] == ["subnet-1", "subnet-2"]
    assert found["aws"].pull_steps == [
        {"prefect.deployments.steps.set_working_directory": {"directory": f"/opt/prefect/{Path.cwd().name}"}}
    ]
    types = {pool.name: pool.type for pool in api.read_work_pools()}
    assert [types[f"scalable-{name}"] for name in found] == ["process", "kubernetes", "ecs"]

    scalable_deploy("--target", "hpc", "--cron", "30 7 * * *")
    prefect("deploy", "-n", "pipeline/hpc")
    (schedule,) = api.read_deployment_by_name("pipeline/hpc").schedules
    assert schedule.schedule.cron == "30 7 * * *"


@pytest.fixture
def worker(prefect: Prefect, project: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Path]:
    """Deploy on this machine, and start a worker of Prefect for its pool; return its log."""
    Path("scalable.yaml").write_text(
        "version: 1\nproject: {name: deployed}\n"
        "targets:\n  here: {provider: local, max_workers: 2, processes: true}\n  other: {provider: local}\n"
        "components:\n  default: {cpus: 1, memory: 1G}\n"
    )
    scalable_deploy("--target", "here")
    run_printed(prefect, capsys.readouterr().out)
    prefect("deploy", "--all")
    log = project / "worker.log"
    arguments = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "scalable-here", "--type", "process"]
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_LOGGING_LEVEL": "INFO"}
    # Elsewhere, so that the flow finds its files by what is deployed.
    elsewhere = project / "elsewhere"
    elsewhere.mkdir()
    with log.open("w") as file:
        process = subprocess.Popen(arguments, cwd=elsewhere, env={**os.environ, **quick}, stdout=file, stderr=file)
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start(api: SyncPrefectClient, **parameters: Any) -> FlowRun:
    return api.create_flow_run_from_deployment(api.read_deployment_by_name("pipeline/here").id, parameters=parameters)


def state_of(api: SyncPrefectClient, run: FlowRun) -> str:
    state = api.read_flow_run(run.id).state
    return "" if state is None else state.name


def ended(api: SyncPrefectClient, run: FlowRun) -> str:
    """Return the final state of a flow run."""
    final = ("Completed", "Failed", "Crashed", "Cancelled")
    found: str = eventually(lambda: state_of(api, run), lambda name: name in final, 90)
    return found


def left() -> list[int]:
    """Return those of the flow's processes and of its workers that are still there."""
    pids = {int(line) for line in Path("pids").read_text().split()}
    return [pid for pid in pids if psutil.pid_exists(pid)]


def test_a_worker_runs_the_deployment_to_its_end_and_ends_it_when_it_is_cancelled(
    worker: Path, prefect: Prefect, api: SyncPrefectClient, project: Path
) -> None:
    run = start(api, count=4)
    assert ended(api, run) == "Completed", worker.read_text()
    assert (project / "sum").read_text() == "14"
    assert (project / "target").read_text() == "here"
    assert len(set((project / "pids").read_text().split())) > 1, "tasks ran in the flow's own process"
    assert eventually(left, lambda pids: not pids) == []

    run = start(api, wait=True)
    assert eventually((project / "staying").exists, seconds=60), worker.read_text()
    prefect("flow-run", "cancel", str(run.id))
    assert ended(api, run) == "Cancelled", worker.read_text()
    assert eventually(left, lambda pids: not pids, 40) == [], worker.read_text()
