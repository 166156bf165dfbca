"""Pools of Slurm jobs by hand: for scripts that say themselves how many workers they want, and when."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ValidationError

from scalable.errors import Issue, ManifestInvalid, ScalableError, UnknownTag, did_you_mean
from scalable.manifest import Component
from scalable.pools.cluster import PoolCluster
from scalable.pools.pool import Pool
from scalable.pools.routing import Router
from scalable.pools.shape import PoolShape
from scalable.providers.batch.checks import check_batch
from scalable.providers.batch.provider import build_pools
from scalable.providers.options.batch import SlurmOptions
from scalable.settings import Settings
from scalable.spec import ComponentSpec, DeploymentSpec, ResourceRequest
from scalable.telemetry.facts import facts_of
from scalable.telemetry.probe import TaskProbe
from scalable.telemetry.recorder import Recorder, RunStatus, new_run_id

__all__ = ["SlurmCluster"]

logger = logging.getLogger(__name__)

_NO_LIMIT = 1_000_000
_Model = TypeVar("_Model", bound=BaseModel)


class SlurmCluster:
    """A scheduler in this process, and pools of Slurm jobs that grow and shrink when told to.

    The same pools as those of a ``provider: slurm`` target, without a manifest. Use it as
    a context manager, or close it: then every job is cancelled.

    Parameters
    ----------
    queue, account : str, optional
        Partition and account of the jobs.
    walltime : str or float, optional
        How long a job may run, such as ``"02:00:00"``; seconds if a number.
    interface : str, optional
        Network interface by which jobs reach this machine, such as ``"ib0"``.
    **options
        Any other option of ``provider: slurm``.

    Attributes
    ----------
    run_id : str
        Identifier of the run, which is also the name of its jobs.
    run_dir : Path or None
        Directory of its record; ``None`` without telemetry.

    Raises
    ------
    ManifestInvalid
        If an option is not what it must be.
    ProviderError
        If the scheduler cannot be started; nothing is left then.

    Examples
    --------
    >>> with SlurmCluster(queue="batch", account="GCIMS", walltime="04:00:00") as cluster:  # doctest: +SKIP
    ...     cluster.add_container(tag="demeter", cpus=10, memory="20G")
    ...     cluster.add_workers(n=5, tag="demeter")
    ...     client = ScalableClient(cluster)
    ...     results = client.gather(client.map(run_scenario, scenarios, tag="demeter"))
    """

    def __init__(
        self,
        queue: str | None = None,
        account: str | None = None,
        walltime: str | float | None = None,
        interface: str | None = None,
        **options: Any,
    ) -> None:
        given = {"queue": queue, "account": account, "walltime": walltime, "interface": interface, **options}
        model = _checked(SlurmOptions, "SlurmCluster", given)
        self._threads = model.threads_per_worker
        settings = Settings.from_environ()
        self.run_id = new_run_id("slurm-cluster")
        self.run_dir = settings.runs_dir / self.run_id if settings.telemetry else None
        self._spec = DeploymentSpec(
            project="slurm-cluster",
            target="SlurmCluster",
            provider="slurm",
            options=model,
            components={},
            tasks={},
            run_id=self.run_id,
            run_dir=self.run_dir,
        )
        self._components: dict[str, ComponentSpec] = {}
        self._before_close: list[Callable[[], None]] = []
        self._closed = False
        self.router = Router((), {})
        with contextlib.ExitStack() as undo:
            recorder = Recorder(self.run_dir)
            undo.callback(recorder.finish, "failed", {})
            recorder.start(facts_of(self._spec, self.run_id))
            self.pools: PoolCluster = build_pools(self._spec, (), model.max_workers or _NO_LIMIT)
            undo.callback(self.pools.close)
            self.pools.recorder = recorder
            self._probe = TaskProbe(recorder)
            self.pools.sync(self.pools.add_plugin, self._probe)
            self.pools.on_new_pool = self.router.add
            self.pools.longest_task_s = lambda pool: (0.0, self._probe.longest_s(pool))
            undo.pop_all()
        self._recorder = recorder
        atexit.register(self.close)

    @property
    def probe(self) -> TaskProbe | None:
        """What records tasks; ``None`` without telemetry."""
        return self._probe if self.run_dir is not None else None

    @property
    def scheduler_address(self) -> str:
        """Where workers and clients connect."""
        return self.pools.scheduler_address

    def before_close(self, callback: Callable[[], None]) -> None:
        """Call something before the pools are closed; clients ask for that."""
        self._before_close.append(callback)

    def add_container(
        self,
        tag: str,
        cpus: float = 1,
        memory: str | int | None = None,
        dirs: Mapping[str, str] | None = None,
        path: str | None = None,
        *,
        gpus: int = 0,
        env: Mapping[str, str] | None = None,
        tags: Sequence[str] = (),
        capabilities: Mapping[str, float] | None = None,
        preload_script: str | None = None,
    ) -> None:
        """Say what the workers with a tag are like; none is started yet.

        Parameters
        ----------
        tag : str
            What tasks ask for.
        cpus : float
            Cores of a worker.
        memory : str or int
            Its memory, such as ``"20G"``; bytes if a number. Slurm has to be told.
        dirs : mapping of str to str, optional
            Absolute path on the nodes to absolute path in the container.
        path : str, optional
            The container's image: a file, or a reference such as ``docker://...``; without
            it workers run on the node itself.
        gpus, env, tags, capabilities, preload_script
            As for a component of a manifest.

        Raises
        ------
        ManifestInvalid
            If a value is not what it must be, with all that is wrong.
        ScalableError
            If there is a pool for this tag already.
        """
        if tag in self._components:
            raise ScalableError(f"there is a container for tag '{tag}' already; a pool's workers are all alike")
        given = {
            "cpus": cpus,
            "memory": memory,
            "mounts": dict(dirs or {}),
            "image": path if path is None else os.fspath(path),
            "gpus": gpus,
            "env": dict(env or {}),
            "tags": tuple(tags),
            "capabilities": dict(capabilities or {}),
            "preload_script": preload_script,
        }
        model = _checked(Component, f"add_container('{tag}')", given)
        component = ComponentSpec(
            name=tag,
            resources=ResourceRequest(model.cpus, model.memory_bytes, model.gpus),
            image=model.image,
            mounts=dict(model.mounts),
            env=dict(model.env),
            tags=model.tags,
            capabilities=dict(model.capabilities),
            preload_script=model.preload_script,
        )
        report = check_batch(_with(self._spec, component))
        if not report.ok:
            raise ManifestInvalid(report.errors)
        for warning in report.warnings:
            logger.warning("%s", warning)
        self._components[tag] = component
        self.pools.sync(self._add_pool, PoolShape.of(component, self._threads))

    async def _add_pool(self, shape: PoolShape) -> None:
        self.pools.add_pool(shape)

    def add_workers(self, n: int = 1, tag: str | None = None) -> None:
        """Ask Slurm for more workers; returns when it has taken the jobs, which may wait in its queue.

        Parameters
        ----------
        n : int
            How many more.
        tag : str, optional
            Which; may be left out if there is one kind only.

        Raises
        ------
        UnknownTag
            If there is no container for the tag.
        SubmitFailed
            If Slurm refuses them, with its words.
        """
        self.pools.sync(self.pools.add_workers, self._pool(tag), _count(n), "add_workers")

    def remove_workers(self, n: int = 1, tag: str | None = None) -> None:
        """Let workers go: those that wait first, then idle ones; running tasks finish, results are kept.

        Returns at once; each job is cancelled when its worker has left.

        Raises
        ------
        UnknownTag
            If there is no container for the tag.
        ProviderError
            If there are not as many.
        """
        self.pools.sync(self.pools.add_workers, self._pool(tag), -_count(n), "remove_workers")

    def worker_count(self, tag: str | None = None) -> int:
        """Return how many workers with a tag are up."""
        return self._pool(tag).up

    def close(self, status: RunStatus = "completed") -> None:
        """Cancel every job and end the scheduler; harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        atexit.unregister(self.close)
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: self._recorder.finish(status, self._probe.counts))
            stack.callback(self.pools.close)
            stack.callback(self.pools.sync, self._settle)
            for callback in self._before_close:
                stack.callback(callback)

    async def _settle(self) -> None:
        self._probe.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.close("cancelled")
        else:
            self.close("completed" if error is None else "failed")

    def _pool(self, tag: str | None) -> Pool:
        if tag is None and len(self._components) == 1:
            tag = next(iter(self._components))
        if tag is None or tag not in self._components:
            raise UnknownTag(str(tag), self._components)
        return self.pools.pools[tag]


