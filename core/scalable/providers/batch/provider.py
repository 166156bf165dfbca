"""The providers of batch systems: a scheduler here, and pools of jobs."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import psutil
from pydantic import BaseModel

from scalable.errors import MissingExtra, ProviderError, ProviderUnavailable, ValidationReport
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import WorkerAdapter, WorkerProcess
from scalable.pools.shape import PoolShape
from scalable.pricing import Rate
from scalable.providers.base import CostEstimate
from scalable.providers.batch.checks import check_batch
from scalable.providers.batch.command import call
from scalable.providers.batch.jobs import BatchWorker, Jobs, cancel_all
from scalable.providers.batch.script import Launch, TlsFiles
from scalable.providers.batch.security import copy_certificates
from scalable.providers.batch.systems import SYSTEMS, BatchSystem
from scalable.providers.batch.words import MIB
from scalable.providers.checks import remote_limits
from scalable.providers.opening import Listening, open_cluster
from scalable.providers.options.batch import (
    BatchOptions,
    HtcondorOptions,
    LsfOptions,
    OarOptions,
    PbsOptions,
    SgeOptions,
    SlurmOptions,
)
from scalable.providers.prices import estimate, rates_of
from scalable.spec import DeploymentSpec, Limits, ScalePlan
from scalable.telemetry.recorder import new_run_id

__all__ = [
    "HtcondorProvider",
    "LsfProvider",
    "OarProvider",
    "PbsProvider",
    "SgeProvider",
    "SlurmProvider",
    "build_pools",
]

logger = logging.getLogger(__name__)

_WATCHDOG = Path(__file__).with_name("watchdog.py")


class _BatchProvider:
    """What all batch systems have in common, which is all but their names."""

    name: ClassVar[str]
    options_model: ClassVar[type[BaseModel]]
    extra: ClassVar[str | None] = "slurm"

    def validate(self, spec: DeploymentSpec) -> ValidationReport:
        """Report what of a deployment the batch system cannot honour; it is not asked."""
        return check_batch(spec)

    def limits(self, spec: DeploymentSpec) -> Limits:
        """Return the bounds on the number of workers, all pools together."""
        return remote_limits(_options(spec))

    def shapes(self, spec: DeploymentSpec) -> tuple[PoolShape, ...]:
        """Return what the workers of each pool are like, in the manifest's order."""
        threads = _options(spec).threads_per_worker
        return tuple(PoolShape.of(component, threads) for component in spec.components.values())

    def build_cluster(self, spec: DeploymentSpec) -> PoolCluster:
        """Start a scheduler in this process, with empty pools; nothing is submitted yet.

        Raises
        ------
        ProviderError
            If it cannot listen as the target says.
        ProviderUnavailable
            If this machine does not have the batch system's commands.
        MissingExtra
            If dask-jobqueue is not installed.
        """
        return build_pools(spec, self.shapes(spec), self.limits(spec).maximum)

    def listening(self, spec: DeploymentSpec) -> Listening:
        """Return how a scheduler listens, so that jobs reach it.

        Raises
        ------
        ProviderError, ProviderUnavailable, MissingExtra
            As for :meth:`build_cluster`.
        """
        return _listening(spec)

    def open_adapter(self, spec: DeploymentSpec, tls: TlsFiles | None = None) -> WorkerAdapter:
        """Return what submits and cancels jobs, for a scheduler that may be elsewhere.

        Certificates below the directory that all nodes see are removed when it is closed;
        others are copied there.

        Raises
        ------
        ProviderError, ProviderUnavailable, MissingExtra
            As for :meth:`build_cluster`; nothing is left then.
        """
        return _open_adapter(spec, self.limits(spec).maximum, tls)

    def scale(self, cluster: PoolCluster, plan: ScalePlan) -> None:
        """Ask for as many jobs as the plan says; returns when the batch system has taken them.

        They may wait in its queue for hours after that, while tasks can be submitted.

        Raises
        ------
        SubmitFailed
            If it refuses them, with its words.
        """
        cluster.start_pools({tag: request.count for tag, request in plan.items()}, "plan")

    def close(self, cluster: PoolCluster) -> None:
        """Cancel every job and end the scheduler."""
        cluster.close()

    def estimate_cost(self, spec: DeploymentSpec, plan: ScalePlan) -> CostEstimate | None:
        """Return what a plan costs, by the manifest's ``price``; ``None`` without it."""
        return estimate(spec, plan)

    def rates(self, spec: DeploymentSpec) -> dict[str, Rate]:
        """Return what a worker of each pool costs, by the manifest's ``price``."""
        return rates_of(spec)


