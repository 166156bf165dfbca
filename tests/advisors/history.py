"""Histories as runs would have left them, one number a task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scalable.advisors import Observation, ResourceAdvisor
from scalable.telemetry.past import Past
from tests.report.runs import START, SampleRun

MIB = 2**20
GIB = 2**30


def run(
    runs_dir: Path,
    attempts: Iterable[Mapping[str, Any]],
    *,
    number: int = 0,
    threads: int = 1,
    startup_s: float | None = None,
    manifest: str = "",
    **facts: Any,
) -> Path:
    """Write a run that has ended; attempts have ``peak`` (bytes) and ``s`` (seconds), or fields of records."""
    started = START + 86_400 * number
    stamp = datetime.fromtimestamp(started, UTC).strftime("%Y%m%dT%H%M%SZ")
    made = SampleRun(runs_dir, f"run-{stamp}-tests-abcdef", started_at=started, **facts)
    made.plan(demeter=2)
    more = {} if startup_s is None else {"startup_s": startup_s}
    made.worker("demeter-0", 0, 100, threads=threads, **more)
    for index, attempt in enumerate(attempts):
        given = dict(attempt)
        peak, seconds = given.pop("peak", 100 * MIB), given.pop("s", 1.0)
        name = given.pop("name", "simulate")
        made.task(f"{name}-{index}", name, index, seconds, peak_bytes=peak, **given)
    if manifest:
        (made.path / "manifest.yaml").write_text(manifest)
    made.end(1000)
    return made.path


def peaks(values: Sequence[float], **more: Any) -> list[dict[str, Any]]:
    return [{"peak": value, **more} for value in values]


def out_of_memory(reached: float | None, **more: Any) -> dict[str, Any]:
    return {"peak": reached, "outcome": "failed", "error_type": "TaskOutOfMemory", "exclusive": False, **more}


def advisor(runs_dir: Path) -> ResourceAdvisor:
    return ResourceAdvisor.from_history(runs_dir)


def fresh() -> ResourceAdvisor:
    """Return an advisor without a past."""
    return ResourceAdvisor(Past())


def ended(peak: float | None, **more: Any) -> Observation:
    facts: dict[str, Any] = {"component": "demeter", "run_id": "now", "duration_s": 1.0, "cpu_s": 1.0, **more}
    return Observation("simulate", "local", facts.pop("outcome", "completed"), peak_bytes=peak, **facts)