def _count(n: int) -> int:
    if n != int(n) or n < 1:
        raise ScalableError(f"a number of workers is a positive integer, not {n!r}")
    return n


def _with(spec: DeploymentSpec, component: ComponentSpec) -> DeploymentSpec:
    return DeploymentSpec(
        project=spec.project,
        target=spec.target,
        provider=spec.provider,
        options=spec.options,
        components={component.name: component},
        tasks={},
    )


def _checked(model: type[_Model], where: str, given: Mapping[str, Any]) -> _Model:
    """Return what was given as a model, with every mistake at once.

    Raises
    ------
    ManifestInvalid
        If it is not that.
    """
    try:
        return model.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        raise ManifestInvalid([_issue(one, where, model) for one in error.errors(include_url=False)]) from error


def _issue(one: Any, where: str, model: type[BaseModel]) -> Issue:
    name = ".".join(str(part) for part in one["loc"])
    if one["type"] == "extra_forbidden":
        known = [field.alias or key for key, field in model.model_fields.items()]
        return Issue("E_UNKNOWN_TARGET_KEY", f"{where}.{name}", "there is no such option", did_you_mean(name, known))
    context = one.get("ctx", {})
    code = one["type"] if one["type"].startswith("E_") else "E_BAD_VALUE"
    return Issue(code, f"{where}.{context.get('at') or name}", one["msg"], context.get("hint", ""))
