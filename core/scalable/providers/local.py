"""The local provider: pools on this machine, as threads of this process or as processes of their own."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from distributed import Nanny, Worker
from distributed.comm.addressing import get_address_host_port
from distributed.core import Status
from distributed.system import MEMORY_LIMIT
from distributed.utils import get_ip

from scalable.errors import MissingExtra, ProviderError, ValidationReport
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import WorkerAdapter, WorkerProcess
from scalable.pools.shape import PoolShape, base_of
from scalable.pricing import Rate
from scalable.providers.base import CostEstimate
from scalable.providers.batch.security import security_of
from scalable.providers.checks import check_local, local_limits
from scalable.providers.environment import thread_environment
from scalable.providers.opening import LOOPBACK, Listening, open_cluster
from scalable.providers.options.local import LocalOptions
from scalable.providers.prices import estimate, rates_of
from scalable.spec import ComponentSpec, DeploymentSpec, Limits, ScalePlan

if TYPE_CHECKING:
    from scalable.providers.batch.script import TlsFiles

__all__ = ["LocalProvider"]

# Without a dashboard Dask would still serve much of it by HTTP, to every user of this machine.
_NO_PAGES: Mapping[str, Any] = {"distributed.worker.http.routes": []}

# Dask sets these in this process for the worker processes to inherit.
_SET_BY_DASK = (
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "__DASK_PARENT_PID",
)


class LocalProvider:
    """Workers on this machine; everything it opens listens on the loopback interface only."""

    name: ClassVar[str] = "local"
    extra: ClassVar[str | None] = None
    options_model: ClassVar[type[LocalOptions]] = LocalOptions

    def validate(self, spec: DeploymentSpec) -> ValidationReport:
        """Report what of a deployment cannot be honoured on this machine."""
        return check_local(spec)

    def limits(self, spec: DeploymentSpec) -> Limits:
        """Return the bounds on the number of workers, all pools together."""
        return local_limits(self._options(spec))

    def memory_limit(self, spec: DeploymentSpec) -> int:
        """Return the bytes of the largest worker there can be: all that this process may use of the machine."""
        return int(MEMORY_LIMIT)

    def shapes(self, spec: DeploymentSpec) -> tuple[PoolShape, ...]:
        """Return what the workers of each pool are like, in the manifest's order."""
        threads = self._options(spec).threads_per_worker
        return tuple(PoolShape.of(component, threads) for component in spec.components.values())

    def build_cluster(self, spec: DeploymentSpec) -> PoolCluster:
        """Start a scheduler with empty pools.

        Raises
        ------
        ProviderError
            If it does not start.
        MissingExtra
            If a dashboard is wanted and bokeh is not installed.
        """
        open_adapter = partial(self.open_adapter, spec)
        return open_cluster(spec, self.listening(spec), self.shapes(spec), open_adapter)

    def listening(self, spec: DeploymentSpec) -> Listening:
        """Return how a scheduler listens for these workers.

        Raises
        ------
        MissingExtra
            If a dashboard is wanted and bokeh is not installed.
        """
        options = self._options(spec)
        if options.dashboard and find_spec("bokeh") is None:
            raise MissingExtra("Dask's dashboard needs bokeh: pip install 'scalable-workflows[dashboard]'")
        return Listening("machine" if options.processes else "process", dashboard=options.dashboard)

    def open_adapter(self, spec: DeploymentSpec, tls: TlsFiles | None = None) -> WorkerAdapter:
        """Return what starts and stops workers on this machine, for a scheduler that may be on another.

        Raises
        ------
        ProviderError
            If a component's shell script fails.
        """
        options = self._options(spec)
        environments = {
            name: _environment(component, PoolShape.of(component, options.threads_per_worker).threads)
            for name, component in spec.components.items()
            if options.processes
        }
        security = None if tls is None else security_of(tls)
        scratch = Path(tempfile.mkdtemp(prefix="scalable-"))
        before = {name: os.environ.get(name) for name in _SET_BY_DASK}

        def put_back() -> None:
            shutil.rmtree(scratch, ignore_errors=True)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

        def worker(shape: PoolShape, name: str, scheduler_address: str) -> WorkerProcess:
            common: dict[str, Any] = {
                "name": name,
                "nthreads": shape.threads,
                "resources": dict(shape.labels),
                "local_directory": str(scratch),
                "preload": _preloads(shape.component),
                "silence_logs": logging.WARNING,
                "dashboard": False,
                # Dask's workers serve HTTP even without a dashboard, on all interfaces unless told where.
                "dashboard_address": f"{LOOPBACK}:0",
                "host": _own_address(scheduler_address),
                "security": security,
            }
            if not options.processes:
                made: WorkerProcess = _Threads(scheduler_address, **common)
            else:
                made = Nanny(
                    scheduler_address,
                    memory_limit=shape.component.resources.memory_bytes or 0,
                    env=environments[base_of(shape.name)],
                    worker_port=0,
                    config=dict(_NO_PAGES),
                    preload_nanny=["scalable.pools.nanny_setup"],
                    **common,
                )
            return made

        return WorkerAdapter(spec.target, worker, self.limits(spec).maximum, on_close=put_back)

    def scale(self, cluster: PoolCluster, plan: ScalePlan) -> None:
        """Make the pools as large as the plan says; returns when each has its first worker."""
        cluster.start_pools({tag: request.count for tag, request in plan.items()}, "plan")

    def close(self, cluster: PoolCluster) -> None:
        """End every worker and the scheduler."""
        cluster.close()

    def estimate_cost(self, spec: DeploymentSpec, plan: ScalePlan) -> CostEstimate | None:
        """Return what a plan costs: nothing, unless the manifest has a ``price`` for this machine."""
        return estimate(spec, plan)

    def rates(self, spec: DeploymentSpec) -> dict[str, Rate]:
        """Return what a worker of each pool costs: nothing, unless the manifest has a ``price``."""
        return rates_of(spec)

    @staticmethod
    def _options(spec: DeploymentSpec) -> LocalOptions:
        assert isinstance(spec.options, LocalOptions)
        return spec.options


