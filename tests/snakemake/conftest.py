"""What all tests of the Snakemake executor share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.engine)


class Watch:
    """Looking at processes and files of others."""

    @staticmethod
    def until(condition: Callable[[], object], seconds: float = 30) -> None:
        """Return when the condition holds; fail if it does not in time."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s in vain"
            time.sleep(0.02)

    @staticmethod
    def alive(process: int) -> bool:
        """Whether a process exists and is not just waiting to be reaped."""
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state != "Z"

    @classmethod
    def pid_in(cls, file: Path, seconds: float = 30) -> int:
        """Return the process id that a file holds, once it holds one."""
        cls.until(lambda: file.exists() and file.read_text().strip(), seconds)
        return int(file.read_text())

    @classmethod
    def marked(cls, marker: str) -> list[int]:
        """Return the processes whose environment holds a text."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    environ = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if marker.encode() in environ and cls.alive(int(entry.name)):
                    found.append(int(entry.name))
        return found


MANIFEST = """\
version: 1
project: {name: flow}
targets:
  local: {provider: local, max_workers: 3, processes: true}
  one: {provider: local, max_workers: 1, processes: true}
  threads: {provider: local, max_workers: 3, processes: false}
components:
  plain: {cpus: 1, memory: 1G}
  simulate: {cpus: 3, memory: 1G, tags: [heavy]}
  analyse: {cpus: 1, memory: 1G, env: {FROM_COMPONENT: "yes"}}
tasks:
  summarise: {component: analyse}
overlays:
  small:
    components:
      simulate: {cpus: 2}
"""


@dataclass
class Ended:
    """A run of Snakemake that is over."""

    code: int
    text: str
    seconds: float


class Project:
    """A directory with a manifest and a Snakefile, and Snakemake's runs in it."""

    def __init__(self, directory: Path, snakefile: str) -> None:
        self.directory = directory
        self._runs = directory / "runs"
        self.marker = uuid.uuid4().hex
        directory.mkdir(parents=True)
        (directory / "scalable.yaml").write_text(MANIFEST)
        (directory / "Snakefile").write_text(textwrap.dedent(snakefile))

    def start(self, *arguments: str, target: str = "local", **environ: str) -> subprocess.Popen[str]:
        """Start Snakemake in a process group of its own, as a terminal does."""
        own = {"SCALABLE_RUNS_DIR": str(self._runs), "FLOW_MARKER": self.marker}
        command = [sys.executable, "-m", "snakemake", "--executor", "scalable", "-j", "6", "--nocolor"]
        command += ["--scalable-manifest", "scalable.yaml", "--scalable-target", target, *arguments]
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env=os.environ | own | environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    def run(self, *arguments: str, target: str = "local", **environ: str) -> Ended:
        """Run Snakemake to its end."""
        return self.wait(self.start(*arguments, target=target, **environ))

    @staticmethod
    def wait(process: subprocess.Popen[str], seconds: float = 100) -> Ended:
        """Wait for a run's end."""
        began = time.monotonic()
        try:
            text, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            text, _ = process.communicate()
            pytest.fail(f"Snakemake did not end:\n{text}")
        return Ended(process.returncode, text, time.monotonic() - began)

    def file(self, name: str) -> Path:
        """Return a path in the project."""
        return self.directory / name

    @property
    def run_directories(self) -> list[Path]:
        """Records of the runs, oldest first."""
        return sorted(self._runs.glob("run-*"), key=lambda one: one.stat().st_ctime)

    @property
    def status(self) -> str:
        """How the last run ended."""
        summary = json.loads((self.run_directories[-1] / "summary.json").read_text())
        return str(summary["status"])

    @property
    def tasks(self) -> list[dict[str, Any]]:
        """What telemetry says of the tasks of the last run."""
        lines = (self.run_directories[-1] / "tasks.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def logs(self) -> list[Path]:
        """Logs of the jobs of all runs."""
        return sorted(self.directory.glob(".snakemake/scalable_logs/*/*.log"))


@pytest.fixture(scope="session")
def watch() -> Watch:
    """Eyes."""
    return Watch()


@pytest.fixture(scope="session")
def new_project() -> Callable[[Path, str], Project]:
    """Make projects."""
    return Project
