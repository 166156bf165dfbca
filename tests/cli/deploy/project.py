"""A project with a manifest for all providers, and a flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["FLOW", "MANIFEST", "Deploy", "edit", "variables"]

MANIFEST = """\
version: 1
project: {name: study}
targets:
  laptop: {provider: local, max_workers: 2}
  hpc: {provider: slurm, queue: main, account: science, walltime: 2h}
  cloud:
    provider: kubernetes
    namespace: flows
    image: registry.example/study:1
    service_account: runner
    node_selector: {disk: ssd}
  aws:
    provider: aws
    region: eu-central-1
    image: registry.example/study:1
    worker_cpu: 2048
    worker_mem: 8192
    cluster_arn: arn:aws:ecs:eu-central-1:1:cluster/study
    task_role_arn: arn:aws:iam::1:role/task
    execution_role_arn: arn:aws:iam::1:role/execution
    subnets: [subnet-1, subnet-2]
    security_groups: [sg-1]
  google: {provider: gcp, project_id: study-1, zone: europe-west1-b}
components:
  default: {cpus: 1.5, memory: 3G}
  simulate: {cpus: 8, memory: 64G}
"""

FLOW = """\
from prefect import flow
from scalable_prefect import ScalableTaskRunner


@flow(task_runner=ScalableTaskRunner())
def pipeline(count: int = 3): ...
"""

Deploy = Callable[..., list[dict[str, Any]]]


def edit(old: str, new: str, file: str = "prefect.yaml") -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new, 1))


def variables(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["work_pool"]["job_variables"]
    return found
