"""Runs that are over before what they began in the background is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MANIFEST = """\
version: 1
project: {name: short}
targets: {here: {provider: local, adaptive: {maximum: 2}}}
components: {simulate: {cpus: 1}}
"""

SCRIPT = """\
from scalable import ScalableSession

with ScalableSession.from_yaml("scalable.yaml") as session:
    print(session.start().submit(abs, -1, tag="simulate").result())
"""


@pytest.mark.slow
def test_a_run_that_ends_while_past_runs_are_still_read_ends_in_order(tmp_path: Path) -> None:
    (tmp_path / "scalable.yaml").write_text(MANIFEST)
    (tmp_path / "script.py").write_text(SCRIPT)
    ended = [
        subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
        for _ in range(2)
    ]
    assert [(one.returncode, one.stdout) for one in ended] == [(0, "1\n")] * 2, ended[-1].stderr
