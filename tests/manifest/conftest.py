"""Every test of this folder works in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make the test's folder the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
