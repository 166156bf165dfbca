"""The process that a run belongs to: named so that it is never taken for a later one with its number."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Self

__all__ = ["Owner"]

# Where there is no /proc, the same as the kernel's clock ticks on most machines: hundredths of a second.
_TICKS_PER_S = 100


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that started a run.

    Attributes
    ----------
    host : str
        Name of its machine.
    pid : int
        Its number there.
    started : int
        When it started, by the machine's own count; with the number it names one process,
        although numbers are used again.
    """

    host: str
    pid: int
    started: int

    @classmethod
    def mine(cls) -> Self:
        """Return this process."""
        pid = os.getpid()
        return cls(socket.gethostname(), pid, _started(pid) or 0)

    def alive(self) -> bool | None:
        """Return whether the process is there; ``None`` on another machine, from which it cannot be told."""
        if self.host != socket.gethostname():
            return None
        return _started(self.pid) == self.started


def _started(pid: int) -> int | None:
    """Return when the process with a number started; ``None`` if there is none, or only its remains."""
    try:
        # The name, in parentheses, may hold anything, parentheses and spaces too.
        state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None if Path("/proc/self/stat").exists() else _started_without_proc(pid)
    # The 22nd field of the line; the state is the third.
    return None if state in {"Z", "X"} else int(fields[18])


def _started_without_proc(pid: int) -> int | None:
    import psutil  # noqa: PLC0415  (import cost)

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * _TICKS_PER_S)
    except (psutil.Error, ValueError, OverflowError):
        return None
