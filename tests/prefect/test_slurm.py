"""A flow whose tasks run in pools of real Slurm jobs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.client.orchestration import SyncPrefectClient

from scalable_prefect import ScalableTaskRunner
from tests.prefect.helpers import task_run_state
from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

MANIFEST = """\
version: 1
project: {name: flow}
targets:
  hpc: {provider: slurm, queue: main, account: science, walltime: "00:10:00", interface: lo, max_workers: 3}
components:
  default: {cpus: 1, memory: 700M}
  simulate: {cpus: 2, memory: 700M}
tasks:
  simulate: {component: simulate, count: 4}
  rank: {component: default, after: simulate}
"""


@task
def simulate(number: int) -> tuple[int, str]:
    return number * number, os.environ["SLURM_CPUS_PER_TASK"]


@task(retries=1, retry_delay_seconds=0)
def rank(found: list[tuple[int, str]]) -> tuple[int, set[str], str]:
    return max(value for value, _ in found), {cpus for _, cpus in found}, os.environ["SLURM_CPUS_PER_TASK"]


def test_tasks_run_in_jobs_of_their_own_pools_and_their_runs_are_known_to_the_server(
    queue: Slurm, api: SyncPrefectClient, tmp_path: Path
) -> None:
    path = tmp_path / "scalable.yaml"
    path.write_text(MANIFEST)

    @flow(task_runner=ScalableTaskRunner(manifest=path, target="hpc"))
    def study() -> tuple[object, object]:
        best = rank.submit(simulate.map(range(4)))
        return best.result(), best.task_run_id

    result, task_run_id = study()
    assert result == (9, {"2"}, "1")
    assert task_run_state(api, task_run_id, "Completed") == "Completed"
