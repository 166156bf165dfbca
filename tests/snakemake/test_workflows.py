"""Workflows as users run them: a real ``snakemake`` on real pools."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

_ALL_KINDS = """
    envvars: "SECRET"

    rule all:
        input: "summary.txt", "b.txt", "stream.txt", "parts.txt", "late.txt"

    rule tagged:
        output: "tagged/{i}.txt"
        threads: 8
        resources: scalable_tag="heavy"
        shell: "echo {threads} $OMP_NUM_THREADS > '{output}'; echo to the log"

    rule summarise:
        input: expand("tagged/{i}.txt", i=["odd name", "ü"])
        output: "summary.txt"
        log: "summary.log"
        run:
            import os, pathlib
            mine = b"".join(pathlib.Path(f"/proc/{p}/cmdline").read_bytes() for p in (os.getpid(), os.getppid()))
            facts = [os.environ["SECRET"] == "2retnuh"[::-1], b"2retnuh"[::-1] in mine, os.environ["FROM_COMPONENT"],
                     os.environ.get("SNAKEMAKE_PROFILE"), threads]
            pathlib.Path(output[0]).write_text(repr(facts))

    rule a:
        output: temp("a.txt")
        group: "pair"
        shell: "echo a > {output}"

    rule b:
        input: "a.txt"
        output: "b.txt"
        group: "pair"
        shell: "cat {input} > {output}; echo b >> {output}"

    rule produce:
        output: pipe("stream")
        resources: scalable_tag="simulate"
        shell: "seq 3 > {output}"

    rule consume:
        input: "stream"
        output: "stream.txt"
        resources: scalable_tag="simulate"
        shell: "cat {input} > {output}"

    checkpoint split:
        output: directory("parts")
        shell: "mkdir {output}; echo 1 > {output}/x; echo 2 > {output}/y"

    rule part:
        input: "parts/{p}"
        output: "done/{p}"
        shell: "cat {input} > {output}"

    def parts(wildcards):
        folder = checkpoints.split.get().output[0]
        return expand("done/{p}", p=glob_wildcards(folder + "/{p,[xy]}").p)

    rule collect:
        input: parts
        output: "parts.txt"
        localrule: True
        shell: "cat {input} > {output}"

    rule late:
        output: "late.txt"
        retries: 2
        resources: mem_mb=lambda wildcards, attempt: 100 * attempt
        shell: "echo {resources.mem_mb} >> tries; test $(wc -l < tries) -eq 3; cp tries {output}"
"""


class Finished:
    """A project after its run."""

    def __init__(self, project: Any, ended: Any) -> None:
        self.project = project
        self.ended = ended


@pytest.fixture(scope="module")
def every_kind(new_project: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Every kind of job in one workflow, in a directory with an awkward name."""
    project = new_project(tmp_path_factory.mktemp("flow") / "a dir with ünïcode", _ALL_KINDS)
    project.file("profile").mkdir()
    project.file("profile/config.yaml").write_text("printshellcmds: true\nscalable-overlay: small\n")
    return Finished(project, project.run(SECRET="hunter2", SNAKEMAKE_PROFILE=str(project.file("profile"))))


def test_a_workflow_with_every_kind_of_job_succeeds(every_kind: Finished) -> None:
    assert every_kind.ended.code == 0, every_kind.ended.text
    assert every_kind.project.status == "completed"
    outputs = {name: every_kind.project.file(name).read_text() for name in ("b.txt", "stream.txt", "parts.txt")}
    assert outputs == {"b.txt": "a\nb\n", "stream.txt": "1\n2\n3\n", "parts.txt": "1\n2\n"}
    assert not every_kind.project.file("a.txt").exists()


def test_jobs_go_to_the_pool_of_their_tag_or_of_their_rules_name_or_to_the_first(every_kind: Finished) -> None:
    pools = {task["name"]: task["component"] for task in every_kind.project.tasks}
    assert pools == {
        "tagged": "simulate",
        "summarise": "analyse",
        "a+b": "plain",
        "consume+produce": "simulate",
        "split": "plain",
        "part": "plain",
        "late": "plain",
    }


def test_threads_are_scaled_down_to_the_workers_and_said_so_once(every_kind: Finished) -> None:
    assert {file.read_text() for file in every_kind.project.directory.glob("tagged/*")} == {"2 2\n"}
    assert every_kind.ended.text.count("tagged asks for 8 threads, workers of simulate have 2") == 1


def test_a_job_has_its_components_environment_and_secrets_that_no_command_line_shows(every_kind: Finished) -> None:
    assert every_kind.project.file("summary.txt").read_text() == "[True, False, 'yes', None, 1]"
    for folder in (".snakemake", "runs"):
        records = [path for path in every_kind.project.file(folder).rglob("*") if path.is_file()]
        assert records
        assert not [path for path in records if b"hunter2" in path.read_bytes()]


