"""What runs on workers: the plugin that brings what all task runs share, and the task itself."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID, uuid4

import distributed
from distributed.diagnostics.plugin import WorkerPlugin
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.context import SettingsContext
from prefect.tasks import Task

from scalable import current_pool, mark_failed
from scalable_prefect import compat, dask_client, deadline, labels, slots
from scalable_prefect.ledger import STARTED, Verdict, WorkerDied, verdict_on
from scalable_prefect.parcel import Parcel, unsendable
from scalable_prefect.payload import Call, unpack
from scalable_prefect.routing import Guide

__all__ = ["Place", "Shared", "SharedPlugin", "current", "drain", "pick_up", "process_id", "run"]

_DRAIN_S = 3.0
_ID_LENGTH: Final = 36
"""Of the task run's id, with which a key ends."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the task runs of a flow run have in common, shipped once to each worker.

    Attributes
    ----------
    digest : str
        Of the context; task runs refer to it.
    context : bytes
        Pickled: Prefect's settings and the flow run.
    api_url : str
        Prefect's API.
    process : str
        The flow's own process, as :func:`process_id` tells it.
    guide : Guide
        Where tasks go that are submitted from inside tasks.
    profiled : bool
        Whether Dask's statistical profiler goes on. Every 10 ms it walks the stacks of all tasks,
        and Prefect's are deep: with workers that are threads a fifth of what the scheduler's
        thread does.
    """

    digest: str
    context: bytes
    api_url: str
    process: str
    guide: Guide
    profiled: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where the code that asks for it runs: inside a task run, on a worker of ours.

    Attributes
    ----------
    at_end : list of callable
        Called when the task run has ended, with whether it is in a hurry: whether what it
        submitted, and did not wait for, is to be cancelled.
    """

    shared: Shared
    settings: SettingsContext
    worker: Any
    at_end: list[Callable[[bool], None]] = field(default_factory=list)


_place: contextvars.ContextVar[Place | None] = contextvars.ContextVar("scalable_prefect_place", default=None)


def current() -> Place | None:
    """Return where we are, or ``None`` outside our workers."""
    return _place.get()


def process_id() -> str:
    """Return what tells this process from any other on any machine."""
    return f"{os.uname().nodename}:{os.getpid()}"


class _Shelf:
    """What plugins brought to this process; workers that are threads of one process share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[str, Shared] = {}
        self._built: dict[str, compat.Built] = {}
        self._uses: Counter[str] = Counter()
        self._left: dict[str, Parcel] = {}

    def put(self, shared: Shared) -> None:
        with self._lock:
            self._uses[shared.digest] += 1
            self._shared[shared.digest] = shared

    def drop(self, digest: str) -> bool:
        """Let go of it once; return whether nothing is left."""
        with self._lock:
            self._uses[digest] -= 1
            if self._uses[digest] <= 0:
                if digest in self._built:
                    self._built[digest].clients.close()
                for shelf in (self._shared, self._built, self._uses):
                    shelf.pop(digest, None)
            if not self._shared:
                self._left.clear()
            return not self._shared

    def at_home(self, digest: str) -> bool:
        """Return whether this is the flow's own process, where nothing needs to be pickled."""
        shared = self._shared.get(digest)
        return shared is not None and shared.process == process_id()

    def get(self, digest: str) -> tuple[Shared, compat.Built]:
        """Return what is shared, and what was built of it for this process."""
        with self._lock:
            shared = self._shared[digest]
            built = self._built.get(digest)
        if built is None:
            # Not under the lock: it imports what the flow refers to, and the worker's own thread wants the lock, too.
            built = compat.build(shared.context)
            with self._lock:
                if digest in self._shared:
                    built = self._built.setdefault(digest, built)
        return shared, built

    def leave(self, key: str, parcel: Parcel) -> None:
        """Leave a final state for the flow, which is in this process."""
        self._left[key] = parcel

    def pick_up(self, key: str) -> Parcel | None:
        """Return the final state of a task run, once, if a worker of this process has left it."""
        return self._left.pop(key, None)


_shelf = _Shelf()


def pick_up(key: str) -> Parcel | None:
    """Return the final state of a task run, once, if it ran in a thread of this process."""
    return _shelf.pick_up(key)


class SharedPlugin(WorkerPlugin):
    """Bring a flow run's shared part to a worker, also to those that come later."""

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        # One for each runner: they may share a digest, and each takes away its own.
        self.name = f"scalable-prefect-{shared.digest}-{uuid4().hex[:8]}"

    def setup(self, worker: Any) -> None:
        """Keep it; called when the plugin comes to the worker."""
        if process_id() != self.shared.process:
            compat.adopt_api_url(self.shared.api_url)
            dask_client.known_to_clients()
        if not self.shared.profiled:
            for name in ("profile", "profile-cycle"):
                if name in worker.periodic_callbacks:
                    worker.periodic_callbacks[name].stop()
        _shelf.put(self.shared)

    async def teardown(self, worker: Any) -> None:
        """Let go of it, and send what Prefect holds back; called when the worker leaves."""
        # The nanny waits for four seconds: once is enough.
        if _shelf.drop(self.shared.digest) and process_id() != self.shared.process:
            await drain()


