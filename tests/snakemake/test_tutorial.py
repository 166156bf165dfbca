"""The tutorial's files and command do what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

_TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial" / "snakemake.md"


def test_the_tutorial_runs_as_printed(tmp_path: Path) -> None:
    blocks = dict(re.findall(r"```(\w+)\n(.*?)```", _TUTORIAL.read_text(), flags=re.DOTALL))
    (tmp_path / "scalable.yaml").write_text(blocks["yaml"])
    (tmp_path / "Snakefile").write_text(blocks["python"])
    command = blocks["console"].removeprefix("$ ").split()
    assert command[0] == "snakemake"
    done = subprocess.run(
        [Path(sys.executable).with_name("snakemake"), *command[1:]],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if not name.startswith("SCALABLE_")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "ranking.txt").read_text() == "0\n1\n2\n4\n"
    said = [line for line in done.stdout.splitlines() if line.startswith("Scalable: ")]
    assert [re.sub(r"run-[\w-]+", "run-...", line) for line in said] == blocks["text"].splitlines()
