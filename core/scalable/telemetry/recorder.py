"""The one writer of a run's directory: append-only JSON lines, never in the way of the work."""

from __future__ import annotations

import json
import logging
import os
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from scalable.errors import ScalableError

__all__ = ["Recorder", "RunStatus", "boot_id", "new_run_id"]

logger = logging.getLogger(__name__)

RunStatus = Literal["completed", "failed", "cancelled"]

_STOP: Final = object()
# Not escaped: a lone surrogate, as file names may have, would be no JSON for most readers.
_encode = json.JSONEncoder(separators=(",", ":"), default=str, ensure_ascii=False).encode
_BATCH = 2_000
_COALESCE_S = 0.05


def new_run_id(project: str) -> str:
    """Return a run identifier: when, what, and six bytes that no other run has.

    Examples
    --------
    >>> new_run_id("demeter lulcc")  # doctest: +SKIP
    'run-20260520T101500Z-demeter-lulcc-1f0a9b3c'
    """
    name = "-".join("".join(c if c.isascii() and c.isalnum() else " " for c in project.lower()).split()) or "run"
    return f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{name[:40]}-{secrets.token_hex(4)}"


def boot_id() -> str:
    """Return what tells this boot of this machine from others; empty where the system has no such thing."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Recorder:
    """Write what happens in a run.

    Records are handed to a thread of its own, which appends them in batches, a whole line
    at a time; a kill can tear the last line at most.

    Parameters
    ----------
    directory : Path or None
        Made, with its parents; ``None`` records nothing (telemetry is off).

    Raises
    ------
    ScalableError
        If the directory cannot be made.
    """

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        self.listeners: list[Callable[[str, Mapping[str, Any]], None]] = []
        """Each is given every record with the name of its file, in the thread that made it: it must not wait."""
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()
        self._failed = False
        if directory is not None:
            try:
                directory.mkdir(parents=True)
            except OSError as error:
                raise ScalableError(
                    f"cannot make the run's directory {directory}: {error.strerror}; "
                    "set SCALABLE_RUNS_DIR to a folder that can be written, or SCALABLE_TELEMETRY=off"
                ) from error
            self._thread = threading.Thread(target=self._write_all, name="scalable-recorder", daemon=True)
            self._thread.start()

    def append(self, file: str, record: Mapping[str, Any]) -> None:
        """Add one line to ``<file>.jsonl``; returns at once, from any thread."""
        for listener in (*self.listeners,):
            listener(file, record)
        if self._thread is not None:
            # Text at once: thousands of waiting dictionaries would be walked by each garbage collection.
            self._queue.put((file, _encode(record)))

    def write(self, file: str, text: str) -> None:
        """Write a whole file, or leave the one before it: never half of one."""
        if self.directory is None:
            return
        path = self.directory / file
        draft = path.with_name(f".{file}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)

    def write_json(self, file: str, record: Mapping[str, Any]) -> None:
        """Write a whole JSON file."""
        self.write(file, json.dumps(record, indent=1, default=str) + "\n")

    def start(self, facts: Mapping[str, Any]) -> None:
        """Write ``run.json``: the given facts, and where and when this process runs."""
        self.write_json(
            "run.json",
            {
                "schema": 1,
                **facts,
                "started_at": time.time(),
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "boot_id": boot_id(),
            },
        )

    def finish(self, status: RunStatus, tasks: Mapping[str, int]) -> None:
        """Write out everything that was appended, then ``summary.json``."""
        if self._thread is not None:
            self._closing.set()
            self._queue.put(_STOP)
            self._thread.join()
            self._thread = None
        self.write_json("summary.json", {"schema": 1, "status": status, "ended_at": time.time(), "tasks": dict(tasks)})

    def _write_all(self) -> None:
        stopping = False
        while not stopping:
            batch = [self._queue.get()]
            # One write for many records: a run of short tasks makes thousands a second.
            self._closing.wait(_COALESCE_S)
            while len(batch) < _BATCH and batch[-1] is not _STOP:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            stopping = batch[-1] is _STOP
            lines: dict[str, list[str]] = {}
            for file, line in batch[:-1] if stopping else batch:
                lines.setdefault(file, []).append(line)
            self._append_lines(lines)

    def _append_lines(self, lines: Mapping[str, list[str]]) -> None:
        assert self.directory is not None
        for file, texts in lines.items():
            try:
                with (self.directory / f"{file}.jsonl").open("ab") as out:
                    out.write(("\n".join(texts) + "\n").encode("utf-8", "replace"))
            except OSError as error:
                if not self._failed:
                    self._failed = True
                    logger.error("telemetry is incomplete: cannot write to %s: %s", self.directory, error)
