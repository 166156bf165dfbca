"""The future of a task run on a pool."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from uuid import UUID

import distributed
from prefect.client.schemas.objects import State
from prefect.futures import PrefectDistributedFuture, PrefectFuture, PrefectTaskRunFuture
from prefect.logging import get_logger
from prefect.results import ResultRecord  # type: ignore[attr-defined]
from prefect.states import Crashed

from scalable_prefect import slots
from scalable_prefect.compat import raise_if_flow_run_suspension_requested
from scalable_prefect.parcel import Parcel

__all__ = ["DaskFuture", "Owner", "ScalableFuture"]

R = TypeVar("R")

DaskFuture: TypeAlias = "distributed.Future[Any]"

_LOOK_UP_S = 1.0

_logger = get_logger("futures")


class Owner(Protocol):
    """Where a future was submitted."""

    def fetch(self, dask: DaskFuture) -> State[Any]:
        """Bring a final state from the worker that holds it."""


class ScalableFuture(PrefectTaskRunFuture[R], Generic[R]):
    """A task run that was submitted to a pool.

    Its state comes by itself as soon as the task run ends, unless the result is large:
    then it stays with the worker until it is asked for.

    Parameters
    ----------
    task_run_id : UUID
        Prefect's id of the task run.
    key : str
        Dask's key of the task.
    name : str
        The task's name.
    retries : int
        How often Prefect may try again.
    owner : Owner
        Brings a state that has stayed with a worker.
    """

    def __init__(self, task_run_id: UUID, key: str, name: str, retries: int, owner: Owner) -> None:
        super().__init__(task_run_id)
        self.key = key
        self.name = name
        self.retries = retries
        self.owner = owner
        self._dask: DaskFuture | None = None
        self._parcel: Parcel | None = None
        self._done = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[PrefectFuture[R]], None]] = []

    @property
    def wrapped_future(self) -> DaskFuture | None:
        """Dask's future, once the task is with the scheduler; ``None`` after its state has come."""
        return self._dask

    @property
    def state(self) -> State[Any]:
        """The state of the task run now, as far as this process or the API knows."""
        if self._done.is_set():
            return self._settled()
        return super().state

    def done(self) -> bool:
        """Whether the task run has ended."""
        return self._done.is_set()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task run has ended.

        Parameters
        ----------
        timeout : float, optional
            Give up after so many seconds, silently.
        """
        self._wait(timeout)
        raise_if_flow_run_suspension_requested()

    def result(self, timeout: float | None = None, raise_on_failure: bool = True) -> R:
        """Wait for the task run and return its result.

        Parameters
        ----------
        timeout : float, optional
            Give up after so many seconds.
        raise_on_failure : bool
            Whether the exception of a task run that did not complete is raised or returned.

        Raises
        ------
        TimeoutError
            If it has not ended by then.
        """
        self._wait(timeout)
        raise_if_flow_run_suspension_requested()
        if not self._done.is_set():
            raise TimeoutError(f"Task run {self.task_run_id} did not complete within {timeout} seconds")
        state: Any = self._settled()
        if state.is_completed() and isinstance(state.data, ResultRecord):
            # As the state would say it, but that changes threads.
            held: R = state.data.result
            return held
        result: R = state.result(raise_on_failure=raise_on_failure, _sync=True)
        return result

    def add_done_callback(self, fn: Callable[[PrefectFuture[R]], None]) -> None:
        """Call a function with this future once the task run has ended; what it raises is logged."""
        with self._lock:
            if not self._done.is_set():
                self._callbacks.append(fn)
                return
        self._call(fn)

    def _add_prefect_done_callback(self, fn: Callable[[PrefectFuture[R]], None]) -> None:
        """As above, for Prefect's ``wait`` and ``as_completed``, which then wait by themselves."""
        if not self._done.is_set():
            slots.lent_until(self)
        self.add_done_callback(fn)

    def __reduce__(self) -> tuple[Any, ...]:
        # Where a future gets out of this process as itself, it can only ask the API.
        return PrefectDistributedFuture, (self.task_run_id,)

    def bind(self, dask: DaskFuture) -> None:
        """Note that the task is with the scheduler."""
        with self._lock:
            if not self._done.is_set():
                self._dask = dask

    def settle(self, state: State[Any], parcel: Parcel | None = None, *, keep_remote: bool = False) -> bool:
        """Set the final state; return whether it was the first to be set.

        Parameters
        ----------
        parcel : Parcel, optional
            How it came.
        keep_remote : bool
            Keep hold of the worker's copy, so that later tasks take it from there.
        """
        with self._lock:
            if self._final_state is not None:
                return False
            self._final_state = state
            self._parcel = parcel
            if not keep_remote:
                self._dask = None
        self.end()
        return True

    def end(self) -> None:
        """Note that the task run has ended, though its state may still be with a worker."""
        with self._lock:
            if self._done.is_set():
                return
            self._done.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._call(callback)

    def argument(self) -> DaskFuture | Parcel:
        """Return what a later task takes as its input: the worker's copy, else the state itself."""
        with self._lock:
            if self._dask is not None:
                return self._dask
        return self._parcel or Parcel.pack(self._settled())

    def wait_quietly(self, timeout: float) -> None:
        """Wait, without regard to what else the flow run is asked to do."""
        self._done.wait(timeout)

    def _call(self, callback: Callable[[PrefectFuture[R]], None]) -> None:
        try:
            callback(self)
        except Exception:
            # The thread that calls it serves other task runs too.
            _logger.exception("A callback of task run %s of %s failed", self.task_run_id, self.name)

    def _settled(self) -> State[Any]:
        if self._final_state is None:
            dask = self._dask
            state = _dropped() if dask is None else self.owner.fetch(dask)
            self.settle(state, keep_remote=True)
        return self._final_state or _dropped()

    def _wait(self, timeout: float | None) -> None:
        if self._done.is_set():
            slots.reclaim()
            return
        with slots.lent() if timeout != 0 else contextlib.nullcontext():
            if timeout is not None:
                self._done.wait(timeout)
                return
            # Between looks, exceptions that another thread throws into this one arrive.
            while not self._done.wait(_LOOK_UP_S):
                pass


def _dropped() -> State[Any]:
    return Crashed(message="The task run ended, but its result was dropped.")
