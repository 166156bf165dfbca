"""What every worker of a pool does when it starts: a Dask preload module."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import weakref
from typing import Any

from scalable.telemetry.board import VARIABLE, Board
from scalable.telemetry.measure import use_board

__all__ = ["dask_setup", "dask_teardown"]


_workers: weakref.WeakSet[Any] = weakref.WeakSet()


class _Calm(logging.Filter):
    """Keep out of the worker's log what is reported elsewhere, or is no news.

    A failed task is reported where it was submitted, and so is a cancelled one. That the scheduler does not answer
    is no news once the worker is closing.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if message.startswith("Failed to communicate with scheduler"):
            return all(worker.status.name == "running" for worker in _workers)
        return not message.startswith(("Compute Failed", "Async instruction for <Task cancelled"))


_calm = _Calm()
_LOGGERS = ("distributed.worker", "distributed.worker.state_machine")


def dask_setup(worker: Any) -> None:
    """Quieten Dask, and take no notice of Ctrl-C; called by Dask in the worker's process.

    A terminal sends the signal to the workers as well as to the process that started them,
    which then has to find them alive to end the run in order.
    """
    _workers.add(worker)
    if multiprocessing.parent_process() is not None and threading.current_thread() is threading.main_thread():
        # A handler, because what a task starts would inherit that the signal is ignored.
        signal.signal(signal.SIGINT, lambda *_: None)
    place = os.environ.get(VARIABLE)
    if place is not None and getattr(worker, "nanny", None) is not None:
        # Without it, who killed a worker is guessed.
        with contextlib.suppress(OSError):
            use_board(Board(place))
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_calm)


def dask_teardown(worker: Any) -> None:
    """Put back what other workers in this process may want; called by Dask when a worker closes."""
    _workers.discard(worker)
    if not _workers:
        for name in _LOGGERS:
            logging.getLogger(name).removeFilter(_calm)
