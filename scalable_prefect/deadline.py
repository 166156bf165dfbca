"""Timeouts of synchronous tasks, enforced whatever the task does.

Workers run tasks in threads. Into a thread Prefect can only throw an exception, of which
a call that blocks takes no notice. So the task's function runs in a thread of its own, and
the engine's waits for it no longer than the timeout says.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import ctypes
import functools
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from dask.context import thread_state as task_state
from distributed.core import Status
from distributed.threadpoolexecutor import thread_state
from distributed.utils import set_thread_state
from prefect.logging import get_run_logger
from prefect.tasks import Task

from scalable_prefect import compat, slots
from scalable_prefect.wrapper import Wrapper

__all__ = ["enforced"]

_GRACE_S = 0.2
_REPLACE_AFTER_S = 5.0
_LOOKS, _LOOK_S = 20, 0.005


class DeadlinePassed(BaseException):
    """Thrown into code that runs on after its task's timeout; no ``except Exception`` holds it up."""


def enforced(task: Task[Any, Any]) -> Task[Any, Any]:
    """Return a task whose timeout ends each of its attempts in time, if it has one that needs it."""
    if task.timeout_seconds is None or task.isasync:
        return task
    compat.hush_timeout_warning()
    twin = copy.copy(task)
    twin.fn = _Limited(task.fn, task.timeout_seconds, task.name)
    return twin


class _Limited(Wrapper):
    """A function that is given up after some seconds."""

    enforces_timeout = True

    def __init__(self, function: Callable[..., Any], seconds: float, name: str) -> None:
        super().__init__(function)
        self._seconds = seconds
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        slot = slots.current()
        if slot is None:
            return super().__call__(*args, **kwargs)
        # Prefect throws an exception of its own at the same moment: not in here, where it would disturb the order.
        with compat.shielded():
            attempt = _Attempt(functools.partial(super().__call__, *args, **kwargs), slot)
            if attempt.ended(self._seconds):
                return attempt.outcome()
            attempt.interrupt()
            if not attempt.thread_ended(_GRACE_S):
                _complain(attempt, self._name, self._seconds)
        for _ in range(_LOOKS):
            # But here, before the engine rolls back what the task has done.
            time.sleep(_LOOK_S)
        raise compat.TaskRunTimeoutError(f"Timed out after {self._seconds} second(s).")


class _Attempt:
    """One call of a function, in a thread of its own that passes for the worker's."""

    def __init__(self, call: Callable[[], Any], slot: slots.Slot) -> None:
        self.slot = slot
        self._call = call
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._finished = False
        self._result: Any = None
        self._error: BaseException | None = None
        inherited = {name: value for name, value in vars(task_state).items() if name != "asynchronous"}
        self.thread = threading.Thread(
            target=contextvars.copy_context().run,
            args=(self._run, slot.executor(), inherited),
            name=f"{threading.current_thread().name}-limited",
            daemon=True,
        )

    def ended(self, seconds: float) -> bool:
        """Start, and return whether it ends in time."""
        with self.slot.in_thread(self.thread):
            self.thread.start()
            return self._done.wait(seconds)

    def thread_ended(self, seconds: float) -> bool:
        """Return whether it ends within some more seconds."""
        self.thread.join(seconds)
        return not self.thread.is_alive()

    def outcome(self) -> Any:
        """Return its result, or raise its error."""
        try:
            if self._error is not None:
                raise self._error
            return self._result
        finally:
            # The traceback leads back here.
            self._error = None

    def interrupt(self) -> None:
        """Throw an exception into it; code that blocks outside of Python takes no notice."""
        with self._lock:
            if not self._finished and self.thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread.ident), ctypes.py_object(DeadlinePassed)
                )

    def _run(self, executor: Any, inherited: dict[str, Any]) -> None:
        worker, me = self.slot.worker, threading.get_ident()
        thread_state.executor, thread_state.proceed = executor, True
        with worker.active_threads_lock:
            worker.active_threads[me] = self.slot.key
        try:
            with set_thread_state(**inherited):
                self._result = self._called()
        except DeadlinePassed:
            pass
        except BaseException as error:  # noqa: BLE001  (raised again where the engine waits)
            self._error = error
        finally:
            with self._lock:
                self._finished = True
            with worker.active_threads_lock:
                worker.active_threads.pop(me, None)
            self._done.set()

    def _called(self) -> Any:
        result = self._call()
        # Prefect would run a generator's body later, outside of this thread.
        return list(result) if isinstance(result, GeneratorType) else result


def _complain(attempt: _Attempt, name: str, seconds: float) -> None:
    """Say what goes on, and see to it that it does not go on for ever."""
    frame = sys._current_frames().get(attempt.thread.ident or 0)  # noqa: SLF001  (there is no other way)
    where = traceback.extract_stack(frame)[-1] if frame is not None else None
    place = f" in {where.name} ({where.filename}:{where.lineno})" if where is not None else ""
    get_run_logger().warning(
        "Task %r timed out after %s second(s), but its code goes on%s: no thread can be stopped from outside. "
        "If this worker is a process, it is replaced once it has nothing else to do.",
        name,
        seconds,
        place,
    )
    worker = attempt.slot.worker
    if worker.nanny is not None:
        worker.loop.add_callback(_replace, worker, attempt.thread)


async def _replace(worker: Any, thread: threading.Thread) -> None:
    """Have the nanny start another process in place of this one once it idles, but for code that nothing stops."""
    pause = _REPLACE_AFTER_S
    while True:
        await asyncio.sleep(pause)
        if not thread.is_alive() or worker.status not in (Status.running, Status.paused):
            return
        if not _busy(worker):
            if await _ready_to_leave(worker):
                await worker.close(nanny=False, executor_wait=False, reason="scalable-prefect-timeout")
                return
            # Its results have nowhere to go, which Dask warns of each time.
            pause *= 2


async def _ready_to_leave(worker: Any) -> bool:
    """Have other workers take over results; return whether they did, and then nothing begins here any more."""
    while True:
        moved = await worker.scheduler.retire_workers(workers=[worker.address], close_workers=False, remove=False)
        if not moved or not _busy(worker):
            return bool(moved)
        while _busy(worker):  # noqa: ASYNC110  (Dask has no event for it)
            await asyncio.sleep(_GRACE_S)


def _busy(worker: Any) -> bool:
    return bool(worker.state.executing or worker.state.long_running)
