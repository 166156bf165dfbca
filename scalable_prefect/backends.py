"""Where a runner's tasks go: to a session of its own, or, inside a task, to the scheduler that runs it."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import distributed

from scalable import Plan, ScalableSession, TaskGroup
from scalable.extras import require
from scalable_prefect import worker
from scalable_prefect.futures import DaskFuture, ScalableFuture
from scalable_prefect.ledger import Ledger
from scalable_prefect.publish import Publisher, Story
from scalable_prefect.routing import Guide, Signposts
from scalable_prefect.tenant import DaskClient, OnLoss, Tenant

__all__ = ["Backend", "RunStatus", "SessionBackend", "Submission", "WorkerBackend", "groups_of", "in_process"]

_DRAIN_S = 4.0

RunStatus = Literal["completed", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Submission:
    """A task run that is ready to be sent.

    Attributes
    ----------
    payload : bytes
        The call, with references to what ``upstreams`` lists.
    digest : str
        Name of what it shares with others.
    tag : str or None
        Which pool it asks for.
    held : tuple of str
        Names of the large buffers that travel apart from the payload.
    priority : int
        Greater is earlier.
    capabilities : mapping of str to float or None
        What it requires besides.
    features : mapping or None
        What is known of its input, for telemetry.
    """

    future: ScalableFuture[Any]
    payload: bytes
    upstreams: list[ScalableFuture[Any]]
    digest: str
    tag: str | None
    held: tuple[str, ...] = ()
    priority: int = 0
    capabilities: Mapping[str, float] | None = None
    features: Mapping[str, Any] | None = None

    @property
    def kind(self) -> tuple[Any, ...]:
        """What must be equal of task runs that are sent as one graph."""
        return (self.future.name, self.tag, self.priority, self.digest, self.capabilities, self.future.retries)


class Backend(Protocol):
    """What a dispatcher needs of a place that runs tasks."""

    signposts: Signposts
    """The tags that mean a pool there."""

    plans: bool
    """Whether it wants to know of what is to run before it starts."""

    profiled: bool
    """Whether its workers are to go on taking profiles."""

    keeps_buffers: bool
    """Whether what is large can travel apart from its task: its scheduler is in this process."""

    def open(self, on_loss: OnLoss, first: Sequence[Submission], story: Story | None = None) -> None:
        """Start it, which may take long.

        Parameters
        ----------
        on_loss : callable
            Told of a task, by ``key``, under which a worker died, how many have (``lost``), and
            what is known of its ``memory`` if it ran out of that.
        first : sequence of Submission
            What has been submitted so far, if it plans.
        story : Story, optional
            Whose run it is, and whom to tell of it.
        """

    @property
    def dask(self) -> DaskClient:
        """The Dask client; only after :meth:`open`."""

    @property
    def guide(self) -> Guide:
        """Where tasks inside tasks go; only after :meth:`open`."""

    def bring(self, shared: worker.Shared) -> None:
        """Ship what task runs share to all workers, now and later; until :meth:`close`."""

    def submit(self, alike: Sequence[Submission]) -> list[DaskFuture]:
        """Hand task runs that are alike to the scheduler, as one graph."""

    def close(self, status: RunStatus | None) -> None:
        """End it, with everything that runs there."""


class SessionBackend:
    """A session of Scalable.

    Parameters
    ----------
    session : ScalableSession
        Started if it is not yet.
    owned : bool
        Whether to close it in the end.
    objective, policy : str, optional
        How its pools are sized; default is the manifest's numbers.
    report_path : str, optional
        Where to write Dask's performance report.

    Raises
    ------
    MissingExtra
        If the report cannot be drawn.
    """

    def __init__(
        self,
        session: ScalableSession,
        *,
        owned: bool,
        objective: str | None = None,
        policy: str | None = None,
        report_path: str | None = None,
    ) -> None:
        if report_path is not None:
            require("dashboard", "bokeh")
        # Another's workers do as they did.
        self.profiled = report_path is not None or not owned
        self._report = None if report_path is None else distributed.performance_report(report_path)
        self.session = session
        self._objective = objective
        self._policy = policy
        self.signposts = Signposts.of(session)
        self.keeps_buffers = True
        self.plans = objective is not None or policy is not None
        self._owned = owned
        self._tenant: Tenant | None = None
        self._publisher: Publisher | None = None

    def open(self, on_loss: OnLoss, first: Sequence[Submission], story: Story | None = None) -> None:
        """Start the session."""
        if story is not None and story.flow_run is not None:
            self._publisher = Publisher(self.session, story, report=self._owned)
        self.session.start(self._plan(first) if self.plans else None)
        if self._publisher is not None:
            self._publisher.started()
        self._tenant = Tenant(self.dask)
        self.dask.register_plugin(Ledger())
        self._tenant.hear(on_loss)
        if self._report is not None:
            with self.dask.as_current():
                self._report.__enter__()

    def _plan(self, first: Sequence[Submission]) -> Plan:
        """Return a plan for what was submitted, and what the manifest and past runs tell of besides."""
        groups = groups_of(first, self.session)
        return self.session.plan(objective=self._objective, policy=self._policy, tasks=groups, partial=True)

    @property
    def dask(self) -> DaskClient:
        """The Dask client."""
        return self.session.client.dask

    @functools.cached_property
    def guide(self) -> Guide:
        """Where tasks inside tasks go."""
        return Guide.of(self.session, self.session.client)

    def bring(self, shared: worker.Shared) -> None:
        """Ship what task runs share to all workers, now and later; until :meth:`close`."""
        assert self._tenant is not None
        self._tenant.bring(shared)

    def submit(self, alike: Sequence[Submission]) -> list[DaskFuture]:
        """Hand task runs that are alike to the scheduler, as one graph."""
        one = alike[0]
        return self.session.client.map(
            worker.run,
            *_columns(alike),
            tag=one.tag,
            capabilities=one.capabilities,
            features=[one.features or {} for one in alike],
            name=one.future.name,
            key=[one.future.key for one in alike],
            priority=one.priority,
            pure=False,
            # Of no use to Dask, as the task itself never fails: how often one that ran out of memory may run again.
            retries=one.future.retries,
        )

    def close(self, status: RunStatus | None) -> None:
        """End the session, if it is the runner's own."""
        # The last is called first, and each of them whatever the others raise.
        with contextlib.ExitStack() as stack:
            if self._publisher is not None:
                stack.callback(self._publisher.close)
            if self._owned:
                stack.callback(self.session.close, status)
            if self._publisher is not None:
                stack.callback(self._publisher.settle)
            if self._tenant is not None:
                stack.callback(self._leave, self._tenant)

    def _leave(self, tenant: Tenant) -> None:
        try:
            if self._report is not None:
                with self.dask.as_current():
                    self._report.__exit__(None, None, None)
        finally:
            if not in_process(self.dask):
                _drain_workers(self.dask)
            tenant.leave(for_good=self._owned)


