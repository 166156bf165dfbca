"""What the tests of reports share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report.runs import SampleRun


@pytest.fixture
def sample(tmp_path: Path) -> Callable[..., SampleRun]:
    def make(*names: str, **facts: Any) -> SampleRun:
        return SampleRun(tmp_path / "runs", *names, **facts)

    return make
