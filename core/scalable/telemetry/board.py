"""What a worker's process runs at this moment, where its nanny can read it after the process is dead.

A piece of memory that belongs to no file and to both processes: whatever ends either, it is
gone when both are, and what was written last is there until then.
"""

from __future__ import annotations

import mmap
import os
from typing import Any, Final

__all__ = ["VARIABLE", "Board", "Reader"]

VARIABLE: Final = "SCALABLE_BOARD"
"""Environment variable that tells a worker's process where the memory is."""

_SLOTS: Final = 128
_SLOT_BYTES: Final = 512
_LONGEST: Final = _SLOT_BYTES - 2
_EMPTY: Final = b"\0\0"


def written(key: Any) -> str:
    """Return a task's key as it can be read from a board."""
    return str(key).encode("utf-8", "replace")[:_LONGEST].decode("utf-8", "replace")


class Board:
    """The worker's side: a slot for each task under way.

    Parameters
    ----------
    path : str
        What :attr:`Reader.path` said.

    Raises
    ------
    OSError
        If it is not there, as for a process that was started by somebody else.
    """

    def __init__(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._memory = mmap.mmap(descriptor, _SLOTS * _SLOT_BYTES)
        finally:
            os.close(descriptor)
        self._free = list(range(_SLOTS))

    def enter(self, key: Any) -> int:
        """Note a task that begins, and return its slot; -1 if there is none left."""
        try:
            slot = self._free.pop()
        except IndexError:
            return -1
        text = str(key).encode("utf-8", "replace")[:_LONGEST]
        start = slot * _SLOT_BYTES
        self._memory[start + 2 : start + 2 + len(text)] = text
        # The length last: what is half written is not read.
        self._memory[start : start + 2] = len(text).to_bytes(2, "little")
        return slot

    def leave(self, slot: int) -> None:
        """Note that the task of a slot is over."""
        if slot >= 0:
            start = slot * _SLOT_BYTES
            self._memory[start : start + 2] = _EMPTY
            self._free.append(slot)


class Reader:
    """The nanny's side, which makes the memory.

    Attributes
    ----------
    path : str
        Where processes of this user find it.

    Raises
    ------
    OSError
        If the system has no such memory.
    """

    def __init__(self) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("only Linux has memory without a file")
        self._descriptor = os.memfd_create("scalable-board", os.MFD_CLOEXEC)
        os.ftruncate(self._descriptor, _SLOTS * _SLOT_BYTES)
        self._memory = mmap.mmap(self._descriptor, _SLOTS * _SLOT_BYTES)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def take(self) -> list[str]:
        """Return the keys of the tasks under way, and wipe them: the process that ran them is dead."""
        found = []
        for start in range(0, _SLOTS * _SLOT_BYTES, _SLOT_BYTES):
            length = int.from_bytes(self._memory[start : start + 2], "little")
            if length:
                found.append(self._memory[start + 2 : start + 2 + length].decode("utf-8", "replace"))
                self._memory[start : start + 2] = _EMPTY
        return found

    def close(self) -> None:
        """Give the memory back."""
        self._memory.close()
        os.close(self._descriptor)
