"""Tasks for workers in containers, which have Dask but not what tests need."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any


def surroundings() -> dict[str, Any]:
    """Say where this runs."""
    names = {"awkward": "AWKWARD", "threads": "OMP_NUM_THREADS", "job": "SLURM_JOB_ID", "foreign": "FOREIGN"}
    return {
        "python": sys.executable,
        "root": sorted(path.name for path in Path("/").iterdir()),
        "data": Path("/data/in.txt").read_text(),
        "pydantic": "pydantic" in sys.modules,
        **{what: os.environ.get(name) for what, name in names.items()},
    }


def leave(name: str, text: str) -> str:
    """Write a file where the host sees it."""
    path = Path("/data", name)
    path.write_text(text)
    return str(path)


def fail() -> None:
    """Fail."""
    raise ValueError("inside")


def long_at_first(name: str) -> str:
    """Take ten minutes, or no time at all if this was begun before."""
    mark = Path("/data", name)
    if mark.exists():
        return "again"
    mark.touch()
    time.sleep(600)
    return "at first"