class SlurmProvider(_BatchProvider):
    """Jobs of a Slurm cluster."""

    name: ClassVar[str] = "slurm"
    options_model: ClassVar[type[BaseModel]] = SlurmOptions

    def memory_limit(self, spec: DeploymentSpec) -> int | None:
        """Return the bytes of the largest worker there can be; ``None`` if Slurm does not tell.

        A larger one would never start: Slurm is asked for its largest node.
        """
        options = _options(spec)
        where = [] if options.queue is None else ["-p", options.queue]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("SINFO_")}
        try:
            answer = call(["sinfo", "-h", "-N", "-o", "%m", *where], environment)
        except ProviderError as error:
            logger.info("how large the nodes are is not known: %s", error)
            return None
        sizes = [int(word) for word in answer.out.split() if word.isdecimal()] if answer.code == 0 else []
        largest = max(sizes, default=0)
        # Clusters that do not count memory say 1.
        return largest * MIB // options.workers_per_job if largest > 1 else None


class PbsProvider(_BatchProvider):
    """Jobs of PBS Professional or OpenPBS."""

    name: ClassVar[str] = "pbs"
    options_model: ClassVar[type[BaseModel]] = PbsOptions


class LsfProvider(_BatchProvider):
    """Jobs of IBM Spectrum LSF."""

    name: ClassVar[str] = "lsf"
    options_model: ClassVar[type[BaseModel]] = LsfOptions


class SgeProvider(_BatchProvider):
    """Jobs of the Grid Engine family."""

    name: ClassVar[str] = "sge"
    options_model: ClassVar[type[BaseModel]] = SgeOptions


class HtcondorProvider(_BatchProvider):
    """Jobs of HTCondor."""

    name: ClassVar[str] = "htcondor"
    options_model: ClassVar[type[BaseModel]] = HtcondorOptions


class OarProvider(_BatchProvider):
    """Jobs of OAR."""

    name: ClassVar[str] = "oar"
    options_model: ClassVar[type[BaseModel]] = OarOptions


def build_pools(spec: DeploymentSpec, shapes: Iterable[PoolShape], maximum: int) -> PoolCluster:
    """Start a scheduler in this process, with empty pools of batch jobs.

    Parameters
    ----------
    spec : DeploymentSpec
        Its provider is the batch system's name.
    shapes : iterable of PoolShape
        The pools.
    maximum : int
        Workers at any moment, all pools together.

    Raises
    ------
    ProviderError, MissingExtra
        As for :meth:`SlurmProvider.build_cluster`; nothing is left then.
    """
    spec = _with_run_id(spec)
    return open_cluster(spec, _listening(spec), shapes, partial(_open_adapter, spec, maximum))


def _with_run_id(spec: DeploymentSpec) -> DeploymentSpec:
    return spec if spec.run_id else replace(spec, run_id=new_run_id(spec.project))


def _listening(spec: DeploymentSpec) -> Listening:
    options = _options(spec)
    _require(SYSTEMS[spec.provider], spec)
    _check_interface(options)
    return Listening(
        "network",
        interface=options.interface,
        port=options.scheduler_port or 0,
        insecure=options.insecure,
        shared=_Place.of(_with_run_id(spec), options).shared,
    )


