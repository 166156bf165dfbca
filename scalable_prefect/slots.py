"""The slot that a task holds on its worker, lent to others while the task waits for them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import distributed

__all__ = ["held", "lent"]

_here = threading.local()


@contextlib.contextmanager
def held(worker: Any, key: str) -> Iterator[None]:
    """Note that this thread runs a task of a Dask worker."""
    _here.place = (worker, key)
    try:
        yield
    finally:
        del _here.place


@contextlib.contextmanager
def lent() -> Iterator[None]:
    """Give the slot away while waiting, so that tasks which a task submits can run; elsewhere do nothing."""
    place = getattr(_here, "place", None)
    if place is None:
        yield
        return
    # Dask gives back the thread of a task that secedes, but not the resources it took.
    worker, key = place
    _move(worker, key, 1)
    distributed.secede()
    del _here.place
    try:
        yield
    finally:
        distributed.rejoin()
        _here.place = place
        _move(worker, key, -1)


def _move(worker: Any, key: str, sign: int) -> None:
    def move() -> None:
        task = worker.state.tasks.get(key)
        if task is not None:
            for name, amount in (task.resource_restrictions or {}).items():
                worker.state.available_resources[name] += sign * amount

    worker.loop.add_callback(move)