def _hush() -> None:
    """Quieten Dask: it tells of each connection, and Prefect's console prints what any logger says.

    Levels other than Dask's own default are the user's and stay.
    """
    logger = logging.getLogger("distributed")
    if logger.level == logging.INFO:
        logger.setLevel(logging.WARNING)


# At import: a worker process imports the flow's script, and so this, before it says its first word.
_hush()


async def drain() -> None:
    """Send Prefect's events and logs of this process, which is about to end."""
    await asyncio.to_thread(compat.drain_services, _DRAIN_S)


def run(payload: bytes, upstreams: Sequence[Parcel], digest: str, held: Sequence[str], retries: int) -> Parcel:
    """Run a task in Prefect's engine; never raises.

    Parameters
    ----------
    payload : bytes
        From :func:`scalable_prefect.payload.pack`.
    upstreams : sequence of Parcel
        Final states of the task runs whose results it takes.
    digest : str
        Which shared part it belongs to.
    held : sequence of str
        Names of the large buffers that belong to the payload.
    retries : int
        How often Prefect may try again.
    """
    worker = distributed.get_worker()
    key = str(worker.get_current_task())
    task_run_id = UUID(key[-_ID_LENGTH:])
    verdict = verdict_on(worker, key)
    worker.log_event(STARTED, {"key": key})
    reported = True
    try:
        shared, built = _shelf.get(digest)
        if verdict.may_run(retries):
            # Only now: of a task run that has ended, the flow may have let go of what it took.
            call = unpack(payload, upstreams, held)
            state = _run_call(call, shared, built, worker, key=key, verdict=verdict)
            # The flow was told that it runs again.
            reported = not isinstance(state.data, WorkerDied)
        else:
            state = _answer_for(verdict, task_run_id, built)
    except BaseException as error:  # noqa: BLE001  (whatever it is, the flow must hear of it)
        state, reported = compat.crashed(error), False
    if state.state_details.task_run_id is None:
        state.state_details.task_run_id = task_run_id
    _tell_telemetry(state)
    return _wrap(key, state, digest, reported=reported)


def _tell_telemetry(state: State[Any]) -> None:
    """Let telemetry know of a failure, which Prefect hands over as a value."""
    if state.is_failed() or state.is_crashed():
        kept = getattr(state.data, "result", state.data)
        mark_failed(kept if isinstance(kept, BaseException) else RuntimeError(state.message or state.name))


def _run_call(
    call: Call, shared: Shared, built: compat.Built, worker: Any, *, key: str, verdict: Verdict
) -> State[Any]:
    settings = built.settings_context()
    place = Place(shared, settings, worker)
    token = _place.set(place)
    try:
        with settings, compat.engine_client(built) as client, slots.held(worker, key):
            if (pool := current_pool()) is not None:
                labels.label(call.task, call.arguments["task_run_id"], pool)
            if verdict.lost and not _taken_up(call, client):
                return verdict.state()
            task = _ready(call.task)
            hurry = True
            try:
                context = {**call.context, "flow_run_context": built.flow_run_context()}
                state = compat.run_engine(task, context, client, **call.arguments)
                hurry = state.name == "TimedOut" or not (state.is_completed() or state.is_failed())
            finally:
                for end in place.at_end:
                    end(hurry)
            return state
    finally:
        _place.reset(token)


def _taken_up(call: Call, client: SyncPrefectClient) -> bool:
    """Have a task run that a dead worker began go on as the same, counted on; return whether it has a try left."""
    begun = compat.begun_task_run(client, call.arguments["task_run_id"])
    if begun is None:
        return True
    call.arguments["task_run"] = begun
    left = (call.task.retries or 0) - begun.run_count
    call.task.retries = max(0, left)
    return left >= 0


def _ready(task: Task[Any, Any]) -> Task[Any, Any]:
    """Return a task as the engine can run it here."""
    if not (task.isasync and task.isgenerator):
        return deadline.enforced(task)
    # Prefect makes lists of what other generators yield.
    generate, twin = task.fn, copy.copy(task)

    @functools.wraps(generate)
    async def listed(*args: Any, **kwargs: Any) -> list[Any]:
        return [item async for item in generate(*args, **kwargs)]

    twin.fn = listed
    return twin


def _answer_for(verdict: Verdict, task_run_id: UUID, built: compat.Built) -> State[Any]:
    """Return the state of a task run that may not run again: the one it had, if its result lies in storage."""
    settings = built.settings_context()
    if verdict.completed:
        with settings, compat.engine_client(built) as client:
            stored = compat.stored_state(client, task_run_id)
        if stored is not None:
            return stored
    return verdict.state()


def _wrap(key: str, state: State[Any], digest: str, *, reported: bool) -> Parcel:
    if _shelf.at_home(digest):
        parcel = Parcel(state, reported=reported)
        _shelf.leave(key, parcel)
        return parcel
    try:
        return Parcel.pack(state, reported=reported)
    except Exception as problem:  # noqa: BLE001  (pickling runs the user's code)
        return Parcel.pack(unsendable(state, problem), reported=False)
