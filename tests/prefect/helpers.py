"""Asking Prefect's server, which records events in batches."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import TaskRun
from prefect.events import Event
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

__all__ = ["eventually", "listening", "read_if_known", "task_run_state"]


def eventually(ask: Callable[[], Any], enough: Callable[[Any], bool] = bool, seconds: float = 20.0) -> Any:
    """Ask until the answer is enough, and return the last one."""
    give_up = time.monotonic() + seconds
    while not enough(answer := ask()) and time.monotonic() < give_up:
        time.sleep(0.2)
    return answer


def read_if_known(api: SyncPrefectClient, task_run_id: UUID) -> TaskRun | None:
    """Return a task run, if the server has heard of it."""
    try:
        return api.read_task_run(task_run_id)
    except (ObjectNotFound, PrefectHTTPStatusError):
        return None


def task_run_state(api: SyncPrefectClient, task_run_id: UUID, name: str) -> str | None:
    """Return the name of a task run's state, which is to become the given one."""

    def ask() -> str | None:
        run = read_if_known(api, task_run_id)
        return None if run is None or run.state is None else run.state.name

    found: str | None = eventually(ask, lambda state: state == name)
    return found


@contextlib.contextmanager
def listening(prefix: str) -> Iterator[list[Event]]:
    """Hear of the events that Prefect's server receives whose names begin so."""
    heard: list[Event] = []
    ready, over = threading.Event(), threading.Event()

    async def hear() -> None:
        wanted = EventFilter(event=EventNameFilter(prefix=[prefix]))
        async with get_events_subscriber(filter=wanted) as subscriber:
            ready.set()
            while not over.is_set():
                with contextlib.suppress(TimeoutError):
                    heard.append(await asyncio.wait_for(anext(subscriber), 0.5))

    thread = threading.Thread(target=lambda: asyncio.run(hear()))
    thread.start()
    assert ready.wait(60)
    try:
        yield heard
    finally:
        over.set()
        thread.join()
