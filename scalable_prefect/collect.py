"""The task runs of one flow run on their way back: a thread of its own collects their final states."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias

from distributed.scheduler import KilledWorker
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Crashed, Pending

from scalable.errors import TaskOutOfMemory
from scalable_prefect import compat, worker
from scalable_prefect.backends import Backend
from scalable_prefect.futures import DaskFuture, ScalableFuture
from scalable_prefect.ledger import WorkerDied, lost_message
from scalable_prefect.parcel import Parcel
from scalable_prefect.reports import Reporter

__all__ = ["Collector", "take_all"]

_SMALL_BYTES = 64 * 1024
"""Final states up to this size come at once: then no worker's death can lose them."""


@dataclass(frozen=True, slots=True)
class _Loss:
    key: str
    lost: int
    memory: str


_Item: TypeAlias = "DaskFuture | _Loss"


class Collector:
    """Settle futures as their tasks end.

    Parameters
    ----------
    backend : Backend
        Where they run.
    reporter : Reporter
        Tells the API what task runs cannot tell it themselves.
    """

    def __init__(self, backend: Backend, reporter: Reporter) -> None:
        self._backend = backend
        self._reporter = reporter
        self._pending: dict[str, ScalableFuture[Any]] = {}
        self._ended: SimpleQueue[_Item | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="scalable-prefect-collect", daemon=True)
        self._thread.start()

    def expect(self, future: ScalableFuture[Any]) -> None:
        """Count a task run in; from any thread."""
        self._pending[future.key] = future

    def watch(self, dask: DaskFuture) -> None:
        """Collect a task when it has ended; from any thread."""
        dask.add_done_callback(self._ended.put)

    def pending(self) -> list[ScalableFuture[Any]]:
        """Return the task runs that have not ended."""
        return list(self._pending.values())

    def note_loss(self, *, key: str, lost: int, memory: str = "") -> None:
        """Hear of a worker that died under a task; from any thread."""
        self._ended.put(_Loss(key, lost, memory))

    def settle(
        self,
        future: ScalableFuture[Any],
        state: State[Any],
        parcel: Parcel | None = None,
        *,
        report: bool = False,
        keep_remote: bool = False,
    ) -> None:
        """Give a future its final state; from any thread.

        Parameters
        ----------
        report : bool
            Whether the API has yet to hear of it.
        """
        self._pending.pop(future.key, None)
        if state.state_details.task_run_id is None:
            state.state_details.task_run_id = future.task_run_id
        if not future.settle(state, parcel, keep_remote=keep_remote):
            return
        if state.is_crashed():
            self._reporter.logger.error("Task run of %s crashed: %s", future.name, state.message)
        if report:
            self._reporter.report(future.task_run_id, state)

    def cancel(self) -> None:
        """Cancel what has not ended."""
        left = [future for key in list(self._pending) if (future := self._pending.pop(key, None)) is not None]
        if not left:
            return
        names = ", ".join(sorted({future.name for future in left}))
        self._reporter.logger.warning("Cancelled %d task runs that had not ended: %s", len(left), names)
        sent = [dask for future in left if (dask := future.wrapped_future) is not None]
        if sent:
            with contextlib.suppress(Exception):  # the scheduler may be gone, and the tasks with it
                self._backend.dask.cancel(sent, force=True)
        for future in left:
            state: State[Any] = Cancelled(message="The task runner was stopped before this task run ended.")
            self.settle(future, state)
            self._reporter.report(future.task_run_id, state, patient=False)

    def close(self) -> None:
        """End the thread."""
        self._ended.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (batch := take_all(self._ended)) is not None:
            self._sort_out(batch)
            # What waits for the next must not hold on to task runs that are over.
            del batch

    def _sort_out(self, batch: list[_Item]) -> None:
        finished: list[DaskFuture] = []
        for item in batch:
            if isinstance(item, _Loss):
                self._lost(item)
            elif _key(item) not in self._pending:
                worker.pick_up(_key(item))
            elif item.status == "finished":
                finished.append(item)
            else:
                self._failed(item)
        try:
            self._finished(finished)
        except Exception as error:  # noqa: BLE001  (the scheduler may be gone; nobody may wait for ever)
            self._all_crashed(finished, error)

    def _finished(self, finished: list[DaskFuture]) -> None:
        if not finished:
            return
        elsewhere = []
        for one in finished:
            left = worker.pick_up(_key(one))
            if left is None:
                elsewhere.append(one)
            else:
                self._arrived(one, left, keep_remote=True)
        if not elsewhere:
            return
        sizes = self._backend.dask.nbytes([one.key for one in elsewhere], summary=False)
        small = [one for one in elsewhere if sizes.get(one.key, 0) <= _SMALL_BYTES]
        for one, parcel in zip(small, self._gather(small), strict=True):
            self._arrived(one, parcel, keep_remote=False)
        for one in elsewhere:
            future = self._pending.pop(_key(one), None)
            if future is not None:
                future.end()

    def _all_crashed(self, finished: list[DaskFuture], error: Exception) -> None:
        for one in finished:
            future = self._pending.get(_key(one))
            if future is not None:
                self.settle(future, compat.crashed(error), report=True)

    def _gather(self, finished: list[DaskFuture]) -> list[Parcel | Exception]:
        try:
            parcels: list[Parcel | Exception] = self._backend.dask.gather(finished)
        except Exception as error:  # noqa: BLE001  (one of them failed; find out which)
            if len(finished) == 1:
                return [error]
            return [self._gather([one])[0] for one in finished]
        return parcels

    def _arrived(self, dask: DaskFuture, parcel: Parcel | Exception, *, keep_remote: bool) -> None:
        future = self._pending.get(_key(dask))
        if future is None:
            return
        try:
            if isinstance(parcel, Exception):
                raise parcel
            state = parcel.open()
        except Exception as error:  # noqa: BLE001  (unpickling runs the user's code)
            self.settle(future, compat.crashed(error), report=True)
        else:
            kept = None if keep_remote else parcel
            self.settle(future, state, kept, report=not parcel.reported, keep_remote=keep_remote)

    def _failed(self, dask: DaskFuture) -> None:
        future = self._pending[_key(dask)]
        if dask.status != "error":
            state = _crashed("The scheduler has dropped this task run.")
        else:
            error = dask.exception()
            if not isinstance(error, KilledWorker | TaskOutOfMemory):
                state = compat.crashed(error)
            elif isinstance(error, KilledWorker) and error.task == dask.key:
                state = _crashed(lost_message(1, str(error.last_worker.name)))
            elif isinstance(error, TaskOutOfMemory) and f"'{dask.key}'" in str(error):
                state = _crashed(lost_message(1, memory=str(error)))
            else:
                state = Pending(name="NotReady", message="Upstream task run did not reach a 'COMPLETED' state.")
        self.settle(future, state, report=True)

    def _lost(self, loss: _Loss) -> None:
        future = self._pending.get(loss.key)
        if future is None:
            return
        message = lost_message(loss.lost, memory=loss.memory)
        if loss.lost <= future.retries:
            self._reporter.logger.warning("Task run of %s: %s It runs again.", future.name, message)
        else:
            self.settle(future, _crashed(message), report=True)


def _crashed(message: str) -> State[Any]:
    return Crashed(message=message, data=WorkerDied(message))


def _key(dask: DaskFuture) -> str:
    return str(dask.key)


def take_all(queue: SimpleQueue[Any]) -> list[Any] | None:
    """Wait for something and return all there is; ``None`` at the end, which ``None`` in the queue is."""
    first = queue.get()
    if first is None:
        return None
    taken = [first]
    with contextlib.suppress(Empty):
        while (more := queue.get_nowait()) is not None:
            taken.append(more)
        queue.put(None)
    return taken