def test_a_rule_with_two_retries_runs_three_times_with_growing_resources(every_kind: Finished) -> None:
    assert every_kind.project.file("late.txt").read_text() == "100\n200\n300\n"
    attempts = [task["features"]["attempt"] for task in every_kind.project.tasks if task["name"] == "late"]
    assert attempts == [1, 2, 3]


def test_every_attempt_has_a_log_with_what_the_job_said(every_kind: Finished) -> None:
    logs = every_kind.project.logs
    assert len(logs) == len(every_kind.project.tasks) == 11
    assert sum("to the log" in log.read_text() for log in logs) == 2


def test_the_end_says_what_became_of_the_run_and_where_its_records_are(every_kind: Finished) -> None:
    last = [line for line in every_kind.ended.text.splitlines() if line.startswith("Scalable: ")][-1]
    assert last.startswith("Scalable: completed, 9 jobs done, 2 attempts failed; records in ")
    assert Path(last.rpartition(" in ")[2]) == every_kind.project.run_directories[-1]


def test_telemetry_knows_what_a_job_asked_for_and_measured_its_children(every_kind: Finished) -> None:
    summarise = next(task for task in every_kind.project.tasks if task["name"] == "summarise")
    assert summarise["features"]["input_files"] == 2
    assert summarise["features"]["input_bytes"] == 8
    assert summarise["cpu_s"] > 0.2, "starting Snakemake takes more than that"
    assert summarise["peak_bytes"] > 30e6


def test_a_second_run_and_a_dry_run_start_nothing(every_kind: Finished) -> None:
    before = every_kind.project.run_directories
    again = every_kind.project.run(SECRET="hunter2")
    assert "Nothing to be done" in again.text
    dry = every_kind.project.run("late.txt", "--dry-run", "--forceall", SECRET="hunter2")
    assert "rule late:" in dry.text
    assert (again.code, dry.code) == (0, 0)
    assert every_kind.project.run_directories == before


_FAILURES = """
    rule all:
        input: "bad.txt", "after.txt", "good.txt", "missing.txt", "g2.txt"

    rule bad:
        output: "bad.txt"
        retries: 1
        shell: "echo x >> bad-ran; echo half > {output}; echo what went wrong >&2; exit 7"

    rule after:
        input: "bad.txt"
        output: "after.txt"
        shell: "echo > {output}"

    rule good:
        output: "good.txt"
        resources: scalable_tag="simulate"
        shell: "sleep 2; pwd > {output}"

    rule missing:
        output: "missing.txt"
        resources: scalable_tag="simulate"
        shell: "true"

    rule g1:
        output: "g1.txt"
        group: "g"
        resources: scalable_tag="analyse"
        shell: "echo grouped trouble; exit 3"

    rule g2:
        input: "g1.txt"
        output: "g2.txt"
        group: "g"
        resources: scalable_tag="analyse"
        shell: "cp {input} {output}"
"""


# A job's end is told, and not asked for.
_PATIENT = ("--seconds-between-status-checks", "1000", "--max-status-checks-per-second", "0.001")


