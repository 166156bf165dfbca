"""Closing the records of a run whose process is gone, in its place."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from scalable.errors import ScalableError

__all__ = ["close_records"]


def close_records(run_dir: Path) -> None:
    """Write the ``summary.json`` that a dead run still owes: failed, when its last record was written.

    Parameters
    ----------
    run_dir : Path
        The run's directory. One with a summary is left alone.

    Raises
    ------
    ScalableError
        If it cannot be written.
    """
    path = run_dir / "summary.json"
    if path.exists():
        return
    # Not now: the time since its death was no part of the run.
    summary = {"schema": 1, "status": "failed", "ended_at": _last_written(run_dir), "tasks": {}, "killed": True}
    draft = run_dir / f".summary.json.{os.getpid()}"
    try:
        draft.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise ScalableError(f"cannot write {path}: {error.strerror}") from error


def _last_written(run_dir: Path) -> float:
    times = [(run_dir / "run.json").stat().st_mtime]
    for path in run_dir.glob("*.jsonl"):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times)
