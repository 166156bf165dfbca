"""A program that runs one job's command and ends whatever that command started; standard library only.

One JSON line on standard input says what to run; one JSON line on standard output says what
became of it. In between the open standard input is what keeps the job alive: when the worker
that holds it dies, every process of the job is killed, those that left the job's session or
lost their parent included. It is started by its path with ``python -I -S`` and imports
nothing of this package, so that it costs little.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Final

__all__ = ["STOP", "main"]

STOP: Final = b"stop\n"
"""Line on standard input that asks for the job's end: politely at first, then by force."""

_GRACE_S = 2.0
_REAP_LIMIT_S = 5.0
_TICK_S = 0.01
# Linux takes no single argument beyond 128 KiB: MAX_ARG_STRLEN in execve(2).
_LONGEST_ARGUMENT = 100_000
# From <linux/prctl.h>.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Run the job that standard input describes."""
    request = json.loads(sys.stdin.buffer.readline())
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None:
        # Orphans of the job become this process's children, where they are found and ended.
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    began = time.monotonic()
    job = _Job(request["command"], libc)
    threading.Thread(target=job.follow_orders, daemon=True).start()
    status, usage = job.wait()
    duration = time.monotonic() - began
    _end_stragglers()
    result = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "stopped": job.stopped,
        "duration_s": duration,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
    }
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(result).encode() + b"\n")
    # The thread that follows orders is still blocked in a read, which a normal exit would wait for.
    os._exit(0)


class _Job:
    """The command, as a session and process group of its own."""

    def __init__(self, command: str, libc: Any) -> None:
        self.stopped = False
        self._ended = False
        script = _as_file(command) if len(command.encode()) > _LONGEST_ARGUMENT else None
        arguments = ["/bin/sh", "-c", command] if script is None else ["/bin/sh", f"/dev/fd/{script}"]
        supervisor = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                _become(arguments, supervisor, libc)
            finally:
                os._exit(127)
        if script is not None:
            os.close(script)

    def wait(self) -> tuple[int, Any]:
        """Return the wait status and the resource usage, once the command has ended."""
        _, status, usage = os.wait4(self._pid, 0)
        self._ended = True
        return status, usage

    def follow_orders(self) -> None:
        """Wait for the order to stop, or for the worker's death, and end the job."""
        if sys.stdin.buffer.readline() == STOP:
            self.stopped = True
            self._signal(signal.SIGTERM)
            patience = threading.Timer(_GRACE_S, self._force)
            patience.daemon = True
            patience.start()
            sys.stdin.buffer.read()
        self._force()

    def _force(self) -> None:
        while True:
            self._signal(signal.SIGKILL)
            time.sleep(_TICK_S)

    def _signal(self, number: signal.Signals) -> None:
        if not self._ended:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, number)
        for process in _descendants():
            _send(process, number)


def _as_file(command: str) -> int:
    """Return the descriptor of a file without a name that holds the command."""
    descriptor, path = tempfile.mkstemp(prefix="scalable-job-")
    Path(path).write_text(command, encoding="utf-8")
    Path(path).unlink()
    os.set_inheritable(descriptor, True)
    return descriptor


def _become(arguments: list[str], supervisor: int, libc: Any) -> None:
    """Turn the forked child into the command."""
    os.setsid()
    if libc is not None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != supervisor:
            return
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    os.execv(arguments[0], arguments)  # noqa: S606  (the argument already is a shell with its command)


def _end_stragglers() -> None:
    """End what the command left running behind it, as every batch system does."""
    deadline = time.monotonic() + _REAP_LIMIT_S
    while time.monotonic() < deadline:
        for process in _descendants():
            _send(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return
        time.sleep(_TICK_S)


def _send(process: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(process, number)


def _descendants() -> list[int]:
    """Return every process below this one; without ``/proc``, none."""
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        children = _children(waiting.pop())
        found += children
        waiting += children
    return found


def _children(process: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{process}/task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (thread / "children").read_text().split())
    return children


if __name__ == "__main__":
    main()
