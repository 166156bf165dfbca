"""Measuring a task where it runs: time, processor seconds and peak memory, its child processes included.

Linux keeps the peak of a process's resident memory and lets the process reset it
(``VmHWM`` and ``/proc/self/clear_refs``, see :manpage:`proc(5)`), so a task's own peak
costs two small reads. Child processes are sampled by one thread a process, which sleeps
while nothing runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import re
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, TypedDict

import psutil
from dask.context import thread_state
from dask.tokenize import normalize_token
from distributed import get_worker
from distributed.protocol.pickle import dumps, loads

from scalable.errors import TaskError
from scalable.telemetry.board import Board

__all__ = [
    "MEASURE",
    "TOPIC",
    "Measured",
    "Measurement",
    "current_pool",
    "mark_failed",
    "measured",
    "pool_of",
    "use_board",
]

MEASURE: Final = "scalable"
"""Key under which a task's measurement travels in the metadata that Dask sends with a result."""

TOPIC: Final = "scalable-attempt-failed"
"""Dask event topic of failed attempts: Dask sends no metadata with an error."""

_SAMPLE_INTERVAL_S = 0.1
_NUMBER = re.compile(r"-\d+(~-\d+)?$")
_LINUX = sys.platform == "linux"


class Measurement(TypedDict, total=False):
    """What was measured on the worker; times in unix seconds, sizes in bytes."""

    started_at: float
    ended_at: float
    duration_s: float
    cpu_s: float
    peak_bytes: int
    exclusive: bool
    key: str
    worker: str
    error_type: str
    error: str
    traceback: str