@pytest.fixture(scope="module")
def failures(new_project: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Jobs that fail beside one that does not, on workers that are threads, in another directory."""
    project = new_project(tmp_path_factory.mktemp("flow") / "failures", _FAILURES)
    arguments = (*_PATIENT, "--keep-going", "--latency-wait", "1", "--directory", "there")
    ended = project.run(*arguments, target="threads")
    project.directory /= "there"
    return Finished(project, ended)


def test_with_keep_going_the_rest_goes_on_and_the_run_is_failed(failures: Finished) -> None:
    assert failures.ended.code == 1
    assert failures.project.status == "failed"
    assert failures.project.file("good.txt").read_text() == f"{failures.project.directory}\n"
    assert not failures.project.file("after.txt").exists()


def test_a_failed_rule_with_a_retry_runs_twice_and_leaves_no_output(failures: Finished) -> None:
    assert failures.project.file("bad-ran").read_text() == "x\nx\n"
    assert not failures.project.file("bad.txt").exists()


def test_a_failure_shows_attempt_pool_log_and_the_jobs_last_words(failures: Finished) -> None:
    text = failures.ended.text
    assert "exit code 1 (attempt 1, pool plain)" in text
    assert "exit code 1 (attempt 2, pool plain)" in text
    assert "| what went wrong" in text
    assert str(next(log for log in failures.project.logs if log.name.startswith("bad-"))) in text
    assert "cluster/cloud log" not in text


def test_a_failed_group_shows_them_too(failures: Finished) -> None:
    assert "Group job g1+g2: exit code 1 (attempt 1, pool analyse)" in failures.ended.text
    assert "| grouped trouble" in failures.ended.text


def test_a_job_without_its_output_counts_as_failed(failures: Finished) -> None:
    assert "Scalable: failed, 1 jobs done, 4 attempts failed" in failures.ended.text


@pytest.fixture
def project(new_project: Callable[..., Any], tmp_path: Path, watch: Any) -> Any:
    """Two jobs that last until they are ended, and say where they are."""
    made = new_project(
        tmp_path / "flow",
        """
        rule all:
            input: expand("{i}.txt", i=[1, 2, 3])

        rule last:
            output: "{i}.txt"
            resources: scalable_tag=config.get("tag", "simulate")
            shell:
                "echo half > {output}; test -e go || (setsid sleep 100 & echo $! > pid{wildcards.i}; wait); "
                "test -e go; echo ran >> ran{wildcards.i}; echo whole > {output}"
        """,
    )
    yield made
    watch.until(lambda: not watch.marked(made.marker), 20)


def _begun(project: Any, watch: Any) -> list[int]:
    """Wait for two jobs to be under way and return the processes of their last descendants."""
    watch.until(lambda: len(list(project.directory.glob("pid?"))) >= 2, 60)
    return [watch.pid_in(file) for file in project.directory.glob("pid?")]


def test_an_unknown_tag_is_refused_before_anything_runs(project: Any) -> None:
    ended = project.run("--config", "tag=simulat")
    assert ended.code == 1
    assert "rule last: no pool of this target offers tag 'simulat'" in ended.text
    assert "did you mean 'simulate'?" in ended.text
    assert "Traceback" not in ended.text
    assert project.run_directories == []


def test_a_manifest_that_cannot_be_used_is_refused_before_anything_runs(project: Any) -> None:
    ended = project.run("--scalable-target", "nowhere")
    assert ended.code == 1
    assert "nowhere" in ended.text
    assert "Traceback" not in ended.text


def test_pools_that_do_not_start_end_the_workflow_with_one_message(project: Any) -> None:
    ended = project.run(SCALABLE_RUNS_DIR=str(project.file("Snakefile")))
    assert ended.code == 1
    assert ended.text.count("Scalable could not start: ") == 1
    assert "Traceback" not in ended.text


def test_a_termination_waits_for_running_jobs_and_cancels_the_rest(project: Any, watch: Any) -> None:
    running = project.start(target="threads")
    _begun(project, watch)
    running.terminate()
    project.file("go").touch()
    for process in _begun(project, watch):
        os.kill(process, signal.SIGKILL)
    ended = project.wait(running)
    assert ended.code == 1
    assert len(list(project.directory.glob("ran?"))) >= 2
    assert project.status == "cancelled"


@pytest.mark.parametrize("whom", ["group", "snakemake"])
def test_an_interrupt_ends_jobs_and_workers_at_once(project: Any, watch: Any, whom: str) -> None:
    # A terminal interrupts the whole process group; `kill -INT` only Snakemake.
    running = project.start(target="local" if whom == "group" else "threads")
    processes = _begun(project, watch)
    (os.killpg if whom == "group" else os.kill)(running.pid, signal.SIGINT)
    ended = project.wait(running)
    assert ended.seconds < 8
    assert ended.code == 1
    assert not any(map(watch.alive, processes))
    assert project.status == "cancelled"
    assert watch.marked(project.marker) == []
    assert "Traceback" not in ended.text


def test_nothing_outlives_a_killed_snakemake_and_the_next_run_picks_up(project: Any, watch: Any) -> None:
    running = project.start()
    processes = _begun(project, watch)
    running.kill()
    watch.until(lambda: not watch.marked(project.marker), 10)
    assert not any(map(watch.alive, processes))
    project.wait(running)
    project.file("go").touch()
    ended = project.run("--rerun-incomplete", "--nolock")
    assert ended.code == 0, ended.text
    assert [project.file(f"{i}.txt").read_text() for i in (1, 2, 3)] == ["whole\n"] * 3


def test_a_job_whose_worker_dies_is_reported_and_those_that_had_not_begun_run(project: Any, watch: Any) -> None:
    running = project.start("--keep-going", "--config", "tag=plain", target="one")
    watch.until(lambda: list(project.directory.glob("pid?")), 60)
    begun = next(iter(project.directory.glob("pid?")))
    victim = watch.pid_in(begun)
    (log,) = project.logs
    worker = int(log.read_text().partition("process ")[2].split()[0])
    project.file("go").touch()
    os.kill(worker, signal.SIGKILL)
    watch.until(lambda: not watch.alive(victim), 5)
    ended = project.wait(running)
    assert ended.code == 1
    assert ended.text.count("died while it ran (attempt 1, pool plain)") == 1
    assert "marked as failed" not in ended.text
    others = {"1", "2", "3"} - {begun.name[-1]}
    assert {file.name[-1] for file in project.directory.glob("ran?")} == others
    assert all(project.file(f"ran{other}").read_text() == "ran\n" for other in others)
    assert "Scalable: failed, 2 jobs done, 1 attempts failed" in ended.text
    assert project.status == "failed"
