"""Scripts as the real Slurm reads them."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from scalable.providers.batch.systems import SYSTEMS, submit_command
from tests.providers.batch.made import LAUNCH, MIB, component, script
from tests.slurm.backend import Slurm

AWKWARD = 'it\'s "50%" $(x) \\ ; # & hetjob é'


@pytest.mark.slow
@pytest.mark.slurm
def test_every_job_of_an_array_arrives_with_all_that_its_script_says(queue: Slurm, tmp_path: Path) -> None:
    logs = tmp_path / AWKWARD.replace("\\", "")
    logs.mkdir()
    # Held, so that the test sees what Slurm has understood before it is over.
    launch = replace(LAUNCH, run_id=AWKWARD, comment=AWKWARD, log_directory=logs, tls=None)
    made_of = component(cpus=1.5, memory=150 * MIB, env={"AWKWARD": AWKWARD})
    made = script(
        made_of=made_of, launch=launch, group=7, array=True, python="/usr/bin/env", job_extra_directives=["--hold"]
    ).replace(" -m distributed.cli.dask_worker", " echo")
    path = tmp_path / "job.sh"
    path.write_text(made)
    command = submit_command(SYSTEMS["slurm"], made, path, elements=2)
    done = subprocess.run(command.argv, input=command.stdin, capture_output=True, text=True, check=True)
    found = SYSTEMS["slurm"].job_id.search(done.stdout)
    assert found is not None
    number = found["job_id"]
    assert {(job.id, job.name, job.comment, job.cpus, job.memory) for job in queue.jobs()} == {
        (f"{number}_{element}", AWKWARD, AWKWARD, 2, 150) for element in (0, 1)
    }
    queue.run("scontrol", "release", number)
    queue.wait_empty()
    for element in (0, 1):
        assert f" --name simulate-{7 + element} " in (logs / f"simulate-{number}_{element}.log").read_text()
