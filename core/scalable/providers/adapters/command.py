"""An adapter as a process: opened, joined to a scheduler, and ended in order."""

from __future__ import annotations

import asyncio
import logging
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from distributed.utils import silence_logging_cmgr

from scalable.errors import ManifestInvalid
from scalable.providers import registry
from scalable.providers.adapters.join import check_address, join
from scalable.providers.batch.security import security_of
from scalable.providers.checks import elastic
from scalable.telemetry.recorder import new_run_id

if TYPE_CHECKING:
    from scalable.pools.pool import WorkerAdapter
    from scalable.pools.shape import PoolShape
    from scalable.providers.batch.script import TlsFiles
    from scalable.spec import DeploymentSpec

__all__ = ["serve"]


def serve(spec: DeploymentSpec, scheduler_address: str, tls: TlsFiles | None, *, insecure: bool = False) -> int:
    """Serve a scheduler with the workers of a target until it ends, or this process is told to.

    Parameters
    ----------
    spec : DeploymentSpec
        The target.
    scheduler_address : str
        Where to connect.
    tls : TlsFiles, optional
        The run's certificates.
    insecure : bool
        Whether to go to another machine without encryption.

    Returns
    -------
    int
        0.

    Raises
    ------
    ScalableError
        If the target cannot be opened, or the scheduler does not take it on.
    """
    check_address(scheduler_address, secure=tls is not None, insecure=insecure)
    provider = registry.get_adapter_provider(spec.provider)
    report = elastic(provider.validate(spec))
    if not report.ok:
        raise ManifestInvalid(report.errors)
    spec = replace(spec, run_id=new_run_id(spec.project))
    adapter = provider.open_adapter(spec, tls)
    try:
        with silence_logging_cmgr(logging.WARNING):
            print(asyncio.run(_serve(adapter, provider.shapes(spec), scheduler_address, tls)), flush=True)  # noqa: T201
    finally:
        adapter.on_close()
    return 0


async def _serve(
    adapter: WorkerAdapter, shapes: tuple[PoolShape, ...], scheduler_address: str, tls: TlsFiles | None
) -> str:
    leave = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, leave.set)

    def joined() -> None:
        pools = ", ".join(shape.at(adapter.name).name for shape in shapes)
        most = "any number of workers" if adapter.limit is None else f"at most {adapter.limit} workers"
        print(f"adapter '{adapter.name}' serves {scheduler_address}: {pools}; {most}", flush=True)  # noqa: T201

    security = None if tls is None else security_of(tls)
    why = await join(adapter, shapes, scheduler_address, security, leave=leave, joined=joined)
    return f"adapter '{adapter.name}' has ended: {why}"
