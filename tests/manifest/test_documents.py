"""Manifests as the documents for users print them; fragments are completed to whole ones."""

from __future__ import annotations

import pytest

from scalable.spec import resolve
from tests.manifest.reading import BASE, HEAD, read

DOCUMENTS = {
    "providers, local": HEAD
    + """\
targets:
  local:
    provider: local
    max_workers: 4
    threads_per_worker: 1
    processes: false
    containers: none
""",
    "providers, slurm": HEAD
    + """\
targets:
  hpc:
    provider: slurm
    queue: short
    account: GCIMS
    walltime: "02:00:00"
    interface: ib0
    container_runtime: apptainer
""",
    "providers, kubernetes": HEAD
    + """\
targets:
  gke:
    provider: kubernetes
    namespace: scalable
    image: ghcr.io/jgcri/scalable-worker:latest
    n_workers: 4
    adaptive:
      minimum: 1
      maximum: 16
""",
    "providers, aws": HEAD
    + """\
targets:
  aws:
    provider: aws
    region: us-east-1
    cluster_type: fargate
    n_workers: 4
    worker_cpu: 1024
    worker_mem: 4096
""",
    "scaling, local": HEAD
    + """\
targets:
  local:
    provider: local
    max_workers: 4
    threads_per_worker: 2
    processes: false
    containers: none
""",
    "scaling, slurm": HEAD
    + """\
targets:
  hpc:
    provider: slurm
    queue: batch
    account: GCIMS
    walltime: "04:00:00"
    interface: ib0
components:
  demeter:
    image: ghcr.io/jgcri/demeter:2.0.1
    cpus: 10
    memory: 20G
    mounts:
      /qfs/people/user/work/gcam-core: /gcam-core
      /rcfs: /rcfs
""",
    "scaling, aws": HEAD
    + """\
targets:
  aws:
    provider: aws
    region: us-east-1
    cluster_type: fargate
    adaptive:
      minimum: 2
      maximum: 20
""",
    "scaling, heterogeneous pools": BASE
    + """\
components:
  demeter:
    cpus: 8
    memory: 32G
    tags: [compute-heavy]
  postprocess:
    cpus: 2
    memory: 4G
    tags: [io-bound]
tasks:
  simulate:
    component: demeter
  analyze:
    component: postprocess
""",
    "beginner, fixed": HEAD
    + """\
targets:
  local:
    provider: local
    max_workers: 4   # Always exactly 4 workers
""",
    "beginner, adaptive": HEAD
    + """\
targets:
  cloud:
    provider: aws
    adaptive:
      minimum: 1    # At least 1 worker always running
      maximum: 20   # Scale up to 20 when busy
""",
    "beginner, table": HEAD
    + """\
targets:
  cloud:
    provider: gcp
    adaptive: {min: 2, max: 50}
objectives: {budget_usd: 100}
""",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_manifest_of_the_documents_is_valid_without_a_warning(name: str) -> None:
    made = read(DOCUMENTS[name], single_target=True)
    assert made.warnings == ()
    spec = resolve(made)
    assert spec.provider in DOCUMENTS[name]


def test_the_values_arrive() -> None:
    spec = resolve(read(DOCUMENTS["scaling, slurm"], single_target=True))
    demeter = spec.components["demeter"]
    assert demeter.resources.cpus == 10
    assert demeter.resources.memory == "20G"
    assert demeter.mounts["/rcfs"] == "/rcfs"
    assert spec.options.model_dump(exclude_unset=True) == {
        "queue": "batch",
        "account": "GCIMS",
        "walltime": 14_400.0,
        "interface": "ib0",
    }
