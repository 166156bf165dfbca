"""One job on a worker: its end is seen, its processes are never left behind, and no attempt runs twice."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from scalable_snakemake import supervisor
from scalable_snakemake.job import JobFailed, JobRequest, WorkerDied, run_job_request, stop_jobs


def a_request(tmp_path: Path, command: str, **changes: object) -> JobRequest:
    facts = {"run": uuid.uuid4().hex, "directory": str(tmp_path), "log": str(tmp_path / "logs" / "job.log")}
    return JobRequest(command=command, **(facts | changes))  # type: ignore[arg-type]


def in_background(request: JobRequest) -> tuple[threading.Thread, list[BaseException]]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            run_job_request(request)
        except JobFailed as failure:
            failures.append(failure)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, failures


def test_a_job_runs_in_its_directory_with_its_output_in_the_log_and_no_input(tmp_path: Path) -> None:
    run_job_request(a_request(tmp_path, "pwd; echo careful >&2; wc -c"))
    header, *lines = (tmp_path / "logs" / "job.log").read_text().splitlines()
    assert header.startswith("# ")
    assert str(os.getpid()) in header
    assert lines == [str(tmp_path), "careful", "0"]


def test_variables_are_set_and_removed_for_the_job_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "mine")
    request = a_request(
        tmp_path,
        'test "$SECRET" = "a b" && test -z "$SNAKEMAKE_PROFILE"',
        environ={"SECRET": "a b", "SNAKEMAKE_PROFILE": None},
    )
    run_job_request(request)
    assert "SECRET" not in os.environ


def test_a_request_never_shows_its_secrets(tmp_path: Path) -> None:
    assert "hunter2" not in repr(a_request(tmp_path, "true", environ={"PASSWORD": "hunter2"}))


@pytest.mark.parametrize(
    ("command", "reason"),
    [("exit 3", "exit code 3"), ("kill -9 $$", "SIGKILL"), ("kill -SEGV $$", "SIGSEGV"), ("no-such-program", "127")],
)
def test_a_failed_job_says_how_it_ended(tmp_path: Path, command: str, reason: str) -> None:
    with pytest.raises(JobFailed, match=reason):
        run_job_request(a_request(tmp_path, command))


def test_a_failure_carries_the_end_of_the_log_to_the_other_side(tmp_path: Path) -> None:
    with pytest.raises(JobFailed) as caught:
        run_job_request(a_request(tmp_path, "seq 1000; printf '\\377\\n'; echo the end; exit 1"))
    copy = pickle.loads(pickle.dumps(caught.value))
    assert copy.last_lines.endswith("1000\n\ufffd\nthe end")
    assert len(copy.last_lines.splitlines()) == 25
    assert str(copy) == "exit code 1"


def test_an_attempt_that_was_begun_elsewhere_is_not_run_again(tmp_path: Path) -> None:
    request = a_request(tmp_path, "echo once >> ran")
    run_job_request(request)
    with pytest.raises(WorkerDied, match=r"died while it ran .*process"):
        run_job_request(request)
    assert (tmp_path / "ran").read_text() == "once\n"


def test_a_command_longer_than_the_system_takes_as_an_argument_runs(tmp_path: Path) -> None:
    run_job_request(a_request(tmp_path, f"true {'x' * 200_000}; echo é > done"))
    assert (tmp_path / "done").read_text() == "é\n"


def test_what_a_job_leaves_running_is_ended_with_it(tmp_path: Path, watch: Any) -> None:
    run_job_request(a_request(tmp_path, "setsid sleep 100 & echo $! > left; sleep 100 & echo $! > other"))
    assert not watch.alive(watch.pid_in(tmp_path / "left"))
    assert not watch.alive(watch.pid_in(tmp_path / "other"))


def test_stopping_a_run_ends_its_jobs_politely_and_refuses_new_ones(tmp_path: Path, watch: Any) -> None:
    request = a_request(tmp_path, "trap 'echo tidied > tidy; exit 1' TERM; sleep 100 & echo $! > pid; wait")
    thread, failures = in_background(request)
    sleeper = watch.pid_in(tmp_path / "pid")
    assert stop_jobs(request.run) == 1
    thread.join(5)
    assert (tmp_path / "tidy").read_text() == "tidied\n"
    assert not watch.alive(sleeper)
    assert [str(failure) for failure in failures] == ["stopped"]
    with pytest.raises(JobFailed, match="stopped before it began"):
        run_job_request(a_request(tmp_path, "echo > ran", run=request.run, log=str(tmp_path / "second.log")))
    assert not (tmp_path / "ran").exists()


def test_a_job_that_ignores_the_order_to_stop_is_killed(tmp_path: Path, watch: Any) -> None:
    request = a_request(tmp_path, "trap '' TERM INT HUP; echo $$ > pid; while :; do sleep 0.1; done")
    thread, failures = in_background(request)
    stubborn = watch.pid_in(tmp_path / "pid")
    began = time.monotonic()
    stop_jobs(request.run)
    thread.join(5)
    assert time.monotonic() - began < 4
    assert not watch.alive(stubborn)
    assert failures


def test_jobs_of_other_runs_are_not_stopped(tmp_path: Path, watch: Any) -> None:
    thread, failures = in_background(a_request(tmp_path, "sleep 0.5"))
    watch.until((tmp_path / "logs" / "job.log").exists)
    assert stop_jobs("another") == 0
    thread.join()
    assert failures == []


_WORKER = """
import sys
from scalable_snakemake.job import JobRequest, run_job_request
run_job_request(JobRequest(run="r", command=sys.argv[2], directory=sys.argv[1], log=sys.argv[1] + "/job.log"))
"""


def test_a_killed_worker_takes_every_process_of_its_job_with_it(tmp_path: Path, watch: Any) -> None:
    # Neither a session of its own nor an ignored signal saves a process, nor the death of its parent.
    command = (
        "trap '' TERM; echo $$ > a; setsid sleep 100 & echo $! > b; (setsid sh -c 'echo $$ > c; sleep 100' &); wait"
    )
    worker = subprocess.Popen([sys.executable, "-c", _WORKER, str(tmp_path), command])
    processes = [watch.pid_in(tmp_path / name) for name in "abc"]
    assert all(map(watch.alive, processes))
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    watch.until(lambda: not any(map(watch.alive, processes)), 5)


def test_a_killed_supervisor_takes_the_command_with_it(tmp_path: Path, watch: Any) -> None:
    request = a_request(tmp_path, "echo $PPID > supervisor; echo $$ > pid; while :; do sleep 0.1; done")
    thread, failures = in_background(request)
    job = watch.pid_in(tmp_path / "pid")
    os.kill(watch.pid_in(tmp_path / "supervisor"), signal.SIGKILL)
    thread.join(10)
    assert "watched over it" in str(failures[0])
    watch.until(lambda: not watch.alive(job), 5)


def test_a_worker_needs_neither_snakemake_nor_this_package_beyond_the_job(tmp_path: Path) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, scalable_snakemake.job; print(*sorted(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    ours = [name for name in loaded if name.startswith(("snakemake", "scalable", "distributed", "dask"))]
    assert ours == ["scalable_snakemake", "scalable_snakemake.job", "scalable_snakemake.supervisor"]


def test_the_supervisor_needs_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", supervisor.__file__],
        input=b'{"command": "true"}\n',
        capture_output=True,
        check=False,
    )
    assert done.stderr == b""
    assert b'"stopped": false' in done.stdout
