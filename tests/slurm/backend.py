"""The Slurm that the suite starts: real daemons and four nodes, all of it on this host."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HERE = Path(__file__).parent
COMMANDS = ("sbatch", "squeue", "scancel", "sacct", "scontrol")
NODES = ("n1", "n2", "n3", "n4")

# Between the fields of a line of squeue: names and comments may have anything printable in them.
SEPARATOR = "\x1f"
FIELDS = "%i %j %T %r %N %C %m %P %k".replace(" ", SEPARATOR)
MEGABYTES = {"": 1, "M": 1, "G": 1024, "T": 1024**2}

# What a script says when this machine cannot have what it brings.
UNAVAILABLE = 77


class Unavailable(Exception):
    """This machine cannot have what was asked for; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Job:
    """One job, or one task of an array, as squeue shows it.

    ``memory`` is in MiB and of a node, or of a CPU where the job asked for it so. ``node`` is empty until it starts.
    """

    id: str
    name: str
    state: str
    reason: str
    node: str
    cpus: int
    memory: int
    partition: str
    comment: str


class Calls:
    """How often each of Slurm's commands was called; also while more may come."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __getitem__(self, command: str) -> int:
        return self.counts()[command]

    def __repr__(self) -> str:
        return f"Calls({dict(self.counts())})"

    def counts(self) -> Counter[str]:
        """Return the number of calls of each command."""
        return Counter(self._log.read_text().split())


class Slurm:
    """A Slurm that is up, as tests see and disturb it."""

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        # The real ones, whatever comes first on PATH later: what tests look at is not counted.
        self._paths = {name: shutil.which(name) or name for name in (*COMMANDS, "sinfo")}

    def jobs(self) -> list[Job]:
        """Return the jobs that have not ended yet; arrays task by task."""
        lines = self.run("squeue", "--noheader", "--array", "--all", f"--format={FIELDS}").splitlines()
        return [_job(line) for line in lines]

    def job(self, number: str | int) -> Job | None:
        """Return a job; ``None`` if it has ended."""
        return next((job for job in self.jobs() if job.id == str(number)), None)

    def wait_empty(self, seconds: float = 30) -> None:
        """Wait until every job has ended."""
        deadline = time.monotonic() + seconds
        while jobs := self.jobs():
            listing = "\n".join(map(str, jobs))
            assert time.monotonic() < deadline, f"still there after {seconds:g} s:\n{listing}"
            time.sleep(0.1)

    def nodes(self) -> dict[str, str]:
        """Return the state of each node: ``idle``, ``mixed``, ``allocated``, ``down``, ``draining``..."""
        lines = self.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %T").splitlines()
        return dict(line.split() for line in lines)

    def node(self, name: str, state: Literal["down", "drain", "resume"]) -> None:
        """Set the state of a node: ``down`` ends its jobs at once, ``drain`` lets them end."""
        self.run("scontrol", "update", f"nodename={name}", f"state={state}", "reason=tests")

    def requeue(self, job: str | int) -> None:
        """Stop a job and put it back in line; it begins anew after some five seconds."""
        self.run("scontrol", "requeue", str(job))

    def cancel(self, job: str | int) -> None:
        """Cancel a job."""
        self.run("scancel", str(job))

    @contextmanager
    def counted(self) -> Iterator[Calls]:
        """Count the calls of Slurm's commands that this process and its children make, but not this object's."""
        directory = Path(tempfile.mkdtemp(prefix="calls-", dir=self.conf.parent))
        log = directory / "log"
        log.touch()
        for name in COMMANDS:
            wrapper = directory / name
            wrapper.write_text(f'#!/bin/sh\necho {name} >>"{log}"\nexec "{self._paths[name]}" "$@"\n')
            wrapper.chmod(0o755)
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{directory}{os.pathsep}{before}"
        try:
            yield Calls(log)
        finally:
            os.environ["PATH"] = before

    def clear(self) -> None:
        """End every job and bring every node back."""
        for job in self.jobs():
            self.cancel(job.id)
        self.wait_empty()
        # A daemon that a test has killed is started again.
        up()
        self._wait_idle()

    def run(self, command: str, *args: str) -> str:
        """Run one of Slurm's commands, uncounted, and return what it prints."""
        done = subprocess.run(
            [self._paths.get(command, command), *args],
            env={**os.environ, "SLURM_CONF": str(self.conf)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command} {' '.join(args)}: {done.stderr}"
        return done.stdout

    def _wait_idle(self, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while (nodes := self.nodes()) != dict.fromkeys(NODES, "idle"):
            assert time.monotonic() < deadline, f"not idle after {seconds:g} s: {nodes}"
            for name, state in nodes.items():
                # A node comes back by itself from most states, and refuses to be resumed in them.
                if state != "idle":
                    with suppress(AssertionError):
                        self.node(name, "resume")
            time.sleep(0.2)


def up() -> Slurm:
    """Bring Slurm up, or mend the one that is.

    Raises
    ------
    Unavailable
        If this machine cannot have one.
    """
    return Slurm(Path(script("up.sh").splitlines()[-1]))


def down() -> None:
    """Take Slurm down, with all its jobs and files."""
    script("down.sh")


def script(name: str, *args: str) -> str:
    """Run a script of this directory and return what it prints."""
    # By files: a pipe would stay open for as long as a daemon that inherits it.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        status = subprocess.run([HERE / name, *args], stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False)
        out.seek(0)
        err.seek(0)
        output, errors = out.read(), err.read()
    if status.returncode == UNAVAILABLE:
        raise Unavailable(errors.strip().splitlines()[-1])
    assert status.returncode == 0, f"{name} ended with {status.returncode}:\n{errors}"
    return output


def _job(line: str) -> Job:
    number, name, state, reason, node, cpus, memory, partition, comment = line.split(SEPARATOR, 8)
    size = re.fullmatch(r"([\d.]+)([MGT]?)", memory)
    assert size is not None, memory
    megabytes = int(float(size[1]) * MEGABYTES[size[2]])
    comment = "" if comment == "(null)" else comment
    return Job(number, name, state, reason, node, int(cpus), megabytes, partition, comment)
