"""Starting a scheduler in this process: where it listens, and with which certificates."""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import dask

from scalable.errors import ProviderError
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import WorkerAdapter
from scalable.pools.shape import PoolShape
from scalable.providers.adapters.accept import accept_adapters
from scalable.providers.batch.security import make_certificates, security_of
from scalable.spec import DeploymentSpec

if TYPE_CHECKING:
    from scalable.providers.batch.script import TlsFiles

__all__ = ["LOOPBACK", "Listening", "Reach", "open_cluster"]

LOOPBACK: Final = "127.0.0.1"

Reach = Literal["process", "machine", "network"]
_REACHES: Final[tuple[Reach, ...]] = ("process", "machine", "network")
_DASHBOARD_PORT: Final = 8787


@dataclass(frozen=True, slots=True)
class Listening:
    """How a scheduler listens, so that the workers of a target reach it.

    Attributes
    ----------
    reach : {"process", "machine", "network"}
        Who reaches it: threads of this process, processes of this machine by the loopback
        interface, or other machines.
    interface : str or None
        Of the network, such as ``ib0``; all of them by default.
    port : int
        0 for any that is free.
    insecure : bool
        Whether connections of the network go without encryption and without a certificate.
    shared : Path or None
        A directory that the other machines see, for the certificates.
    dashboard : bool
        Whether Dask's dashboard is served, on the loopback interface.
    """

    reach: Reach
    interface: str | None = None
    port: int = 0
    insecure: bool = False
    shared: Path | None = None
    dashboard: bool = False

    def beside(self, other: Listening) -> Listening:
        """Return how a scheduler listens for the workers of another target as well."""
        first, second = self, other
        if first.reach != "network":
            first, second = second, first
        return replace(
            first,
            reach=max("machine", first.reach, second.reach, key=_REACHES.index),
            insecure=first.insecure and (second.insecure or second.reach != "network"),
            shared=first.shared or second.shared,
            dashboard=first.dashboard or second.dashboard,
        )


def open_cluster(
    spec: DeploymentSpec,
    listening: Listening,
    shapes: Iterable[PoolShape],
    open_adapter: Callable[[TlsFiles | None], WorkerAdapter],
) -> PoolCluster:
    """Start a scheduler in this process, with empty pools.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run; in its run's directory ``scheduler.json`` tells others how to reach
        the scheduler, where they can.
    listening : Listening
        How it listens.
    shapes : iterable of PoolShape
        The pools of the target.
    open_adapter : callable
        Given the run's certificates, returns what starts and stops their workers, and removes
        the certificates when it is closed.

    Raises
    ------
    ProviderError
        If it cannot listen so, or the adapter cannot be opened; nothing of it is left then.
    """
    with contextlib.ExitStack() as undo:
        tls = None
        if listening.reach == "network" and not listening.insecure:
            assert listening.shared is not None
            tls = make_certificates(listening.shared)
            undo.callback(shutil.rmtree, tls.directory, ignore_errors=True)
        adapter = open_adapter(tls)
        undo.pop_all()
        cluster = _started(listening, shapes, adapter, tls)
        undo.callback(cluster.close)
        adapter.attach(cluster)
        cluster.sync(accept_adapters, cluster)
        if listening.reach == "network" and spec.run_dir is not None:
            _tell(spec.run_dir / "scheduler.json", cluster.scheduler_address, tls)
        undo.pop_all()
    return cluster


def _started(
    listening: Listening,
    shapes: Iterable[PoolShape],
    adapter: WorkerAdapter,
    tls: TlsFiles | None,
) -> PoolCluster:
    try:
        # Without its dashboard Dask would still serve much of it by HTTP, to every user of this machine.
        with dask.config.set({} if listening.dashboard else {"distributed.scheduler.http.routes": []}):
            return PoolCluster(
                shapes,
                adapter.factory,
                scheduler_options=_scheduler_options(listening, secure=tls is not None),
                maximum=adapter.limit,
                security=None if tls is None else security_of(tls),
                group_size=adapter.group_size,
                before_close=adapter.before_close,
                on_close=adapter.on_close,
                adapter=adapter.name,
            )
    except BaseException as error:
        adapter.on_close()
        if listening.port and any(getattr(cause, "errno", None) == errno.EADDRINUSE for cause in _causes(error)):
            raise ProviderError(
                f"port {listening.port} of this machine is taken; "
                "choose another scheduler_port, or leave it out to have any that is free"
            ) from error
        raise


def _scheduler_options(listening: Listening, *, secure: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "protocol": "inproc://" if listening.reach == "process" else "tls://" if secure else "tcp://",
        "port": listening.port,
        "dashboard": listening.dashboard,
        "dashboard_address": f"{LOOPBACK}:{_DASHBOARD_PORT if listening.dashboard else 0}",
    }
    if listening.reach == "network":
        return {**options, "interface": listening.interface}
    return {**options, "host": LOOPBACK if listening.reach == "machine" else None}


def _tell(path: Path, address: str, tls: TlsFiles | None) -> None:
    files = {} if tls is None else {"tls_ca": str(tls.ca), "tls_cert": str(tls.cert), "tls_key": str(tls.key)}
    path.write_text(json.dumps({"address": address, **files}, indent=1) + "\n", encoding="utf-8")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield what led to an error, one after the other."""
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__
