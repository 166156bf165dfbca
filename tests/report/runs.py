"""A builder of run directories, as a session would have left them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

from scalable.telemetry.recorder import boot_id

START = 1_779_271_200.0  # 2026-05-20T10:00:00Z


class SampleRun:
    """A run directory; times are given in seconds after the run's start."""

    def __init__(self, runs_dir: Path, run_id: str = "run-20260520T100000Z-demeter-lulcc-abc123", **facts: Any) -> None:
        self.path = runs_dir / run_id
        self.path.mkdir(parents=True)
        self.start = float(facts.get("started_at", START))
        known: dict[str, Any] = {
            "schema": 1,
            "run_id": run_id,
            "project": "demeter-lulcc",
            "target": "local",
            "provider": "local",
            "overlay": None,
            "started_at": START,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot_id": boot_id(),
            "scalable_version": "0.1.0",
            "manifest_path": "scalable.yaml",
            "fingerprint": "f00",
            "objectives": None,
        }
        (self.path / "run.json").write_text(json.dumps(known | facts))

    def plan(self, **counts: int) -> SampleRun:
        pools = {tag: {"count": n, "cpus": 1, "memory_bytes": 2**30, "gpus": 0} for tag, n in counts.items()}
        (self.path / "plan.json").write_text(json.dumps({"schema": 1, "pools": pools, "policy": "manual"}))
        return self

    def task(self, key: str, name: str, begin: float, duration: float | None, **more: Any) -> SampleRun:
        line: dict[str, Any] = {
            "key": key,
            "name": name,
            "tag": "demeter",
            "component": "demeter",
            "worker": "demeter-0",
            "attempt": 1,
            "queued_at": self.start + begin,
            "started_at": self.start + begin,
            "ended_at": self.start + begin + (duration or 0),
            "duration_s": duration,
            "cpu_s": duration,
            "peak_bytes": 100 * 2**20,
            "exclusive": True,
            "features": {},
            "n_args": 1,
            "arg_bytes": 28,
            "asked_bytes": 2**30,
            "threads": 1,
            "outcome": "completed",
            "error_type": None,
            "error": None,
        }
        return self.line("tasks", line | more)

    def worker(
        self, name: str, came: float, went: float | None = None, reason: str = "closed", **more: Any
    ) -> SampleRun:
        """Note a worker's time; ``went=None``: it is still there. Give the workers of one name in their order."""
        line = {"worker": name, "address": f"inproc://{name}", "tag": name.rsplit("-", 1)[0]}
        added = {"event": "worker_added", "at": self.start + came, "threads": 1, "memory_bytes": 2**30, "reason": ""}
        self.line("workers", line | added | more)
        if went is not None:
            self.line("workers", line | {"event": "worker_removed", "at": self.start + went, "reason": reason})
        return self

    def scaled(self, at: float, direction: str, tag: str = "demeter") -> SampleRun:
        before, after = (1, 2) if direction == "up" else (2, 1)
        line = {"event": "scale_decision", "at": self.start + at, "tag": tag, "from": before, "to": after}
        return self.line("scaling", line | {"direction": direction, "reason": "queue", "policy": "manual"})

    def price(self, tag: str, usd_per_h: float | None, **more: Any) -> SampleRun:
        """Note what a worker of a pool costs."""
        per_s = None if usd_per_h is None else usd_per_h / 3600
        source = "" if usd_per_h is None else "a table of 2026-01-01"
        line = {"event": "price", "at": self.start, "tag": tag, "usd_per_s": per_s, "cpus": 4.0, "source": source}
        return self.line("cost", line | more)

    def paid(self, tag: str, paid_s: float, usd: float | None) -> SampleRun:
        """Note what was paid for a pool, as a run does when it ends."""
        line = {"event": "paid", "at": self.start, "tag": tag, "workers": 1, "paid_s": paid_s, "usd": usd}
        return self.line("cost", line)

    def line(self, file: str, record: Any) -> SampleRun:
        return self.text(file, json.dumps(record) + "\n")

    def text(self, file: str, text: str) -> SampleRun:
        with (self.path / f"{file}.jsonl").open("a") as out:
            out.write(text)
        return self

    def end(self, at: float, status: str = "completed") -> SampleRun:
        content = {"schema": 1, "status": status, "ended_at": self.start + at, "tasks": {}}
        (self.path / "summary.json").write_text(json.dumps(content))
        return self


def documented_run(runs_dir: Path) -> SampleRun:
    """Return the run that the tutorials show a report of."""
    run = SampleRun(runs_dir).plan(demeter=2, postprocess=2)
    for index, (came, went, reason) in enumerate(
        [(0, None, ""), (0, None, ""), (1, 3, "scaled down"), (3, 5, "scaled down"), (5, 6, "lost")]
    ):
        run.worker(f"demeter-{index}", came, went or 10, reason or "closed")
    run.worker("postprocess-0", 0, 10).worker("postprocess-1", 6, 10)
    for index in range(16):
        run.task(f"simulate-{index:02}", "simulate", index / 2, 1.0 + index / 16)
    for index in range(4):
        run.task(f"rank-{index}", "rank", 8, 0.5, component="postprocess", tag="postprocess")
    run.scaled(1, "up").scaled(3, "up").scaled(5, "up").scaled(6, "down")
    return run.end(10)
