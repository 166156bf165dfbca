"""The tutorial runs as it is printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "prefect.md"


@pytest.mark.slow
def test_the_tutorials_manifest_and_flow_print_what_it_says(server: str, tmp_path: Path) -> None:
    blocks = dict(re.findall(r"^```(yaml|python|console)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL))
    (tmp_path / "scalable.yaml").write_text(blocks["yaml"])
    (tmp_path / "flow.py").write_text(blocks["python"])
    done = subprocess.run(
        [sys.executable, "flow.py"], cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"$ python flow.py\n{done.stdout}" == blocks["console"]
