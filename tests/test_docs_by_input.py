"""The page on advice by input does what it prints: runs are made, learned from, and asked about."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pages import ROOT, block

PAGE = (ROOT / "docs/how-to/advise-by-input.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def shape(text: str) -> list[str]:
    """Return lines without numbers, which differ from run to run."""
    return [re.sub(r"\d[\d.:]*(e[+-]?\d+)?", "N", line) for line in text.strip().splitlines()]


@pytest.mark.slow
def test_what_the_page_prints_is_printed(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SCALABLE_RUNS_DIR": str(tmp_path / ".scalable/runs"),
    }

    def run(command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    study, *advice = blocks("python")
    (tmp_path / "scalable.yaml").write_text(block(PAGE, "yaml"))
    (tmp_path / "study.py").write_text(study)
    (tmp_path / "advice.py").write_text("\n".join(advice))
    _pip, runs, ask = (text.replace("$ ", "") for text in blocks("console"))

    run(runs)
    printed, shown = shape(run("python advice.py")), [line for text in blocks("text") for line in shape(text)]
    parameters, score = printed[len(shown) :]
    # Which features move it by next to nothing is chance.
    cut = next(place for place, line in enumerate(shown) if "memory moved by" in line)
    assert printed[cut].startswith(shown[cut])
    assert printed[:cut] + printed[cut + 1 : len(shown)] == shown[:cut] + shown[cut + 1 :]
    assert parameters.startswith("Best parameters: {'n_estimators': N")
    assert score == "Cross-validation score: N"

    answer = json.loads(run(ask))
    assert list(answer) == ["task", "workers", "resources", "confidence", "model_type", "evidence"]
    assert answer["model_type"] == "gradient_boosting"
    assert answer["evidence"]["features"] == {"num_scenarios": 10, "input_size_mb": 20, "time_horizon": 2100}
