"""Telling Prefect's API what became of task runs that cannot tell it themselves."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from prefect.client.schemas.objects import State
from prefect.context import SettingsContext

from scalable_prefect import compat

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["AnyLogger", "Reporter"]

AnyLogger: TypeAlias = "logging.Logger | logging.LoggerAdapter[logging.Logger]"

_PATIENCE_S = 5.0
_FAREWELL_S = 4.0


@dataclass(frozen=True, slots=True)
class _Report:
    task_run_id: UUID
    state: State[Any]
    patience_s: float


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
        self._queue.put(_Report(task_run_id, state, _PATIENCE_S if patient else 0.0))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="scalable-prefect-report", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Wait for what is to be reported, but not for long."""
        self._give_up_at = time.monotonic() + _FAREWELL_S
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(_FAREWELL_S + _PATIENCE_S)

    def _run(self) -> None:
        while (report := self._queue.get()) is not None:
            if self._give_up_at is None or time.monotonic() < self._give_up_at:
                self._send(report)

    def _send(self, report: _Report) -> None:
        try:
            compat.report_state(self._settings, report.task_run_id, report.state, report.patience_s)
        except Exception as error:  # noqa: BLE001  (the flow's own view is right without the API)
            self.logger.warning(
                "Prefect's API was not told that task run %s is %s: %s", report.task_run_id, report.state.name, error
            )