class _QuietWorker(Worker):
    """A worker of this process, whose configuration is not for it alone."""

    def start_http_server(self, routes: Any, *args: Any, **options: Any) -> None:
        """Serve no pages."""
        super().start_http_server([], *args, **options)  # type: ignore[no-untyped-call]

    def handle_worker_status_change(self, status: str, stimulus_id: str) -> None:
        """Take on a status from the scheduler, unless it comes when this worker has begun to close.

        One that has nothing to hand over closes before it hears that it is to begin nothing
        more; Dask would call that an error.
        """
        if self.status not in {Status.closing, Status.closed}:
            super().handle_worker_status_change(status, stimulus_id)


class _Threads:
    """A worker as threads of this process."""

    def __init__(self, scheduler_address: str, **options: Any) -> None:
        self._worker: Worker = _QuietWorker(scheduler_address, memory_limit=0, **options)

    def __await__(self) -> Generator[Any, Any, Any]:
        yield from self._worker.__await__()

    async def close(self) -> None:
        """Close without waiting for tasks that still run: nothing can stop a thread."""
        await self._worker.close(executor_wait=False)


def _own_address(scheduler_address: str) -> str | None:
    """Return the address under which a scheduler, and whoever else reaches it, reaches this machine."""
    if scheduler_address.startswith("inproc://"):
        return None
    host, port = get_address_host_port(scheduler_address)
    return str(get_ip(host, port))


def _preloads(component: ComponentSpec) -> list[str]:
    script = component.preload_script
    own = [] if script is None or script.endswith(".sh") else [script]
    return ["scalable.pools.worker_setup", "scalable.pools.local_setup", *own]


def _environment(component: ComponentSpec, threads: int) -> Mapping[str, str]:
    """Return what a worker process has in its environment besides this process's own."""
    environment = thread_environment(component, threads)
    script = component.preload_script
    if script is not None and script.endswith(".sh"):
        environment |= _sourced(Path(script))
    return environment | dict(component.env)


def _sourced(script: Path) -> dict[str, str]:
    """Return what a shell script adds to the environment or changes in it."""
    command = 'set -e; . "$1" >&2; env -0'
    done = subprocess.run(  # noqa: S603  (the user's own script, named in the user's manifest)
        ["/bin/bash", "-c", command, "bash", str(script.resolve())], capture_output=True, check=False
    )
    if done.returncode != 0:
        raise ProviderError(
            f"preload_script {script} exited with {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
        )
    pairs = (entry.partition(b"=") for entry in done.stdout.split(b"\0") if entry)
    found = {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}
    return {
        name: value for name, value in found.items() if os.environ.get(name) != value and name not in {"_", "SHLVL"}
    }
