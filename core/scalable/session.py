"""The session: from a manifest to a client and back to nothing; the one module that knows all the rooms."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from scalable.errors import ManifestInvalid, PlanError, ProviderError, ScalableError, ValidationReport
from scalable.manifest import load
from scalable.planning import Advice, Bounds, Plan, make_plan
from scalable.planning.foresee import foresee
from scalable.pools.shape import base_of
from scalable.providers import registry
from scalable.providers.prices import provider_rates
from scalable.scaling.check import check_scaling
from scalable.settings import Settings
from scalable.spec import DeploymentSpec, resolve
from scalable.telemetry.facts import facts_of
from scalable.telemetry.history import list_runs
from scalable.telemetry.recorder import Recorder, RunStatus, new_run_id

if TYPE_CHECKING:
    from scalable.client import ScalableClient
    from scalable.planning import TaskGroup
    from scalable.planning.counsel import Counsel, Guide
    from scalable.pools.cluster import PoolCluster
    from scalable.pools.routing import Router
    from scalable.pricing import Rate
    from scalable.providers.base import DeploymentProvider
    from scalable.scaling.controller import Controller
    from scalable.telemetry.past import Past
    from scalable.telemetry.probe import TaskProbe

__all__ = ["ScalableSession", "TagProgress"]

logger = logging.getLogger(__name__)

_STATUSES = get_args(RunStatus)


class ScalableSession:
    """One run of a manifest on one target.

    Usually made by :meth:`from_yaml` and used as a context manager, which closes the run
    whatever happens.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run.
    settings : Settings, optional
        Default: from the environment.
    warnings : ValidationReport, optional
        What reading the manifest warned of.
    advise : bool, optional
        Whether to take the advice of past runs; default is what the manifest says.

    Attributes
    ----------
    run_id : str
        Identifier of the run; empty before :meth:`start`.
    run_dir : Path or None
        Its directory; ``None`` before :meth:`start` and without telemetry.
    current_plan : Plan or None
        What the run was started with; ``None`` before :meth:`start`.

    Examples
    --------
    >>> with ScalableSession.from_yaml("scalable.yaml", target="local") as session:  # doctest: +SKIP
    ...     client = session.start()
    ...     print(client.gather(client.map(abs, [-1, 2], tag="simulate")))
    [1, 2]
    """

    def __init__(
        self,
        spec: DeploymentSpec,
        *,
        settings: Settings | None = None,
        warnings: ValidationReport | None = None,
        advise: bool | None = None,
    ) -> None:
        self.spec = spec
        self.run_id = ""
        self.run_dir: Path | None = None
        self.current_plan: Plan | None = None
        self._settings = settings or Settings.from_environ()
        self._warnings = warnings or ValidationReport()
        self._provider = registry.get_provider(spec.provider)
        self._advise = spec.advise if advise is None else advise
        self._counsel: Counsel | None = None
        self._advice: Advice | None = None
        self._router: Router | None = None
        self._run: _Run | None = None
        self._listeners: list[Callable[[str, Mapping[str, Any]], None]] = []

    @classmethod
    def from_yaml(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        target: str | None = None,
        objectives: Mapping[str, float] | None = None,
        overlay: str | os.PathLike[str] | None = None,
        advise: bool | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        """Read a manifest.

        Parameters
        ----------
        path : path, optional
            The manifest; default is ``SCALABLE_MANIFEST``, or ``scalable.yaml`` here.
        target : str, optional
            Name of the target; default is ``SCALABLE_TARGET``, or the manifest's only one.
        objectives : mapping, optional
            ``budget_usd`` (US dollars) and ``deadline_hours``; they go before the manifest's.
        overlay : str, optional
            Name of an overlay, or a file that holds one (``.yaml``, ``.yml``), in place of the
            one that the target names.
        advise : bool, optional
            Whether memory, durations and walltime are those that past runs in the folder of
            runs advise; default is what the manifest's ``advise`` says.
        environ : mapping, optional
            Values of the manifest's variables; default is the process's environment.

        Raises
        ------
        ManifestError
            If the manifest cannot be used, with all that is wrong with it.
        """
        return cls._read(
            path, None, target=target, objectives=objectives, overlay=overlay, advise=advise, environ=environ
        )

    @classmethod
    def targets(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        text: str | None = None,
    ) -> tuple[str, ...]:
        """Return the names of a manifest's targets, in its order.

        Parameters
        ----------
        path, environ
            As for :meth:`from_yaml`.
        text : str, optional
            What it says, where it is no file; ``path`` is then its name in messages.

        Raises
        ------
        ManifestError
            If the manifest cannot be used.
        """
        where = Settings.from_environ().manifest if path is None else path
        return tuple(load(where, text=text, catalogue=registry.catalogue, environ=environ).targets)

    @classmethod
    def from_text(
        cls,
        text: str,
        *,
        name: str = "scalable.yaml",
        target: str | None = None,
        objectives: Mapping[str, float] | None = None,
        overlay: str | os.PathLike[str] | None = None,
        advise: bool | None = None,
    ) -> Self:
        """Read a manifest that is no file, as :meth:`from_yaml` reads one.

        Parameters
        ----------
        text : str
            What it says.
        name : str
            What messages call it.
        target, objectives, overlay, advise
            As for :meth:`from_yaml`.

        Raises
        ------
        ManifestError
            If the manifest cannot be used, with all that is wrong with it.
        """
        return cls._read(name, text, target=target, objectives=objectives, overlay=overlay, advise=advise)

    @classmethod
    def _read(
        cls,
        path: str | os.PathLike[str] | None,
        text: str | None,
        *,
        target: str | None,
        objectives: Mapping[str, float] | None,
        overlay: str | os.PathLike[str] | None,
        advise: bool | None,
        environ: Mapping[str, str] | None = None,
    ) -> Self:
        settings = Settings.from_environ()
        manifest = load(
            settings.manifest if path is None else path,
            text=text,
            target=target or settings.target,
            overlay=None if overlay is None else os.fspath(overlay),
            catalogue=registry.catalogue,
            environ=environ,
            single_target=True,
            objectives=objectives,
        )
        return cls(resolve(manifest), settings=settings, warnings=ValidationReport(manifest.warnings), advise=advise)

    def validate(self) -> ValidationReport:
        """Return what the manifest's reader and the provider have to say; nothing is started."""
        return ValidationReport(
            (*self._warnings.issues, *self._provider.validate(self.spec).issues, *check_scaling(self.spec))
        )

    def plan(
        self,
        *,
        dry_run: bool = False,
        objective: str | None = None,
        policy: str | None = None,
        tasks: Iterable[TaskGroup] | None = None,
        partial: bool = False,
    ) -> Plan:
        """Return what would be asked of the provider, and what is expected of it.

        Without objective and policy these are the manifest's numbers, unless the manifest has
        ``objectives`` and nothing of its tasks is a guess.

        Parameters
        ----------
        dry_run : bool
            Kept for callers that say so; planning never starts anything.
        objective : {"minimize cost", "minimize time", "balance"}, optional
            What to aim at, within the bounds that ``objectives`` set.
        policy : {"safe", "aggressive", "manual"}, optional
            With headroom, by medians, or as the manifest says.
        tasks : iterable of TaskGroup, optional
            What is known to run, in place of the manifest's tasks.
        partial : bool
            Whether these are only some of what is to run: then the manifest and the latest run
            tell of the others.

        Raises
        ------
        PlanError
            If there is no such plan; :exc:`~scalable.errors.Infeasible` says which limit binds.
        ManifestInvalid
            If what the target says of ``scaling`` cannot be.
        """
        del dry_run
        if wrong := check_scaling(self.spec):
            raise ManifestInvalid(wrong)
        return self._make_plan(self._past(), objective, policy, tasks, partial=partial)

    def _plan_to_start(self) -> Plan:
        """Return the plan of a run that nobody planned; past runs are only read where bounds size its pools."""
        bounds = self.spec.objectives
        bounded = bounds.budget_usd is not None or bounds.deadline_hours is not None
        return self._make_plan(self._past() if bounded else None)

    def _make_plan(
        self,
        past: Past | None,
        objective: str | None = None,
        policy: str | None = None,
        tasks: Iterable[TaskGroup] | None = None,
        *,
        partial: bool = False,
    ) -> Plan:
        limits = self._provider.limits(self.spec)
        advice = self._take_advice()
        foresight = foresee(
            advice.spec,
            limits.maximum,
            past=past,
            rates=provider_rates(self._provider, advice.spec),
            threads={shape.name: shape.threads for shape in self._provider.shapes(advice.spec)},
            tasks=tasks,
            partial=partial,
        )
        return make_plan(
            advice.spec,
            limits,
            objective=objective,
            policy=policy,
            advice=advice if self._advise else None,
            foresight=foresight,
        )

    def _past(self) -> Past | None:
        """Return what past runs measured; ``None`` if there are none that can be read."""
        from scalable.telemetry.past import read_past  # noqa: PLC0415  (DuckDB is only for those who look back)

        try:
            return read_past(self._settings.runs_dir) if list_runs(self._settings.runs_dir) else None
        except ScalableError as error:
            logger.warning("past runs are not looked at: %s", error)
            return None

    def _take_advice(self) -> Advice:
        """Return what is to run, with what past runs advise; asked once, so that the plan and the run agree."""
        if self._advice is None:
            advice = self._ask() if self._advise else Advice(self.spec)
            if advice.spec is not self.spec and not self._provider.validate(advice.spec).ok:
                # Whatever it was: nobody asked for a run that cannot be.
                note = "what past runs advise is not possible on this target; the manifest's numbers hold"
                advice = Advice(self.spec, advice.tasks, (note,))
            self._advice = advice
        return self._advice

    def _ask(self) -> Advice:
        from scalable.planning.counsel import Counsel  # noqa: PLC0415  (only with advice)

        memory_limit = getattr(self._provider, "memory_limit", None)
        bounds = Bounds(
            {shape.name: shape.threads for shape in self._provider.shapes(self.spec)},
            None if memory_limit is None else memory_limit(self.spec),
            self._provider.limits(self.spec).maximum,
        )
        self._counsel = Counsel(self._settings.runs_dir, bounds)
        return self._counsel.advice(self.spec)

    def route(self, tag: str | None = None, task: str | None = None) -> str:
        """Return the pool to which a task goes.

        Parameters
        ----------
        tag : str, optional
            What the task asks for.
        task : str, optional
            Its name, which decides where no tag is given and the manifest has it.

        Raises
        ------
        UnknownTag
            If no pool of the target serves it.
        """
        return self.router.route(tag, task).pools[0]

    def threads(self, pool: str) -> int:
        """Return how many tasks a worker of a pool runs at a time.

        Raises
        ------
        KeyError
            If there is no such pool.
        """
        return {shape.name: shape.threads for shape in self._provider.shapes(self.spec)}[pool]

    @property
    def router(self) -> Router:
        """Which task goes where."""
        if self._router is None:
            from scalable.pools.routing import Router  # noqa: PLC0415  (a plan needs no pools)

            spec = self._take_advice().spec
            self._router = Router(self._provider.shapes(spec), spec.tasks)
        return self._router

    @property
    def client(self) -> ScalableClient:
        """The client of the run.

        Raises
        ------
        ScalableError
            If the run is not under way.
        """
        if self._run is None:
            raise ScalableError("the session is not started; call session.start() first")
        return self._run.client

    def start(self, plan: Plan | None = None) -> ScalableClient:
        """Start the run: scheduler, pools, telemetry; return when each planned pool has a worker.

        Parameters
        ----------
        plan : Plan, optional
            Default: :meth:`plan`, without a look at past runs unless bounds ask for one.

        Raises
        ------
        ScalableError
            If it cannot be started; nothing of it is left then.
        """
        if self._run is not None:
            return self._run.client
        _refuse_import_of_main()
        report = self.validate()
        if not report.ok:
            raise ManifestInvalid(report.errors)
        for warning in report.warnings:
            logger.warning("%s", warning)
        plan = plan or self._plan_to_start()
        plan.check(self.spec, self._provider.limits(self.spec))
        fitted = plan.fitted(self._take_advice().spec)
        _refuse_impossible(self._provider.validate(fitted))
        self.run_id = new_run_id(self.spec.project)
        self.run_dir = self._settings.runs_dir / self.run_id if self._settings.telemetry else None
        with contextlib.ExitStack() as undo:
            recorder = Recorder(self.run_dir)
            recorder.listeners = self._listeners
            undo.push(lambda _kind, error, _trace: recorder.finish(_status_of(error), {}))
            self._write_facts(recorder, plan)
            spec = fitted
            cluster = self._provider.build_cluster(replace(spec, run_id=self.run_id, run_dir=self.run_dir))
            undo.callback(self._provider.close, cluster)
            cluster.recorder = recorder
            run = _Run(
                self._provider,
                cluster,
                recorder,
                router=self.router,
                spec=spec,
                plan=plan,
                rates=provider_rates(self._provider, spec),
                runs_dir=self._settings.runs_dir,
            )
            undo.callback(run.client.close)
            if self._counsel is not None:
                run.follow(self._counsel.guide(spec, self.run_id))
                undo.callback(run.leave)
            self._provider.scale(cluster, plan.scale_plan)
            run.controller.start()
            undo.pop_all()
        self._run = run
        self.current_plan = plan
        atexit.register(self._close_at_exit)
        return run.client

    def _write_facts(self, recorder: Recorder, plan: Plan) -> None:
        recorder.start(facts_of(self.spec, self.run_id))
        recorder.write_json("plan.json", plan.to_json())
        recorder.write("manifest.yaml", self.spec.manifest_text)

    def progress(self) -> tuple[TagProgress, ...]:
        """Return how far the run is, by tag; empty when it is not under way."""
        return () if self._run is None else self._run.progress()

    def listen(self, listener: Callable[[str, Mapping[str, Any]], None]) -> Callable[[], None]:
        """Hear of everything that the run records, as it happens, also where telemetry is off.

        Parameters
        ----------
        listener : callable
            Given the name of the file without its ending, such as ``"scaling"`` or
            ``"workers"``, and the record (the reference of telemetry has their fields). It is
            called in the thread that made the record, often the scheduler's: it must return
            at once and raise nothing.

        Returns
        -------
        callable
            Ends it; to be called once.
        """
        self._listeners.append(listener)
        return functools.partial(self._listeners.remove, listener)

    def record_artifact(self, name: str, path: str | os.PathLike[str], kind: str = "file", **attributes: Any) -> None:
        """Note a file that the run made.

        Parameters
        ----------
        name : str
            What it is called in reports.
        path : path
            Where it lies.
        kind : str
            ``"file"``, ``"dir"``, or what fits.
        **attributes
            Further facts, as JSON.
        """
        if self._run is None:
            raise ScalableError("the session is not started; an artifact belongs to a run")
        self._run.recorder.append(
            "artifacts", {"at": time.time(), "name": name, "path": str(path), "kind": kind, **attributes}
        )

    def close(self, status: RunStatus | None = None) -> None:
        """End the run: workers, scheduler, telemetry; harmless when repeated.

        Parameters
        ----------
        status : {"completed", "failed", "cancelled"}, optional
            How it ended; default is ``"completed"``.
        """
        if status is not None and status not in _STATUSES:
            raise ScalableError(f"a run ends as one of {', '.join(_STATUSES)}, not '{status}'")
        run, self._run = self._run, None
        if run is not None:
            atexit.unregister(self._close_at_exit)
            run.close(status or "completed")

    def _close_at_exit(self) -> None:
        # The interpreter leaves the exception that ended the script here.
        self.close(_status_of(getattr(sys, "last_value", None)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(_status_of(error))


@dataclass(frozen=True, slots=True)
class TagProgress:
    """How far the tasks with one tag are.

    Attributes
    ----------
    blocked, queued, running, done, failed : int
        Tasks: waiting for others, waiting for a worker, under way, completed, and failed
        or cancelled.
    workers : int
        Workers that are up and serve the tag.
    waiting : str
        What workers that were asked for wait for, where that is known, such as
        ``'3 PENDING (Resources)'``.
    """

    tag: str
    blocked: int
    queued: int
    running: int
    done: int
    failed: int
    workers: int
    waiting: str = ""


class _Run:
    """What is open while a run is under way."""

    def __init__(
        self,
        provider: DeploymentProvider,
        cluster: PoolCluster,
        recorder: Recorder,
        *,
        router: Router,
        spec: DeploymentSpec,
        plan: Plan,
        rates: Mapping[str, Rate],
        runs_dir: Path,
    ) -> None:
        from scalable.client import ScalableClient  # noqa: PLC0415  (Dask is not needed to validate or plan)
        from scalable.pricing import Meter  # noqa: PLC0415
        from scalable.scaling.begin import controller_of  # noqa: PLC0415
        from scalable.telemetry.probe import TaskProbe  # noqa: PLC0415

        self.provider = provider
        self.cluster = cluster
        self.router = router
        self.recorder = recorder
        self.probe: TaskProbe = TaskProbe(recorder)
        cluster.sync(cluster.add_plugin, self.probe)
        telemetry = recorder.directory is not None
        self.client = ScalableClient(cluster, router, spec.tasks, self.probe if telemetry else None)
        cluster.demand_counter.size_of = self.probe.size_of
        self.meter = Meter(rates)
        self.meter.record_prices(
            recorder, {name: one.shape.component.resources.cpus for name, one in cluster.pools.items()}
        )
        self.controller: Controller = controller_of(
            cluster, router, spec, plan, recorder, rates=rates, meter=self.meter, runs_dir=runs_dir
        )
        cluster.on_worker = self.meter.take
        self._tasks = spec.tasks
        self._guide: Guide | None = None
        cluster.on_new_pool = router.add
        cluster.memory_step = self._memory_step
        cluster.longest_task_s = self._longest_task_s

    def follow(self, guide: Guide) -> None:
        """Take advice while the run is under way, and tell of what ends."""
        self._guide = guide
        self.probe.on_attempt = guide.take

    def leave(self) -> None:
        """Take no more advice."""
        if self._guide is not None:
            self._guide.close()

    def _memory_step(self, key: Any, failed_bytes: int) -> int | None:
        submission = self.probe.submission_of(key)
        if submission is None:
            return None
        task = self._tasks.get(submission.name)
        said = None if task is None else task.memory_step_bytes
        if self._guide is None:
            return said
        return self._guide.memory_step(submission.name, failed_bytes, submission.known) or said

    def _longest_task_s(self, pool: str) -> tuple[float, float]:
        """Return how long a task of a pool may take: as is known beforehand, and as one of this run took."""
        component = base_of(pool)
        tasks = (task for task in self._tasks.values() if task.component == component)
        said = (task.duration_high_s or task.duration_s or 0.0 for task in tasks)
        return max((0.0, *said)), self.probe.longest_s(pool)

    def close(self, status: RunStatus) -> None:
        """Close all of it, in order, whatever fails on the way."""
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: self.recorder.finish(status, self.probe.counts))
            stack.callback(lambda: self.meter.record_totals(self.recorder))
            stack.callback(self.leave)
            stack.callback(self.provider.close, self.cluster)
            stack.callback(self.cluster.sync, self._settle)
            stack.callback(self.client.close)
            stack.callback(self.controller.stop)

    def progress(self) -> tuple[TagProgress, ...]:
        """Return how far the tasks of each tag are."""
        live: dict[str, list[int]] = {}
        for requirement, (blocked, ready) in self.cluster.demand_counter.by_requirement().items():
            labels = [label for label, _ in requirement] or [""]
            tag = next((label for label in labels if label in self.cluster.pools), labels[0])
            row = live.setdefault(tag, [0, 0])
            row[0] += blocked
            row[1] += ready
        rows = []
        for tag in dict.fromkeys((*self.cluster.pools, *live, *list(self.probe.counts_by_tag))):
            blocked, ready = live.get(tag, (0, 0))
            pools = [self.cluster.pools[name] for name in self.router.pools_for({tag: 1.0} if tag else {})]
            workers = sum(pool.up for pool in pools)
            notes = sum((pool.waiting for pool in pools), Counter[str]())
            running = min(ready, sum(pool.up * pool.shape.threads for pool in pools))
            ended: Mapping[str, int] = self.probe.counts_by_tag.get(tag, {})
            rows.append(
                TagProgress(
                    tag,
                    blocked,
                    ready - running,
                    running,
                    ended.get("completed", 0),
                    ended.get("failed", 0) + ended.get("cancelled", 0),
                    workers,
                    ", ".join(f"{count} {note}" for note, count in notes.items()),
                )
            )
        return tuple(rows)

    async def _settle(self) -> None:
        self.probe.finish()


def _status_of(error: BaseException | None) -> RunStatus:
    if error is None:
        return "completed"
    if isinstance(error, KeyboardInterrupt):
        return "cancelled"
    if isinstance(error, SystemExit):
        return "completed" if error.code in (None, 0) else "failed"
    return "failed"


def _refuse_impossible(report: ValidationReport) -> None:
    """Refuse a plan whose workers the provider cannot have."""
    if not report.ok:
        wrong = "; ".join(map(str, report.errors))
        raise PlanError(f"the plan cannot be: {wrong}; plan again with `scalable plan --format json`")


def _refuse_import_of_main() -> None:
    """Refuse to start from a worker process that imports the user's script a second time."""
    if multiprocessing.parent_process() is not None and getattr(
        multiprocessing.current_process(), "_inheriting", False
    ):
        raise ProviderError(
            "a worker process imports your script and would start the run once more; "
            "put what starts it under `if __name__ == '__main__':`"
        )
