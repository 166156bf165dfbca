"""Large buffers of arguments, which travel once to each worker process, however many task runs take them.

The flow's process keeps a copy of each, named by its content, as long as a task run that
takes it has not ended; the scheduler, which is in that process, hands it out. Workers keep
those that were used last, and give each task run a copy of its own to write to.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable
from typing import Any, Final

import distributed
from distributed.protocol.serialize import to_serialize
from distributed.utils import sync

__all__ = ["LARGE_BYTES", "hold", "release", "serve", "take"]

LARGE_BYTES: Final = 2**20
"""Buffers from this size on travel apart from the call that they belong to."""

_HANDLER: Final = "scalable_prefect_buffer"
_SHARE_OF_MEMORY: Final = 8
_UNLIMITED_BYTES: Final = 2**30


class _Store:
    """What this process has to give, with the number of task runs that may ask for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[str, bytes] = {}
        self._uses: Counter[str] = Counter()

    def hold(self, content: memoryview) -> str:
        digest = hashlib.blake2b(content, digest_size=16).hexdigest()
        with self._lock:
            self._uses[digest] += 1
            if digest not in self._kept:
                self._kept[digest] = bytes(content)
        return digest

    def release(self, digests: Iterable[str]) -> None:
        with self._lock:
            for digest in digests:
                self._uses[digest] -= 1
                if self._uses[digest] <= 0:
                    del self._uses[digest], self._kept[digest]

    def get(self, digest: str) -> bytes | None:
        return self._kept.get(digest)


_store = _Store()


def hold(content: memoryview) -> str:
    """Keep a copy, unless there is one, and return its name; to be released as often as it is held."""
    return _store.hold(content)


def release(digests: Iterable[str]) -> None:
    """Let go of what a task run took that has ended."""
    _store.release(digests)


def serve(scheduler: Any) -> None:
    """Let a scheduler of this process hand out what is kept here."""
    scheduler.handlers[_HANDLER] = _answer


def _answer(digest: str) -> Any:
    content = _store.get(digest)
    return None if content is None else to_serialize(content)


class _Fetched:
    """What a worker process has fetched; the least recently used go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fetched: OrderedDict[str, bytes] = OrderedDict()

    def get(self, digest: str) -> bytes:
        # One at a time: threads of a worker that want the same must not each fetch it.
        with self._lock:
            if digest not in self._fetched:
                worker = distributed.get_worker()
                content = sync(worker.loop, getattr(worker.scheduler, _HANDLER), digest=digest)
                if content is None:
                    raise RuntimeError("an argument is gone: the flow run no longer waits for this task run")
                self._fetched[digest] = content
                self._shrink(worker)
            self._fetched.move_to_end(digest)
            return self._fetched[digest]

    def _shrink(self, worker: Any) -> None:
        """Keep to a share of the worker's memory; what was fetched just now is held by who asked for it."""
        limit = (worker.memory_manager.memory_limit or _UNLIMITED_BYTES) // _SHARE_OF_MEMORY
        while len(self._fetched) > 1 and sum(map(len, self._fetched.values())) > limit:
            self._fetched.popitem(last=False)


_fetched = _Fetched()


def take(digests: Iterable[str]) -> list[bytearray]:
    """Return copies of large buffers, for a task run on a worker.

    Raises
    ------
    RuntimeError
        If the flow's process has let go of one.
    """
    return [bytearray(kept if (kept := _store.get(digest)) is not None else _fetched.get(digest)) for digest in digests]
