"""The run of a workflow is planned for the jobs of its DAG."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

_SNAKEFILE = """
    rule total:
        input: expand("b/{i}.txt", i=range(4))
        output: "total.txt"
        shell: "cat {input} > {output}"

    rule second:
        input: "a/{i}.txt"
        output: "b/{i}.txt"
        threads: 3
        resources: scalable_tag="heavy"
        shell: "cp {input} {output}"

    rule first:
        output: "a/{i}.txt"
        shell: "echo {wildcards.i} > {output}"
"""


@pytest.mark.slow
def test_pools_are_sized_for_the_jobs_that_are_to_run(tmp_path: Path, new_project: Callable[[Path, str], Any]) -> None:
    project = new_project(tmp_path / "flow", _SNAKEFILE)
    flags = ("--scalable-objective", "minimize time", "--scalable-policy", "aggressive")
    ended = project.run(*flags, target="threads")
    assert ended.code == 0, ended.text
    plan = json.loads((project.run_directories[-1] / "plan.json").read_text())
    assert (plan["objective"], plan["policy"]) == ("minimize time", "aggressive")
    told = {one["task"]: (one["pool"], one["count"], one["after"], one["each"]) for one in plan["workload"]}
    assert told == {
        "first": ("plain", 4, [], []),
        "second": ("simulate", 4, [], ["first"]),
        "total": ("plain", 1, ["second"], []),
    }
    assert set(plan["pools"]) == {"plain"}