class WorkerBackend:
    """The scheduler of the task that this code runs in.

    Parameters
    ----------
    place : Place
        Where we are.
    """

    def __init__(self, place: worker.Place) -> None:
        self.guide = place.shared.guide
        self.signposts = self.guide.signposts
        self.keeps_buffers = False
        self.profiled = place.shared.profiled
        self.plans = False
        # In this thread: only here does Dask know which worker it is.
        self.dask: DaskClient = distributed.get_client()
        self._tenant = Tenant(self.dask)

    def open(self, on_loss: OnLoss, first: Sequence[Submission], story: Story | None = None) -> None:
        """Do nothing: it is there, and losses are the flow's affair."""

    def bring(self, shared: worker.Shared) -> None:
        """Ship what task runs share to all workers, now and later; until :meth:`close`."""
        self._tenant.bring(shared)

    def submit(self, alike: Sequence[Submission]) -> list[DaskFuture]:
        """Hand task runs that are alike to the scheduler, as one graph."""
        one = alike[0]
        futures: list[DaskFuture] = self.dask.map(
            worker.run,
            *_columns(alike),
            key=[one.future.key for one in alike],
            resources=self.guide.resources(one.tag, one.future.name, one.capabilities),
            priority=one.priority,
            pure=False,
            retries=0,
        )
        return futures

    def close(self, status: RunStatus | None) -> None:
        """Take away what was brought; the scheduler goes on."""
        self._tenant.leave()


def groups_of(first: Sequence[Submission], session: ScalableSession) -> list[TaskGroup]:
    """Return what was submitted as groups of tasks, with those that each waits for.

    A group waits for those that were submitted before it only, so that none waits for itself.
    """
    counts: dict[str, int] = {}
    places: dict[str, str] = {}
    after: dict[str, dict[str, None]] = {}
    for one in first:
        name = one.future.name
        if name not in counts:
            places[name] = session.route(one.tag, name)
            after[name] = {}
        counts[name] = counts.get(name, 0) + 1
        order = list(counts)
        earlier = order[: order.index(name)]
        after[name].update(dict.fromkeys(up.name for up in one.upstreams if up.name in earlier))
    return [
        TaskGroup(name, places[name], count, after=tuple(after[name]), slots=session.threads(places[name]))
        for name, count in counts.items()
    ]


def _columns(alike: Sequence[Submission]) -> Iterable[tuple[Any, ...]]:
    """Return the arguments of :func:`scalable_prefect.worker.run`, one column each."""
    rows = (
        (
            one.payload,
            [upstream.argument() for upstream in one.upstreams],
            one.digest,
            list(one.held),
            one.future.retries,
        )
        for one in alike
    )
    return zip(*rows, strict=True)


def in_process(client: DaskClient) -> bool:
    """Return whether workers are threads of this process."""
    scheduler = client.scheduler
    return scheduler is not None and str(scheduler.address).startswith("inproc")


def _drain_workers(client: DaskClient) -> None:
    """Let worker processes send their last events and logs: nobody waits for them when they end."""

    def drain() -> None:
        with contextlib.suppress(Exception):  # a worker that just died has nothing to send
            client.run(worker.drain, on_error="ignore")

    thread = threading.Thread(target=drain, name="scalable-prefect-drain", daemon=True)
    thread.start()
    thread.join(_DRAIN_S)
