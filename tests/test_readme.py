"""What the README and the first tutorial show is run here, and must come out as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import README, TUTORIAL, block


def run(folder: Path, *command: str, **environment: str) -> str:
    """Run a command in a folder and return what it prints."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scalable.yaml").write_text(block(README, "yaml", "project:"))
    return tmp_path


def test_the_manifest_has_twelve_lines_and_is_valid(folder: Path) -> None:
    assert len(block(README, "yaml", "project:").splitlines()) == 12
    assert "ok" in run(folder, "scalable", "validate")


@pytest.mark.slow
def test_the_script_prints_what_is_shown_and_leaves_a_report(folder: Path) -> None:
    (folder / "run.py").write_text(block(README, "python", "ScalableSession"))
    assert f"$ python run.py\n{run(folder, 'python', 'run.py')}" in README
    report = run(folder, "scalable", "report")
    assert "Tasks: 21 completed, 0 failed" in report
    assert re.search(r"simulate +20 ", report)


@pytest.mark.slow
@pytest.mark.engine
def test_the_flow_prints_the_same(folder: Path) -> None:
    (folder / "flow.py").write_text(block(README, "python", "from prefect"))
    quiet = {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_LOGGING_LEVEL": "ERROR", "DO_NOT_TRACK": "1"}
    ephemeral = {
        "PREFECT_API_URL": "",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    }
    assert run(folder, "python", "flow.py", **quiet, **ephemeral) == "2470\n"


@pytest.mark.slow
@pytest.mark.engine
def test_the_snakefile_makes_its_total(folder: Path) -> None:
    (folder / "Snakefile").write_text(block(README, "snakemake"))
    command = next(line for line in README.splitlines() if line.startswith("$ snakemake"))
    run(folder, *command.removeprefix("$ ").split())
    assert (folder / "total.txt").read_text() == "14\n"


def test_the_tutorials_plan_is_what_plan_prints(folder: Path) -> None:
    (folder / "scalable.yaml").write_text(block(TUTORIAL, "yaml"))
    shown = block(TUTORIAL, "console", "scalable plan").split("\n", 1)[1]
    assert run(folder, "scalable", "plan") == shown