class Measured:
    """A function that leaves its measurement with the Dask worker that runs it.

    It travels as bytes that are read when it is called: a function that a worker cannot
    import is then the task's failure, where Dask would lose the connection and take it for
    a death of the worker; and the scheduler, which only passes it on, does not take it apart.

    Parameters
    ----------
    function : callable or None
        What the user submitted.
    pickled : bytes
        The same, where it has arrived as that.
    name : str
        Its name, if it is not to be asked for it.
    """

    __slots__ = ("__name__", "__weakref__", "_function", "_pickled")

    def __init__(self, function: Callable[..., Any] | None, pickled: bytes = b"", name: str = "") -> None:
        self._function = function
        self._pickled = pickled
        self.__name__ = name or getattr(function, "__name__", type(function).__name__)

    @property
    def function(self) -> Callable[..., Any]:
        """What the user submitted."""
        if self._function is None:
            self._function = loads(self._pickled)
        return self._function

    def __reduce__(self) -> tuple[type[Measured], tuple[None, bytes, str]]:
        return Measured, (None, self._pickled or dumps(self._function), self.__name__)

    def __dask_tokenize__(self) -> object:
        return normalize_token(self.function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function."""
        board = _current.board
        slot = -1 if board is None else board.enter(getattr(thread_state, "key", None))
        stopwatch = _Stopwatch()
        _current.begin()
        try:
            with _no_exit():
                result = self.function(*args, **kwargs)
        except BaseException as error:
            _leave_failure(stopwatch.stop(), error)
            raise
        finally:
            if board is not None:
                board.leave(slot)
        measurement = stopwatch.stop()
        if _current.failure is not None:
            _describe(measurement, _current.failure)
        _leave(measurement)
        return result


class _Current(threading.local):
    """What the task that this thread runs said of itself."""

    failure: BaseException | None = None
    # Of the process, not of the thread: where its nanny looks if it dies.
    board: ClassVar[Board | None] = None

    def begin(self) -> None:
        """Forget what the task before it said."""
        self.failure = None


_current = _Current()


def use_board(board: Board) -> None:
    """Have every measured task of this process noted on a board while it runs."""
    _Current.board = board


def mark_failed(error: BaseException) -> None:
    """Say, from inside a task, that it failed although its function is going to return.

    For engines that hand failures over as values: telemetry then counts the task as failed.

    Parameters
    ----------
    error : BaseException
        What it failed of.
    """
    _current.failure = error


def pool_of(worker: str) -> str:
    """Return the pool of a worker from the worker's name.

    Examples
    --------
    >>> pool_of("gcam-2025-7"), pool_of("gcam-2025-7~-1")
    ('gcam-2025', 'gcam-2025')
    """
    return _NUMBER.sub("", worker)


def current_pool() -> str | None:
    """Return the pool whose worker runs the task that asks; ``None`` outside of tasks."""
    try:
        return pool_of(str(get_worker().name))
    except ValueError:
        return None


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    """Turn what would end the process, and with it other tasks, into a failure of the task."""
    try:
        yield
    except SystemExit as leaving:
        raise TaskError(f"the task called sys.exit({leaving.code!r})") from leaving
    except KeyboardInterrupt as interrupt:
        raise TaskError("the task raised KeyboardInterrupt") from interrupt


async def _run_coroutine(function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    with _no_exit():
        return await function(*args, **kwargs)


def measured(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function as one that is measured, and that cannot end its worker's process by exiting.

    Coroutine functions are not measured: they run on the worker's event loop among others,
    where neither processor time nor memory can be told apart. Dask still reports their
    duration.
    """
    if inspect.iscoroutinefunction(function) or asyncio.iscoroutinefunction(function):
        return functools.partial(_run_coroutine, function)
    return Measured(function)


def _leave(measurement: Measurement) -> None:
    place = _here()
    if place is not None:
        worker, key = place
        task = worker.state.tasks.get(key)
        if task is not None:
            task.metadata[MEASURE] = measurement


def _leave_failure(measurement: Measurement, error: BaseException) -> None:
    place = _here()
    if place is not None:
        worker, key = place
        measurement["key"] = str(key)
        measurement["worker"] = worker.address
        _describe(measurement, error)
        worker.log_event(TOPIC, dict(measurement))


def _describe(measurement: Measurement, error: BaseException) -> None:
    measurement["error_type"] = type(error).__name__
    measurement["error"] = _text_of(error)
    measurement["traceback"] = "".join(traceback.format_exception(error, limit=-20))[-20_000:]


def _text_of(error: BaseException) -> str:
    try:
        return str(error)[:2_000]
    except Exception as broken:  # noqa: BLE001  (a user's __str__ may do anything)
        return f"<no text: {type(broken).__name__} in __str__>"


def _here() -> tuple[Any, Any] | None:
    """Return the Dask worker and the key of the task that this thread runs, if it runs one."""
    key = getattr(thread_state, "key", None)
    return None if key is None else (get_worker(), key)


class _Stopwatch:
    """One task under way in this process."""

    __slots__ = ("children_cpu", "children_peak", "cpu", "exclusive", "peak", "process_cpu", "started_at", "tick")

    def __init__(self) -> None:
        self.exclusive = True
        self.peak = 0
        _activity.enter(self)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.children_cpu = usage.ru_utime + usage.ru_stime
        self.children_peak = usage.ru_maxrss
        self.process_cpu = time.process_time()
        self.cpu = time.thread_time()
        self.started_at = time.time()
        self.tick = time.perf_counter()

    def stop(self) -> Measurement:
        """Return what was measured since the start."""
        duration = time.perf_counter() - self.tick
        own = time.thread_time() - self.cpu
        process = time.process_time() - self.process_cpu
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        children = usage.ru_utime + usage.ru_stime - self.children_cpu
        _activity.leave(self)
        peak = max(self.peak, _activity.own_peak())
        if usage.ru_maxrss > self.children_peak:
            peak = max(peak, usage.ru_maxrss * _RUSAGE_UNIT + _resident())
        # Threads that a library started count for the task only where it had the process to itself.
        alone = self.exclusive and _activity.dedicated
        return {
            "started_at": self.started_at,
            "ended_at": self.started_at + duration,
            "duration_s": duration,
            "cpu_s": (process if alone else own) + children,
            "peak_bytes": peak,
            "exclusive": self.exclusive,
        }


class _Activity:
    """The tasks under way in this process, and the thread that samples their children."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[_Stopwatch] = set()
        self._wake = threading.Event()
        self._sampler: threading.Thread | None = None

    @functools.cached_property
    def dedicated(self) -> bool:
        """Whether this process is a worker's own, and not the user's with workers as threads."""
        return getattr(get_worker(), "nanny", None) is not None

    def enter(self, stopwatch: _Stopwatch) -> None:
        """Count a task in; tasks that share the process spoil each other's exclusiveness."""
        with self._lock:
            if self._running:
                stopwatch.exclusive = False
                for other in self._running:
                    other.exclusive = False
            else:
                _reset_peak()
            self._running.add(stopwatch)
            if self._sampler is None:
                self._sampler = threading.Thread(target=self._sample, name="scalable-sampler", daemon=True)
                self._sampler.start()
        self._wake.set()

    def leave(self, stopwatch: _Stopwatch) -> None:
        """Count a task out."""
        with self._lock:
            self._running.discard(stopwatch)

    @staticmethod
    def own_peak() -> int:
        """Return the peak of this process's resident memory since the last reset, in bytes."""
        return _high_water() or _resident()

    def _sample(self) -> None:
        while True:
            self._wake.wait()
            time.sleep(_SAMPLE_INTERVAL_S)
            with self._lock:
                running = tuple(self._running)
                if not running:
                    self._wake.clear()
                    continue
            seen = _resident() + _children_resident()
            for stopwatch in running:
                stopwatch.peak = max(stopwatch.peak, seen)


_activity = _Activity()
_RUSAGE_UNIT = 1 if sys.platform == "darwin" else 1024
_PAGE = resource.getpagesize()


class _Files:
    """The process's memory files, kept open: opening them costs more than reading them."""

    def __init__(self) -> None:
        self.status = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
        self.statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.clear_refs = os.open("/proc/self/clear_refs", os.O_WRONLY | os.O_CLOEXEC)
        except OSError:  # a hardened kernel may refuse: then the peak is the process's
            self.clear_refs = -1


@functools.cache
def _files() -> _Files:
    return _Files()


if _LINUX:
    # Open files stay those of the parent after a fork.
    os.register_at_fork(after_in_child=_files.cache_clear)


def _reset_peak() -> None:
    if _LINUX and _files().clear_refs >= 0:
        os.write(_files().clear_refs, b"5")


def _high_water() -> int:
    if not _LINUX:
        return 0
    text = os.pread(_files().status, 4096, 0)
    start = text.find(b"VmHWM:")
    return int(text[start + 6 : text.find(b"kB", start)]) * 1024 if start >= 0 else 0


def _resident() -> int:
    if _LINUX:
        return int(os.pread(_files().statm, 256, 0).split()[1]) * _PAGE
    return int(psutil.Process().memory_info().rss)


def _children_resident() -> int:
    """Return the resident memory of all descendants, in bytes."""
    total = 0
    waiting = _child_ids("self")
    while waiting:
        child = waiting.pop()
        with contextlib.suppress(OSError, IndexError, ValueError):  # it ended meanwhile
            total += int(Path(f"/proc/{child}/statm").read_bytes().split()[1]) * _PAGE
            waiting += _child_ids(child)
    return total


def _child_ids(process: str) -> list[str]:
    """Return the process ids of the children of all threads of a process."""
    if not _LINUX:
        return [] if process != "self" else [str(child.pid) for child in psutil.Process().children(recursive=True)]
    found: list[str] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                found += (thread / "children").read_text().split()
    return found
