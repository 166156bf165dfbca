"""A workflow whose jobs run in pools of real Slurm jobs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.backend import Slurm

pytestmark = [pytest.mark.slow, pytest.mark.slurm]

MANIFEST = """\
version: 1
project: {name: flow}
targets:
  hpc: {provider: slurm, queue: main, account: science, walltime: "00:10:00", interface: lo, max_workers: 3}
components:
  simulate: {cpus: 2, memory: 700M, tags: [heavy]}
  rank: {cpus: 1, memory: 600M}
tasks:
  rank: {component: rank}
"""
SNAKEFILE = """
    rule rank:
        input: expand("part-{i}.txt", i=range(4))
        output: "ranked.txt"
        shell: "cat {input} > {output}; echo rank $SLURM_JOB_ID $SLURM_CPUS_PER_TASK >> {output}"

    rule simulate:
        output: "part-{i}.txt"
        resources: scalable_tag="heavy"
        shell: "echo simulate $SLURM_JOB_ID $SLURM_CPUS_PER_TASK > {output}"
"""


def test_rules_run_in_jobs_of_their_own_pools_and_none_is_left(
    queue: Slurm, tmp_path: Path, new_project: Callable[[Path, str], Any]
) -> None:
    project = new_project(tmp_path / "flow", SNAKEFILE)
    project.file("scalable.yaml").write_text(MANIFEST)
    ended = project.run(target="hpc")
    assert ended.code == 0, ended.text
    lines = [line.split() for line in project.file("ranked.txt").read_text().splitlines()]
    assert [(rule, cpus) for rule, _, cpus in lines] == [("simulate", "2")] * 4 + [("rank", "1")]
    assert not {job for rule, job, _ in lines if rule == "simulate"} & {job for rule, job, _ in lines if rule == "rank"}
    assert project.status == "completed"
    assert {one["outcome"] for one in project.tasks} == {"completed"}
