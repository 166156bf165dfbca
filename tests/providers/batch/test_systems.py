"""The table of batch systems: which command gets the script how, and which job it makes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given

from scalable.providers.batch.systems import SYSTEMS, Submission, submit_command
from scalable.providers.registry import BUILT_IN
from tests.providers.batch.made import ANY_TEXT, slurm_words

SCRIPT = "#!/usr/bin/env bash\n\n#OAR -n 'a run'\n#OAR -q long\nexport A='b c'\nexec python\n"
FILE = Path("/runs/a b/job.sh")

PRINTED = {
    "slurm": ("1234\n", "1234"),
    "pbs": ("1234.server-1.site\n", "1234.server-1.site"),
    "lsf": ("Job <1234> is submitted to queue <normal>.\n", "1234"),
    "sge": ('Your job 1234 ("a run") has been submitted\n', "1234"),
    "htcondor": ("Submitting job(s).\n1 job(s) submitted to cluster 1234.\n", "1234"),
    "oar": ("[ADMISSION RULE] Set default walltime to 7200.\nOAR_JOB_ID=1234\n", "1234"),
}


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_id_of_a_job_is_found_in_what_the_system_prints(name: str) -> None:
    printed, job_id = PRINTED[name]
    found = SYSTEMS[name].job_id.search(printed)
    assert found is not None
    assert found["job_id"] == job_id


def test_words_that_a_site_adds_are_no_id() -> None:
    assert SYSTEMS["slurm"].job_id.search("sbatch: 2 nodes are down\n") is None
    found = SYSTEMS["slurm"].job_id.search("Welcome to partition 7\n1234;cluster\n")
    assert found is not None
    assert found["job_id"] == "1234"


def test_a_script_is_given_as_a_file_where_that_is_usual() -> None:
    for name, command in {
        "slurm": "sbatch --parsable",
        "pbs": "qsub",
        "sge": "qsub",
        "htcondor": "condor_submit",
    }.items():
        assert submit_command(SYSTEMS[name], SCRIPT, FILE) == Submission((*command.split(), str(FILE)))


def test_lsf_reads_it_from_its_standard_input() -> None:
    assert submit_command(SYSTEMS["lsf"], SCRIPT, FILE) == Submission(("bsub",), SCRIPT)


def test_oar_gets_its_options_and_the_lines_to_run_as_arguments() -> None:
    assert submit_command(SYSTEMS["oar"], SCRIPT, FILE).argv == (
        "oarsub", "-n", "a run", "-q", "long", "export A='b c'\nexec python",
    )  # fmt: skip


def test_many_jobs_of_slurm_are_one_submission() -> None:
    argv = submit_command(SYSTEMS["slurm"], SCRIPT, FILE, elements=200).argv
    assert argv == ("sbatch", "--parsable", "--array=0-199", str(FILE))


def test_a_system_without_arrays_refuses_to_make_one() -> None:
    with pytest.raises(ValueError, match="LSF jobs are submitted one by one"):
        submit_command(SYSTEMS["lsf"], SCRIPT, FILE, elements=2)


def test_every_system_is_a_provider_and_the_table_needs_no_library() -> None:
    assert set(SYSTEMS) < set(BUILT_IN)
    code = (
        "import sys, scalable.providers.batch.systems, scalable.providers.batch.checks\n"
        "heavy = {'dask', 'distributed', 'dask_jobqueue'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["pbs", "lsf", "sge", "oar"])
@given(value=ANY_TEXT)
def test_any_value_is_one_word_of_a_directive(name: str, value: str) -> None:
    assert shlex.split(f"-o {SYSTEMS[name].quote(value)}") == ["-o", value]


@given(value=ANY_TEXT)
def test_any_value_is_one_word_for_slurm_which_reads_backslashes_in_its_own_way(value: str) -> None:
    assert slurm_words(f" --comment={SYSTEMS['slurm'].quote(value)} -p x") == [f"--comment={value}", "-p", "x"]


@given(value=ANY_TEXT)
def test_no_value_is_a_macro_of_a_submit_file(value: str) -> None:
    quoted = SYSTEMS["htcondor"].verbatim(value)
    assert "$" not in quoted.replace("$(DOLLAR)", "")
    assert quoted.replace("$(DOLLAR)", "$") == value


@pytest.mark.parametrize("word", ["hetjob", "PackJob", "a hetjob's"])
def test_a_word_that_slurm_would_take_out_is_disguised(word: str) -> None:
    quoted = SYSTEMS["slurm"].quote(word)
    assert "hetjob" not in quoted.lower()
    assert "packjob" not in quoted.lower()
    assert slurm_words(f" {quoted}") == [word]
