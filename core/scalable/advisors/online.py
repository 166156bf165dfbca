"""Telling an advisor of a run while it is under way, out of the scheduler's way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Final, Literal

from scalable.advisors.base import Advisor, Observation
from scalable.telemetry.history import INTERNAL

__all__ = ["Learner", "observation_of"]

logger = logging.getLogger(__name__)

_EVERY_S: Final = 0.2
_PATIENCE_S: Final = 5.0
_WAITING: Final = 100_000
"""Attempts that wait at the most; beyond that the oldest are not told of."""


def observation_of(record: Mapping[str, Any], target: str, run_id: str) -> Observation | None:
    """Return what a record of ``tasks.jsonl`` tells an advisor; nothing if the attempt did not use what a task needs.

    Parameters
    ----------
    record : mapping
        The record.
    target, run_id : str
        Of the run.
    """
    outcome: Literal["completed", "out_of_memory"]
    if INTERNAL in record["name"]:
        return None
    if record["outcome"] == "completed":
        outcome = "completed"
    elif record.get("error_type") == "TaskOutOfMemory":
        outcome = "out_of_memory"
    else:
        return None
    return Observation(
        task=record["name"],
        target=target,
        outcome=outcome,
        component=record.get("component") or "",
        run_id=run_id,
        features=record.get("features") or {},
        n_args=record.get("n_args") or 0,
        arg_bytes=record.get("arg_bytes"),
        n_inputs=record.get("n_inputs") or 0,
        input_bytes=record.get("input_bytes"),
        threads=record.get("threads") or 1,
        cpu_s=record.get("cpu_s"),
        duration_s=record.get("duration_s"),
        peak_bytes=record.get("peak_bytes"),
        exclusive=bool(record.get("exclusive")),
        asked_bytes=record.get("asked_bytes"),
    )


class Learner:
    """Hand ended attempts to an advisor, from a thread of its own.

    Parameters
    ----------
    advisor : Advisor
        Who is told.
    target, run_id : str
        Of the run.
    """

    def __init__(self, advisor: Advisor, target: str, run_id: str) -> None:
        self._advisor = advisor
        self._target = target
        self._run_id = run_id
        self._records: deque[Mapping[str, Any]] = deque(maxlen=_WAITING)
        self._stop = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._learn, name="scalable-learner", daemon=True)
        self._thread.start()

    def take(self, record: Mapping[str, Any]) -> None:
        """Take note of a record of ``tasks.jsonl``; returns at once, from any thread."""
        self._records.append(record)

    def close(self) -> None:
        """End; what was not told yet is in the run's records."""
        self._stop.set()
        # An advisor that takes its time must not keep a run from ending.
        self._thread.join(_PATIENCE_S)

    def _learn(self) -> None:
        while not self._stop.wait(_EVERY_S):
            while self._records and not self._stop.is_set():
                self._tell(self._records.popleft())

    def _tell(self, record: Mapping[str, Any]) -> None:
        try:
            attempt = observation_of(record, self._target, self._run_id)
            if attempt is not None:
                self._advisor.observe(attempt)
        except Exception as error:  # noqa: BLE001  (one attempt that cannot be learned from must not end the learning)
            if not self._failed:
                self._failed = True
                logger.warning("advice does not follow all of this run: %s: %s", type(error).__name__, error)
