"""The commands of the page on advice run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, block

PAGE = (ROOT / "docs/how-to/let-history-decide.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [line.removeprefix("$ ") for text in blocks for line in text.splitlines()]


@pytest.mark.slow
def test_the_commands_do_what_the_page_says(tmp_path: Path) -> None:
    (tmp_path / "scalable.yaml").write_text(block(PAGE, "yaml"))
    (tmp_path / "study.py").write_text(block(PAGE, "python"))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SCALABLE_RUNS_DIR": str(tmp_path / "runs"),
    }
    printed = {}
    for command in commands():
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed[command] = done.stdout
    shown = block(PAGE, "text").splitlines()
    table = printed["scalable advise --all --model-type quantile"].splitlines()
    assert table[0].split() == shown[0].split()
    assert [line.split()[:3] for line in table[1:]] == [line.split()[:3] for line in shown[1:]]
    before, after = 2048, re.search(r"memory='(\d+)M'", printed["scalable plan --overlay advice.yaml"])
    assert after is not None
    assert int(after[1]) < before / 2
