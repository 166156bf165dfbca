"""What tests share: a run's surroundings that nothing outside the test can disturb."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["tests.slurm.fixtures"]

MANIFEST = """\
version: 1
project: {name: tests}
targets:
  threads: {provider: local, max_workers: 3}
  processes: {provider: local, max_workers: 3, processes: true}
components:
  simulate: {cpus: 1, memory: 1G, tags: [compute-heavy]}
  postprocess: {cpus: 2, memory: 2G, capabilities: {gpu: 1}}
tasks:
  simulate: {component: simulate, count: 8, duration: 10s}
  analyze: {component: postprocess, count: 2, duration: 10s}
"""


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Keep the user's settings out, and runs below the test's own folder."""
    for name in ("SCALABLE_TARGET", "SCALABLE_MANIFEST", "SCALABLE_TELEMETRY", "SCALABLE_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCALABLE_RUNS_DIR", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Write a manifest and return its path."""

    def write(text: str = MANIFEST, name: str = "scalable.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def records(run_dir: Path | None, file: str) -> list[dict[str, Any]]:
    """Return the records of one file of a run."""
    assert run_dir is not None
    path = run_dir / f"{file}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
