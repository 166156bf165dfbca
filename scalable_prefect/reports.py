"""Telling Prefect's API what became of task runs that cannot tell it themselves."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect.client.schemas.objects import State
from prefect.context import SettingsContext

from scalable_prefect import compat

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["AnyLogger", "Reporter"]

AnyLogger: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_PATIENCE_S = 15.0
_FAREWELL_S = 4.0
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 2.0


@dataclass(slots=True)
class _Report:
    task_run_id: UUID
    state: State[Any]
    give_up_at: float
    due: float
    pause_s: float = _FIRST_PAUSE_S


class Reporter:
    """Report from a thread of its own, so that an API that is slow or away delays nobody.

    Parameters
    ----------
    settings : SettingsContext
        With the API's address.
    logger : Logger or LoggerAdapter
        Whom to tell what happens.
    """

    def __init__(self, settings: SettingsContext, logger: AnyLogger) -> None:
        self.logger = logger
        self._settings = settings
        self._queue: SimpleQueue[_Report | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._give_up_at: float | None = None

    def report(self, task_run_id: UUID, state: State[Any], *, patient: bool = True) -> None:
        """Report a state, soon.

        Parameters
        ----------
        patient : bool
            Wait for a while where the API does not know the task run yet.
        """
        now = time.monotonic()
        self._queue.put(_Report(task_run_id, state, now + (_PATIENCE_S if patient else 0.0), now))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="scalable-prefect-report", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for what is to be reported, but not for long."""
        self._give_up_at = time.monotonic() + _FAREWELL_S
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(2 * _FAREWELL_S)

    def _run(self) -> None:
        waiting: list[_Report] = []
        open_ = True
        while open_ or waiting:
            open_ = self._take(waiting) and open_
            if self._give_up_at is not None and time.monotonic() > self._give_up_at:
                return
            # One that the API does not know yet holds up no other.
            waiting = [report for report in waiting if not self._over(report)]

    def _take(self, waiting: list[_Report]) -> bool:
        """Wait for a report, or until an earlier one is to be tried again; return whether more may come."""
        pause = max(0.0, min(report.due for report in waiting) - time.monotonic()) if waiting else None
        try:
            report = self._queue.get(timeout=pause)
        except Empty:
            return True
        if report is not None:
            waiting.append(report)
        return report is not None

    def _over(self, report: _Report) -> bool:
        """Try to send a report that is due; return whether there is nothing left to do about it."""
        if time.monotonic() < report.due:
            return False
        known = self._send(report)
        report.due = time.monotonic() + report.pause_s
        report.pause_s = min(2 * report.pause_s, _LONGEST_PAUSE_S)
        return known or report.due > report.give_up_at

    def _send(self, report: _Report) -> bool:
        try:
            return compat.report_state(self._settings, report.task_run_id, report.state)
        except Exception as error:  # noqa: BLE001  (the flow's own view is right without the API)
            self.logger.warning(
                "Prefect's API was not told that task run %s is %s: %s", report.task_run_id, report.state.name, error
            )
            return True
