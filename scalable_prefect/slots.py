"""The slot that a task holds on its worker, lent to others while the task waits for them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from dask.context import thread_state as task_state
from distributed.core import Status
from distributed.threadpoolexecutor import thread_state, threads_lock
from distributed.worker_state_machine import SecedeEvent, UnpauseEvent

__all__ = ["Slot", "current", "held", "lent", "lent_until", "reclaim"]

_LOOK_UP_S = 1.0


class Awaited(Protocol):
    """What a task waits for."""

    def add_done_callback(self, fn: Any) -> None:
        """Call a function once it has ended."""


class Slot:
    """A thread of a worker's pool, and what a task takes of the worker's resources.

    Any thread of the task may lend it: Dask's own ``secede`` knows only the pool's thread and
    keeps the resources.

    Parameters
    ----------
    worker : distributed.Worker
        Where we are, in a thread of its pool.
    key : str
        Of the task.
    """

    def __init__(self, worker: Any, key: str) -> None:
        self.worker = worker
        self.key = key
        self._executor = thread_state.executor
        self._began = task_state.start_time
        self._lock = threading.Lock()
        self._thread = threading.current_thread()
        self._waiting = 0
        self._awaited: set[Awaited] = set()
        self._lends = False
        # Longer than it is lent: whoever takes it back may have to wait for a thread.
        self._counted_free = False
        self._over = False

    def lend(self) -> None:
        """Give it away, unless it is given away already."""
        with self._lock:
            self._waiting += 1
            if self._lends or self._over:
                return
            self._lends = True
            self._count(free=True)
            self._leave_pool()
            event = SecedeEvent(
                key=self.key, compute_duration=time.time() - self._began, stimulus_id=f"lend-{time.time()}"
            )
            self._tell(self.worker.handle_stimulus, event)
            self._tell(self._look_for_work)

    def take_back(self) -> None:
        """Wait until it is free again, unless the task still waits for something."""
        with self._lock:
            # Who was given up meanwhile no longer counts.
            self._waiting = max(0, self._waiting - 1)
            thread = self._thread
            if self._waiting > 0 or self._awaited or not self._lends or self._over:
                return
            self._lends = False
        entered = False
        try:
            self._enter_pool(thread)
            entered = True
        finally:
            with self._lock:
                if entered and thread is self._thread and not self._over:
                    self._count(free=False)
                else:
                    # Who waited for it has been given up meanwhile.
                    self._lends = self._counted_free and not self._over
                    _remove(self._executor, thread)

    def lend_until(self, awaited: Awaited) -> None:
        """Give it away until something has ended, and then until :meth:`reclaim`."""
        with self._lock:
            if awaited in self._awaited or self._over:
                return
            self._awaited.add(awaited)
        self.lend()
        with self._lock:
            self._waiting -= 1
        awaited.add_done_callback(self._arrived)

    def reclaim(self) -> None:
        """Take it back if what it was given away for has ended."""
        with self._lock:
            if self._waiting or self._awaited or not self._lends:
                return
            self._waiting += 1
        self.take_back()

    @contextlib.contextmanager
    def in_thread(self, thread: threading.Thread) -> Iterator[None]:
        """Have another thread be the pool's in place of this one, which only waits for it."""
        mine = threading.current_thread()
        self._replace(mine, thread)
        try:
            yield
        finally:
            self._replace(thread, mine)

    def executor(self) -> Any:
        """Return the pool of threads."""
        return self._executor

    def end(self) -> None:
        """Leave the worker's books in order; called in the pool's thread when the task ends."""
        with self._lock:
            self._over = True
            # Dask is about to count it as free itself.
            self._count(free=False)
        with threads_lock:
            thread_state.proceed = threading.current_thread() in self._executor._threads  # noqa: SLF001

    def _arrived(self, awaited: Awaited) -> None:
        with self._lock:
            self._awaited.discard(awaited)

    def _replace(self, old: threading.Thread, new: threading.Thread) -> None:
        with self._lock, threads_lock:
            self._thread = new
            self._waiting = 0
            members = self._executor._threads  # noqa: SLF001  (as Dask's own secede)
            if old in members:
                members.remove(old)
                members.add(new)

    def _leave_pool(self) -> None:
        _remove(self._executor, self._thread)

    def _enter_pool(self, thread: threading.Thread) -> None:
        """As Dask's own ``rejoin``, for any thread; exceptions thrown into this one arrive."""
        entered = threading.Event()
        asked = (thread, entered)
        with self._executor._rejoin_lock:  # noqa: SLF001
            self._executor._rejoin_list.append(asked)  # noqa: SLF001
        try:
            self._executor.submit(_nothing)
            while not entered.wait(_LOOK_UP_S):
                pass
        finally:
            with self._executor._rejoin_lock:  # noqa: SLF001
                if asked in self._executor._rejoin_list:  # noqa: SLF001
                    self._executor._rejoin_list.remove(asked)  # noqa: SLF001

    def _tell(self, function: Any, *args: Any) -> None:
        self.worker.loop.add_callback(function, *args)

    def _count(self, *, free: bool) -> None:
        """Have the worker's books say so of the resources, unless they do."""
        if free is not self._counted_free:
            self._counted_free = free
            self._tell(self._move, 1 if free else -1)

    def _move(self, sign: int) -> None:
        task = self.worker.state.tasks.get(self.key)
        if task is not None:
            for name, amount in (task.resource_restrictions or {}).items():
                self.worker.state.available_resources[name] += sign * amount

    def _look_for_work(self) -> None:
        # Dask does so by itself only the first time that a task secedes.
        if self.worker.status == Status.running:
            self.worker.handle_stimulus(UnpauseEvent(stimulus_id=f"lend-{time.time()}"))


_here: ContextVar[Slot | None] = ContextVar("scalable_prefect_slot", default=None)


def current() -> Slot | None:
    """Return the slot of the task that this code is part of, if it is."""
    return _here.get()


@contextlib.contextmanager
def held(worker: Any, key: str) -> Iterator[None]:
    """Note that this thread runs a task of a Dask worker."""
    slot = Slot(worker, key)
    token = _here.set(slot)
    try:
        yield
    finally:
        _here.reset(token)
        slot.end()


@contextlib.contextmanager
def lent() -> Iterator[None]:
    """Give the slot away while waiting, so that tasks which a task submits can run; elsewhere do nothing."""
    slot = _here.get()
    if slot is None:
        yield
        return
    slot.lend()
    try:
        yield
    finally:
        slot.take_back()


def lent_until(awaited: Awaited) -> None:
    """Give the slot away until something has ended, where we cannot see the waiting itself; elsewhere do nothing."""
    slot = _here.get()
    if slot is not None:
        slot.lend_until(awaited)


def reclaim() -> None:
    """Take the slot back if what it was given away for has ended; elsewhere do nothing."""
    slot = _here.get()
    if slot is not None:
        slot.reclaim()


def _remove(executor: Any, thread: threading.Thread) -> None:
    with threads_lock:
        if thread in executor._threads:  # noqa: SLF001
            executor._threads.remove(thread)  # noqa: SLF001
            executor._adjust_thread_count()  # noqa: SLF001


def _nothing() -> None:
    """Give a thread of the pool occasion to make room."""
