"""One job on a worker: what is sent to run it, and the function that Dask runs there.

Imports the standard library only: a worker that runs jobs needs neither Snakemake's
plugin interface nor this package's executor in its own process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from scalable_snakemake import supervisor

__all__ = ["JobFailed", "JobRequest", "WorkerDied", "run_job_request", "stop_jobs", "tail"]

_SUPERVISOR = str(Path(supervisor.__file__).resolve())
_TAIL_LINES = 25
_TAIL_BYTES = 16_384
_STOP_LIMIT_S = 5.0
_TICK_S = 0.01


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a worker needs to know to run one attempt of one job.

    Attributes
    ----------
    run : str
        Which run it belongs to; all jobs of a run are stopped together.
    command : str
        A shell command.
    directory : str
        Where it starts.
    log : str
        File that takes its output. It must not exist yet: a worker that creates it has
        the right to run the job, and no other worker ever gets it.
    environ : mapping of str to str or None
        Changes to the worker's environment, ``None`` removing a variable. Not part of the
        ``repr``, which Dask may print: it holds secrets.
    """

    run: str
    command: str
    directory: str
    log: str
    environ: Mapping[str, str | None] = field(default_factory=dict, repr=False)


class JobFailed(Exception):
    """A job did not succeed.

    Parameters
    ----------
    reason : str
        What happened to it.
    last_lines : str
        The end of its log.
    """

    def __init__(self, reason: str, last_lines: str = "") -> None:
        self.reason = reason
        self.last_lines = last_lines
        super().__init__(reason, last_lines)

    def __str__(self) -> str:
        return self.reason


class WorkerDied(JobFailed):
    """A job's worker died under it; the job was not started again."""


class _Running:
    """The jobs under way in this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._supervisors: dict[subprocess.Popen[bytes], str] = {}
        self._stopped: set[str] = set()

    def start(self, request: JobRequest, log: TextIO) -> subprocess.Popen[bytes]:
        """Start a job's supervisor, unless its run is being stopped."""
        with self._lock:
            if request.run in self._stopped:
                raise JobFailed("stopped before it began")
            process = subprocess.Popen(  # noqa: S603  (the user's own command is all that is run)
                [sys.executable, "-I", "-S", _SUPERVISOR],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=request.directory,
                env=_environment(request.environ),
                start_new_session=True,
            )
            self._supervisors[process] = request.run
        return process

    def forget(self, process: subprocess.Popen[bytes]) -> None:
        """Take a job off the list."""
        with self._lock:
            self._supervisors.pop(process, None)

    def stop(self, run: str) -> int:
        """Stop every job of a run and wait for their end; none is started any more."""
        with self._lock:
            self._stopped.add(run)
            processes = self._of(run)
        for process in processes:
            with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
                _tell(process, supervisor.STOP)
        deadline = time.monotonic() + _STOP_LIMIT_S
        while self._of(run) and time.monotonic() < deadline:
            time.sleep(_TICK_S)
        return len(processes)

    def _of(self, run: str) -> list[subprocess.Popen[bytes]]:
        return [process for process, owner in list(self._supervisors.items()) if owner == run]


_running = _Running()


def run_job_request(request: JobRequest) -> None:
    """Run one attempt of a job to its end; the task that Dask runs on a worker.

    Raises
    ------
    JobFailed
        If the command fails, with the end of its log.
    WorkerDied
        If another worker had begun this attempt: then it died, and the job with it.
    """
    with _claim(Path(request.log)) as log:
        process = _running.start(request, log)
    try:
        answer = _converse(process, {"command": request.command})
    finally:
        _running.forget(process)
    reason = _reason(answer, process.returncode)
    if reason:
        raise JobFailed(reason, tail(Path(request.log)))


def _converse(process: subprocess.Popen[bytes], order: Mapping[str, str]) -> bytes:
    """Tell a supervisor what to run and return its answer; its standard input stays open all the while."""
    with process:
        with contextlib.suppress(BrokenPipeError):  # then there is no answer, which is reported
            _tell(process, json.dumps(order).encode() + b"\n")
        return process.stdout.read() if process.stdout is not None else b""


def _tell(process: subprocess.Popen[bytes], line: bytes) -> None:
    if process.stdin is not None:
        process.stdin.write(line)
        process.stdin.flush()


def stop_jobs(run: str) -> int:
    """End all jobs of a run in this process at once; return how many there were.

    To be run on every worker, beside the tasks themselves.
    """
    return _running.stop(run)


def tail(log: Path) -> str:
    """Return the last lines of a file, or nothing if it cannot be read."""
    try:
        with log.open("rb") as lines:
            size = lines.seek(0, os.SEEK_END)
            lines.seek(max(0, size - _TAIL_BYTES))
            text = lines.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


def _claim(log: Path) -> TextIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        file = log.open("x", encoding="utf-8")
    except FileExistsError:
        with log.open(encoding="utf-8", errors="replace") as claimed:
            owner = claimed.readline().strip("# \n")
        raise WorkerDied(f"its worker died while it ran ({owner})", tail(log)) from None
    file.write(f"# {_worker_name()}, process {os.getpid()} on {socket.gethostname()}, {time.strftime('%F %T %z')}\n")
    file.flush()
    return file


def _worker_name() -> str:
    worker = sys.modules.get("distributed.worker")
    if worker is None:
        return "no worker"
    try:
        return f"worker {worker.get_worker().name}"
    except ValueError:
        return "no worker"


def _environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    environment = dict(os.environ)
    for name, value in changes.items():
        if value is None:
            environment.pop(name, None)
        else:
            environment[name] = value
    return environment


def _reason(answer: bytes, returned: int) -> str:
    """Return why a job failed, or nothing if it did not."""
    try:
        result: dict[str, Any] = json.loads(answer)
    except ValueError:
        return f"the process that watched over it ended with {returned}"
    code = result["exit_code"]
    if result["stopped"]:
        return "stopped"
    if code == -signal.SIGKILL:
        return "killed (SIGKILL); the machine may have run out of memory"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}" if code else ""
