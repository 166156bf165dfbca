"""One workflow run on the pools of a Scalable session: opened late, told of every job, closed once."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

from scalable import ScalableClient, ScalableError, ScalableSession
from scalable_snakemake.job import JobFailed, JobRequest, WorkerDied, run_job_request, tail
from scalable_snakemake.placement import Member, Placement, PlacementError, Placer

if TYPE_CHECKING:
    from distributed import Future

    from scalable import Plan, TaskGroup
    from scalable_snakemake.settings import ExecutorSettings

__all__ = ["Run", "Submission"]

_FRESH_STARTS: Final = 5
_STOP_TIMEOUT_S: Final = 8
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(slots=True)
class Submission:
    """One attempt of a job that was handed over.

    Attributes
    ----------
    key : str
        Dask key, never used twice.
    name : str
        Rule, or group, as telemetry shows it.
    request : JobRequest
        What the worker is sent.
    placement : Placement
        Where it goes.
    features : mapping
        What is known of its input, for telemetry.
    starts : int
        How often it was handed over: once more for each worker that died before it began.
    """

    key: str
    name: str
    request: JobRequest
    placement: Placement
    features: Mapping[str, Any]
    starts: int = 0
    future: Future[None] | None = field(default=None, repr=False)


class Run:
    """The session of one workflow run.

    Parameters
    ----------
    settings : ExecutorSettings
        The user's flags.

    Raises
    ------
    scalable.ScalableError
        If the manifest cannot be used.

    Attributes
    ----------
    refusals : tuple of type
        What :meth:`place` raises where there is no place.
    """

    refusals: ClassVar[tuple[type[Exception], ...]] = (ScalableError, PlacementError)

    def __init__(self, settings: ExecutorSettings) -> None:
        self._session = ScalableSession.from_yaml(
            settings.manifest, target=settings.target, overlay=settings.overlay, advise=settings.advise or None
        )
        self._settings = settings
        self._placer = Placer(self._session.spec, self._session.route, self._session.threads)
        self._client: ScalableClient | None = None

    @property
    def started(self) -> bool:
        """Whether pools are up."""
        return self._client is not None

    @property
    def whereabouts(self) -> str:
        """Where the run's records are, in words."""
        directory = self._session.run_dir
        return "telemetry is off" if directory is None else f"records in {directory}"

    def place(self, members: Iterable[Member], threads: int = 1) -> Placement:
        """Return where a job goes; see :meth:`Placer.place`."""
        return self._placer.place(members, threads)

    def slots(self, placement: Placement) -> int:
        """Return how many jobs like one a worker runs at a time."""
        return max(1, self._session.threads(placement.pools[0]) // placement.threads)

    def start(self, tasks: Iterable[TaskGroup] | None = None) -> str:
        """Start scheduler and pools, and return one line about them.

        Parameters
        ----------
        tasks : iterable of TaskGroup, optional
            What is going to run, for the plan.

        Raises
        ------
        scalable.ScalableError
            If they do not start.
        """
        import dask  # noqa: PLC0415  (a run with nothing to do needs no Dask)

        _spare_workers_the_script()
        logging.getLogger("distributed.scheduler").addFilter(_told_better_by_us)
        # A job whose worker died is Snakemake's to repeat. Dask would start it again by itself.
        with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
            self._client = self._session.start(self._planned(tasks))
        spec = self._session.spec
        pools = ", ".join(f"{name} ({self._session.threads(name)} threads)" for name in spec.components)
        return f"target '{spec.target}', workers of {pools}; {self.whereabouts}"

    def _planned(self, tasks: Iterable[TaskGroup] | None) -> Plan:
        return self._session.plan(tasks=tasks, objective=self._settings.objective, policy=self._settings.policy)

    def submission(
        self,
        *,
        key: str,
        name: str,
        command: str,
        directory: Path,
        logs: Path,
        environ: Mapping[str, str],
        placement: Placement,
        features: Mapping[str, Any],
    ) -> Submission:
        """Return one attempt of a job, ready to be handed over once the run is started.

        Parameters
        ----------
        key : str
            Identifies the attempt, and names its log.
        name : str
            Rule, or group.
        command : str
            A shell command.
        directory : Path
            Where it starts.
        logs : Path
            Directory of the logs of all runs.
        environ : mapping of str to str
            Variables that the user wants passed on.
        placement : Placement
            Where it goes.
        features : mapping
            What is known of its input.
        """
        run = self._session.run_id
        request = JobRequest(
            run=run,
            command=command,
            directory=str(directory),
            log=str(logs / run / f"{key}.log"),
            environ=self._environ_for(placement) | dict(environ),
        )
        return Submission(key, name, request, placement, features)

    def _environ_for(self, placement: Placement) -> dict[str, str | None]:
        # Workers keep numerical libraries to a task's share of the cores. A job may use what it
        # takes of the worker, unless the component or the user's own environment says otherwise.
        environ: dict[str, str | None] = {
            name: os.environ.get(name, str(placement.threads)) for name in _THREAD_VARIABLES
        }
        if len(placement.pools) == 1:
            environ |= self._session.spec.components[placement.pools[0]].env
        environ["SNAKEMAKE_PROFILE"] = None
        return environ

    def submit(self, submission: Submission, notify: Callable[[Submission], None]) -> None:
        """Hand a job to its pool.

        Parameters
        ----------
        submission : Submission
            The job.
        notify : callable
            Called with it from another thread when it has ended.

        Raises
        ------
        scalable.ScalableError
            If its pool cannot run it.
        """
        assert self._client is not None
        placement = submission.placement
        submission.starts += 1
        submission.future = self._client.submit(
            run_job_request,
            submission.request,
            tag=placement.tag,
            capabilities={"threads": placement.threads},
            name=submission.name,
            key=submission.key if submission.starts == 1 else f"{submission.key}-{submission.starts}",
            features=dict(submission.features),
            pure=False,
            retries=0,
        )
        submission.future.add_done_callback(lambda _: notify(submission))

    def failure_of(self, submission: Submission) -> JobFailed | None:
        """Return why a job that has ended failed, or ``None`` if it succeeded."""
        from distributed.scheduler import KilledWorker  # noqa: PLC0415  (only runs that started need it)

        future = submission.future
        if future is None or future.status == "finished":
            return None
        if future.status == "cancelled":
            return JobFailed("cancelled")
        error = future.exception()
        if isinstance(error, JobFailed):
            return error
        if isinstance(error, KilledWorker):
            worker = getattr(error.last_worker, "name", error.last_worker)
            return WorkerDied(f"worker {worker} died while it ran", tail(Path(submission.request.log)))
        return JobFailed(f"{type(error).__name__}: {error}")

    def may_start_again(self, submission: Submission, failure: JobFailed) -> bool:
        """Return whether a job lost its worker before it began, so that it is not an attempt at all."""
        return (
            isinstance(failure, WorkerDied)
            and submission.starts < _FRESH_STARTS
            and not Path(submission.request.log).exists()
        )

    def stop(self, submissions: Iterable[Submission]) -> None:
        """End all jobs at once, those that run and those that wait."""
        if self._client is None:
            return
        from scalable_snakemake.workers import stop_worker  # noqa: PLC0415  (as in start)

        client = self._client
        client.cancel([one.future for one in submissions if one.future is not None])

        def ask_workers() -> None:
            client.dask.run(stop_worker, self._session.run_id, on_error="ignore")

        # A worker that does not answer is killed when the run is closed, and its jobs with it.
        asking = threading.Thread(target=ask_workers, daemon=True)
        asking.start()
        asking.join(_STOP_TIMEOUT_S)

    def close(self, status: Literal["completed", "failed", "cancelled"]) -> None:
        """End the run; harmless when repeated."""
        self._session.close(status)
        self._client = None


def _told_better_by_us(record: logging.LogRecord) -> bool:
    """Drop what Dask says of each job that a dead worker had: most of them had not begun."""
    return "marked as failed because" not in str(record.msg)


def _spare_workers_the_script() -> None:
    """Keep worker processes from importing the script ``snakemake``, and with it all of Snakemake.

    A spawned process imports the main module of its parent, unless that is a package's
    ``__main__``, as in ``python -m snakemake``.
    """
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) is None and Path(getattr(main, "__file__", None) or "").name == "snakemake":
        main.__spec__ = ModuleSpec("snakemake.__main__", None)
