"""What the tests of runs on a real Slurm have in common."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from scalable.providers.batch.security import DIRECTORY_PREFIX

MANIFEST = """\
version: 1
project: {name: tests}
targets:
  hpc: {provider: slurm, OPTIONS}
components:
  simulate: {cpus: 1, memory: 500M}
"""


def manifest_text(**options: object) -> str:
    """Return a manifest for the Slurm of the tests, with further options of the target."""
    given = {"account": "science", "queue": "main", "interface": "lo", "max_workers": 2} | options
    lines = (f"{name}: {json.dumps(value)}" for name, value in given.items() if value is not None)
    return MANIFEST.replace("OPTIONS", ", ".join(lines))


def until(holds: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait until something holds, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return value


def certificates(below: Path) -> list[Path]:
    """Return the directories of certificates below a directory."""
    return list(below.rglob(f"{DIRECTORY_PREFIX}*"))


def listening(pid: int) -> list[tuple[str, int]]:
    """Return the addresses and ports at which a process listens."""
    found = psutil.Process(pid).net_connections("inet")
    return [tuple(one.laddr) for one in found if one.status == psutil.CONN_LISTEN]


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes that have some text in their command line, but for this one."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found += [process] if any(mark in word for word in process.cmdline()) else []
    return found


@contextmanager
def script(text: str, folder: Path, *before: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script in a process of its own, which is killed at the end; ``before`` comes before its name."""
    path = folder / "workflow.py"
    path.write_text(text)
    command = [sys.executable, *before, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
