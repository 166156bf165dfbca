"""What every nanny of a pool does when it starts: a Dask preload module.

Dask's scheduler learns that a worker is gone, but not why. The nanny outlives it and can
tell: it watches the memory of the worker's process, and the kernel's count of processes
that were killed for memory in its control group (cgroup v1 ``memory.oom_control``,
cgroup v2 ``memory.events``, see :manpage:`cgroups(7)`).
"""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from pathlib import Path
from typing import Any, Final

from tornado.ioloop import PeriodicCallback

from scalable.telemetry.board import VARIABLE, Reader

__all__ = ["DIED", "dask_setup", "dask_teardown"]

DIED: Final = "scalable-worker-died"
"""Dask event topic: what a worker died of, by the nanny that it had."""

_LOOK_MS = 100.0
_LATE_S = 1.0
_NEARLY_ALL = 0.95

_watches: weakref.WeakKeyDictionary[Any, _Watch] = weakref.WeakKeyDictionary()


class _Kernel:
    """Processes that the kernel killed for memory here, of late.

    Those of before may have been children of a task, which the worker survived.
    """

    def __init__(self) -> None:
        self._before = self._last = _memory_kills()
        self._read_at = time.monotonic()

    def look(self) -> None:
        """Keep the count of at least a second ago; called while the workers live."""
        now = time.monotonic()
        if now - self._read_at >= _LATE_S:
            self._before, self._last, self._read_at = self._last, _memory_kills(), now

    def killed(self) -> bool:
        """Whether one was killed in the last second or two, that no other worker's death was put down to."""
        before, count = self._before, _memory_kills()
        self._before = self._last = count
        return count > before


@functools.cache
def _kernel() -> _Kernel:
    return _Kernel()


def dask_setup(nanny: Any) -> None:
    """Watch the worker; called by Dask in the nanny's process."""
    watch = _watches[nanny] = _Watch(nanny)
    watch.start()


def dask_teardown(nanny: Any) -> None:
    """Watch no more; called by Dask when the nanny closes."""
    watch = _watches.pop(nanny, None)
    if watch is not None:
        watch.stop()


class _Watch:
    """The process of one worker, looked at ten times a second."""

    def __init__(self, nanny: Any) -> None:
        self._nanny = weakref.proxy(nanny)
        self._pid: int | None = None
        self._address = ""
        self._peak = 0
        self._board: Reader | None = None
        with contextlib.suppress(OSError):
            self._board = Reader()
            nanny.env = {**nanny.env, VARIABLE: self._board.path}
        _kernel()
        self._look_again = PeriodicCallback(self._look, _LOOK_MS)

    def start(self) -> None:
        self._look_again.start()

    def stop(self) -> None:
        self._look_again.stop()
        if self._board is not None:
            self._board.close()
            self._board = None

    def _look(self) -> None:
        pid = self._nanny.pid
        if pid is not None and pid == self._pid:
            self._address = self._nanny.worker_address or self._address
            # Since the task began: the worker resets it for each.
            peak = _high_water(pid)
            self._peak = peak or self._peak
            if peak:
                _kernel().look()
                return
        if self._pid is not None and self._address:
            self._tell()
        self._pid, self._peak = pid, 0

    def _tell(self) -> None:
        limit = self._nanny.memory_manager.memory_limit
        out_of_memory = _kernel().killed() or bool(limit and self._peak >= _NEARLY_ALL * limit)
        message: dict[str, Any] = {"worker": self._address, "out_of_memory": out_of_memory, "peak_bytes": self._peak}
        message["keys"] = self._board.take() if self._board is not None else []
        self._address = ""
        if self._nanny.status.name == "running":
            self._nanny.log_event(DIED, message)


def _high_water(pid: int) -> int:
    """Return the peak of a process's resident memory in bytes; 0 if it is gone."""
    with contextlib.suppress(OSError, ValueError):
        text = Path(f"/proc/{pid}/status").read_bytes()
        start = text.find(b"VmHWM:")
        if start >= 0:
            return int(text[start + 6 : text.find(b"kB", start)]) * 1024
    return 0


def _memory_kills() -> int:
    """Return how many processes of this control group the kernel has killed for memory."""
    for path in _counters():
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
    return 0


def _counters() -> list[Path]:
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            found.append(Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control"))
        elif not controllers:
            found.append(Path(f"/sys/fs/cgroup{path}/memory.events"))
    return found
