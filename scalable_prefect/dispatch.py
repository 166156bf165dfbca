"""The task runs of one flow run on their way to a backend; a thread of its own sends them."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext, SettingsContext
from prefect.flows import Flow

from scalable.errors import ScalableError, TaskError
from scalable_prefect import buffers, compat, slots, worker
from scalable_prefect.backends import Backend, RunStatus, Submission
from scalable_prefect.collect import Collector, take_all
from scalable_prefect.futures import DaskFuture, ScalableFuture
from scalable_prefect.parcel import Parcel, dumps
from scalable_prefect.publish import Story
from scalable_prefect.reports import AnyLogger, Reporter
from scalable_prefect.tenant import DaskClient
from scalable_prefect.watch import conclude

__all__ = ["Dispatcher"]

_QUIET_S = 0.2
_PATIENCE_S = 2.0
_MOST_AT_ONCE = 500
_MOST_BYTES_AT_ONCE = 16 * 2**20
"""Of one graph: a longer or larger one would make those wait that come after it."""
_MOST_CONTEXTS = 32


@dataclass(frozen=True, slots=True)
class _Context:
    """What task runs share, with the objects that it was made from: as long as these are held, their ids are theirs."""

    settings: SettingsContext
    flow: FlowRunContext | None
    digest: str


class Dispatcher:
    """Send task runs, and end them.

    Parameters
    ----------
    backend : Backend
        Where they run; opened in the background.
    settings : SettingsContext
        For reports to the API.
    logger : Logger or LoggerAdapter
        Whom to tell what happens.
    flow_run : FlowRun, optional
        Whose they are; Prefect's UI is told of its pools.
    """

    def __init__(
        self, backend: Backend, settings: SettingsContext, logger: AnyLogger, flow_run: FlowRun | None = None
    ) -> None:
        self.backend = backend
        self._story = Story(flow_run, settings, logger, self._cancelled_outside)
        self._was_cancelled = False
        self._closed = threading.Event()
        self._logger = logger
        self._reporter = Reporter(settings, logger)
        self._collector = Collector(backend, self._reporter)
        self._contexts: OrderedDict[tuple[int, int], _Context] = OrderedDict()
        self._unpublished: dict[str, tuple[bytes, str]] = {}
        self._published: set[str] = set()
        self._outbox: SimpleQueue[Submission | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._broken: Exception | None = None
        self._stopped = False
        self._wanted = threading.Event()
        self._opened = threading.Event()
        self._sender = threading.Thread(target=self._send_all, name="scalable-prefect-send", daemon=True)
        self._sender.start()

    def digest(self, settings: SettingsContext, flow: FlowRunContext | None) -> str:
        """Return the name of what task runs share under these settings in this flow run.

        The two are remembered as objects: other settings, as inside ``temporary_settings``,
        are another object.
        """
        place = worker.current()
        if place is not None and settings.settings is place.settings.settings and (flow is None or flow.detached):
            return place.shared.digest
        of = id(settings), id(flow)
        known = self._contexts.get(of)
        if known is None:
            data, api_url = _shared_by(settings, flow)
            known = self._contexts[of] = _Context(settings, flow, hashlib.sha256(data).hexdigest()[:24])
            if known.digest not in self._published:
                self._unpublished[known.digest] = data, api_url
            if len(self._contexts) > _MOST_CONTEXTS:
                self._contexts.popitem(last=False)
        return known.digest

    def submit(self, submission: Submission) -> None:
        """Send a task run, in the background.

        Raises
        ------
        ScalableError
            If nothing can be sent any more.
        """
        if submission.held:
            held = submission.held
            submission.future.add_done_callback(lambda _: buffers.release(held))
        with self._lock:
            if self._broken is None and not self._stopped:
                self._collector.expect(submission.future)
                self._outbox.put(submission)
                return
        buffers.release(submission.held)
        raise self._broken or ScalableError("the task runner was cancelled; it takes no more tasks")

    def dask(self) -> DaskClient:
        """Return the Dask client, once there is one.

        Raises
        ------
        ScalableError
            If the pools cannot be started.
        """
        self._wanted.set()
        self._opened.wait()
        if self._broken is not None:
            raise self._broken
        return self.backend.dask

    def fetch(self, dask: DaskFuture) -> State[Any]:
        """Bring a final state that has stayed with a worker."""
        try:
            parcel: Parcel = self.backend.dask.gather(dask)
            return parcel.open()
        except Exception as error:  # noqa: BLE001  (unpickling runs the user's code)
            return compat.crashed(error)

    def stop(self, status: RunStatus | None, *, drain_s: float = 0.0) -> None:
        """End everything; harmless when repeated.

        Parameters
        ----------
        status : {"completed", "failed", "cancelled"}, optional
            What the flow run came to.
        drain_s : float
            Wait so many seconds for task runs that nobody waited for, then cancel them.
        """
        try:
            if not self._stopped:
                _wait_for(self._collector.pending(), drain_s)
        finally:
            with self._lock:
                first, self._stopped = not self._stopped, True
            if first:
                try:
                    self._close(status)
                finally:
                    self._closed.set()

    def conclude(self, flow_run: FlowRun | None) -> None:
        """Wait until all is closed, whoever does it, and make a flow run Cancelled that somebody cancelled in the UI.

        Parameters
        ----------
        flow_run : FlowRun or None
            As the engine has it, after the flow has ended.
        """
        self._closed.wait()
        state = flow_run.state if flow_run is not None else None
        if flow_run is None or state is None:
            return
        if state.is_cancelling() or (self._was_cancelled and not state.is_completed()):
            conclude(flow_run, self._story.settings, self._logger)

    def _cancelled_outside(self) -> None:
        self._was_cancelled = True
        self._logger.info("The flow run was cancelled: its task runs and workers are ended")
        self.stop("cancelled")

    def _close(self, status: RunStatus | None) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._reporter.close)
            stack.callback(self.backend.close, status)
            stack.callback(self._collector.close)
            stack.callback(self._collector.cancel)
            # At once, because the pools may still be starting; and once more for what was just being sent.
            self._collector.cancel()
            self._outbox.put(None)
            self._sender.join()

    def _send_all(self) -> None:
        first = self._first() if self.backend.plans else []
        try:
            self.backend.open(self._collector.note_loss, first, self._story)
        except Exception as error:  # noqa: BLE001  (a provider may raise anything; whoever waits hears of it)
            self._give_up(error)
        self._opened.set()
        batch: list[Submission] | None = first
        del first
        while batch is not None:
            self._send_batch(batch)
            # What waits for the next must not hold on to task runs that are over.
            del batch
            batch = take_all(self._outbox)

    def _send_batch(self, batch: Sequence[Submission]) -> None:
        for alike in _alike(batch):
            self._send(alike)

    def _first(self) -> list[Submission]:
        """Return what is submitted in one go at the start, for a plan to know of it."""
        give_up = time.monotonic() + _PATIENCE_S
        first: list[Submission] = []
        while time.monotonic() < give_up or not first:
            try:
                submission = self._outbox.get(timeout=_QUIET_S)
            except Empty:
                if first or self._wanted.is_set():
                    break
                continue
            if submission is None:
                self._outbox.put(None)
                break
            first.append(submission)
        return first

    def _give_up(self, error: Exception) -> None:
        self._logger.error("The pools could not be started: %s", error)
        with self._lock:
            self._broken = error
        for future in self._collector.pending():
            self._collector.settle(future, compat.crashed(error))

    def _send(self, alike: Sequence[Submission]) -> None:
        if self._broken is not None or self._stopped:
            return
        try:
            self._publish(alike[0].digest)
            sent = self.backend.submit(alike)
        except Exception as error:  # noqa: BLE001  (this thread serves all others too)
            for submission in alike:
                self._collector.settle(submission.future, compat.crashed(error))
        else:
            for submission, dask in zip(alike, sent, strict=True):
                submission.future.bind(dask)
                self._collector.watch(dask)

    def _publish(self, digest: str) -> None:
        """Ship what task runs share to all workers, now and later, unless it is there."""
        if digest in self._published:
            return
        found = self._unpublished.pop(digest, None)
        if found is not None:
            shared = worker.Shared(
                digest,
                *found,
                worker.process_id(),
                self.backend.guide,
                profiled=self.backend.profiled,
            )
            self.backend.bring(shared)
        self._published.add(digest)


def _alike(batch: Iterable[Submission]) -> Iterator[list[Submission]]:
    """Yield task runs that can be sent as one graph; the order stays."""
    alike: list[Submission] = []
    keys: set[str] = set()
    size = 0
    for submission in batch:
        size += len(submission.payload)
        full = len(alike) >= _MOST_AT_ONCE or size > _MOST_BYTES_AT_ONCE
        needed = not keys.isdisjoint(upstream.key for upstream in submission.upstreams)
        if alike and (full or needed or submission.kind != alike[0].kind):
            yield alike
            alike, keys, size = [], set(), len(submission.payload)
        alike.append(submission)
        keys.add(submission.future.key)
    if alike:
        yield alike


def _shared_by(settings: SettingsContext, flow: FlowRunContext | None) -> tuple[bytes, str]:
    """Return what task runs share, pickled, and the API's address in it."""
    shared = compat.static_context(settings, flow)
    data = _dump(shared, flow.flow if flow is not None else None)
    return data, str(shared["settings_context"]["settings"]["api"]["url"])


def _dump(shared: dict[str, Any], flow: Flow[Any, Any] | None) -> bytes:
    """Pickle what task runs share; the flow's own function may refer to what cannot be sent, and is not needed."""
    with contextlib.suppress(Exception):  # pickling runs the user's code
        return dumps(shared)
    if flow is not None:
        shared["flow_run_context"]["flow"] = compat.without_body(flow)
    try:
        return dumps(shared)
    except Exception as error:
        name = flow.name if flow is not None else "none"
        raise TaskError(
            f"flow '{name}': its parameters cannot be sent to workers, where its tasks may ask for them: {error}"
        ) from error


def _wait_for(futures: Sequence[ScalableFuture[Any]], seconds: float) -> None:
    if not futures or not seconds:
        return
    deadline = time.monotonic() + seconds
    # At the end of a task, those that it submitted may have no other slot than its own.
    with slots.lent():
        for future in futures:
            future.wait_quietly(max(0.0, deadline - time.monotonic()))