def _open_adapter(spec: DeploymentSpec, maximum: int, tls: TlsFiles | None) -> WorkerAdapter:
    spec = _with_run_id(spec)
    system, options = SYSTEMS[spec.provider], _options(spec)
    _require(system, spec)
    place = _Place.of(spec, options)
    if tls is not None and tls.directory.parent != place.shared:
        # The nodes see that directory, and perhaps no other.
        tls = copy_certificates(tls, place.shared)
    watchdog = None
    try:
        watchdog = _Watchdog(system, place.run_id, tls)
        _note(spec, system, place.run_id, tls)
        return _adapter(spec.target, maximum, _Parts(system, options, place, tls, watchdog))
    except BaseException:
        _clear(watchdog, tls)
        raise


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the files of a run lie.

    Attributes
    ----------
    shared : Path
        A directory that every node sees.
    logs : Path
        Of the jobs; with their scripts.
    """

    run_id: str
    shared: Path
    logs: Path

    @classmethod
    def of(cls, spec: DeploymentSpec, options: BatchOptions) -> _Place:
        run_id = spec.run_id
        own = (spec.run_dir or Path(".scalable") / "runs" / run_id).absolute()
        shared = own if options.shared_temp_directory is None else _path(options.shared_temp_directory)
        logs = own / "jobs" if options.log_directory is None else _path(options.log_directory) / run_id
        try:
            logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ProviderError(
                f"cannot make the directory {logs} for the jobs' logs: {error.strerror}; "
                "set log_directory to a folder that can be written"
            ) from error
        return cls(run_id, shared, logs)


@dataclass(frozen=True, slots=True)
class _Parts:
    system: BatchSystem
    options: BatchOptions
    place: _Place
    tls: TlsFiles | None
    watchdog: _Watchdog


def _adapter(target: str, maximum: int, parts: _Parts) -> WorkerAdapter:
    launch = Launch(parts.place.run_id, "", parts.place.logs, parts.tls)
    jobs = Jobs(parts.system, parts.options, launch, parts.watchdog.tell)

    def worker(shape: PoolShape, name: str, scheduler_address: str) -> WorkerProcess:
        return BatchWorker(jobs, shape, name, scheduler_address)

    def attach(cluster: PoolCluster) -> None:
        jobs.record = lambda record: cluster.recorder.append("jobs", record)

    def ended() -> None:
        if jobs.clean:
            _clear(parts.watchdog, parts.tls)
            return
        parts.watchdog.leave()
        run_id = parts.place.run_id
        logger.warning(
            "jobs of %s may be left; within half a minute they are cancelled once more from another process, "
            "and `scalable clean --run %s` does it again",
            run_id, run_id,
        )  # fmt: skip

    return WorkerAdapter(
        target,
        worker,
        maximum,
        parts.options.workers_per_job,
        attach=attach,
        before_close=jobs.stop,
        on_close=ended,
    )


class _Watchdog:
    """A process that ends the run's jobs if this one is killed."""

    def __init__(self, system: BatchSystem, run_id: str, tls: TlsFiles | None) -> None:
        everything = cancel_all(system, run_id)
        orders = {
            "cancel": [] if everything else list(system.cancel),
            "cancel_all": everything,
            "directory": None if tls is None else str(tls.directory),
        }
        self._by_id = not everything
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter, and a file of ours)
            [sys.executable, "-I", "-S", str(_WATCHDOG), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Its own, because Ctrl-C is not meant for it.
            start_new_session=True,
        )
        self._say(json.dumps(orders))

    def tell(self, ids: Sequence[str]) -> None:
        """Hand over the ids of new jobs."""
        if self._by_id:
            self._say("\n".join(ids))

    def release(self) -> None:
        """Say that there is nothing left to end; harmless when repeated."""
        if self._last_word("done"):
            self._process.wait()

    def leave(self) -> None:
        """Let it end all jobs, and remove the certificates, without waiting for that."""
        if self._last_word("end"):
            threading.Thread(target=self._process.wait, name="watchdog", daemon=True).start()

    def _last_word(self, word: str) -> bool:
        assert self._process.stdin is not None
        if self._process.stdin.closed:
            return False
        self._say(word)
        with _no_broken_pipe():
            self._process.stdin.close()
        return True

    def _say(self, text: str) -> None:
        assert self._process.stdin is not None
        with _no_broken_pipe():
            self._process.stdin.write(f"{text}\n".encode())
            self._process.stdin.flush()


class _no_broken_pipe:  # noqa: N801  (used like contextlib.suppress)
    """Say so, instead of failing, if somebody ended the watchdog."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is not None and issubclass(kind, OSError):
            logger.warning("the process that ends the jobs if this one is killed is gone; `scalable clean` does it too")
            return True
        return False


def _clear(watchdog: _Watchdog | None, tls: TlsFiles | None) -> None:
    if watchdog is not None:
        watchdog.release()
    if tls is not None:
        shutil.rmtree(tls.directory, ignore_errors=True)


def _note(spec: DeploymentSpec, system: BatchSystem, run_id: str, tls: TlsFiles | None) -> None:
    """Write down what `scalable clean` needs to know."""
    if spec.run_dir is not None:
        directory = None if tls is None else str(tls.directory)
        facts = {"system": system.name, "name": run_id, "tls_directory": directory}
        (spec.run_dir / "batch.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")


def _require(system: BatchSystem, spec: DeploymentSpec) -> None:
    if find_spec("dask_jobqueue") is None:
        raise MissingExtra(f"{system.title} jobs need dask-jobqueue: pip install 'scalable-workflows[slurm]'")
    missing = [command for command in (system.submit[0], system.cancel[0]) if shutil.which(command) is None]
    if missing:
        raise ProviderUnavailable(
            f"target '{spec.target}' submits jobs with `{missing[0]}`, which is not on this machine's PATH; "
            f"start it where {system.title}'s commands are, such as a login node"
        )


def _check_interface(options: BatchOptions) -> None:
    known = psutil.net_if_addrs()
    if options.interface is not None and options.interface not in known:
        raise ProviderError(
            f"this machine has no network interface '{options.interface}'; it has {', '.join(sorted(known))}"
        )


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _options(spec: DeploymentSpec) -> BatchOptions:
    assert isinstance(spec.options, BatchOptions)
    return spec.options
