"""The executor that Snakemake sees: jobs in, outcomes out; Dask and the manifest are imported when a job needs them."""

from __future__ import annotations

import contextlib
import queue
import sys
import threading
import uuid
from collections.abc import AsyncGenerator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from snakemake_interface_common.exceptions import WorkflowError
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor

from scalable_snakemake import facts

if TYPE_CHECKING:
    from scalable import TaskGroup
    from scalable_snakemake.placement import Placement
    from scalable_snakemake.run import Run, Submission

__all__ = ["Executor"]

_LOGS: Final = "scalable_logs"
_WAKE_LIMIT_S: Final = 60.0


class Executor(RemoteExecutor):
    """Run a workflow's jobs on the pools of a Scalable target.

    Parameters
    ----------
    workflow, logger
        As Snakemake gives them.

    Raises
    ------
    WorkflowError
        If the manifest cannot be used, or a rule asks for a tag that no pool serves:
        before anything has run.
    """

    def __init__(self, workflow: Any, logger: Any, *args: Any, **kwargs: Any) -> None:
        # The base class starts the thread that waits for jobs before it returns,
        # so whatever that thread touches has to exist already.
        self._ended: queue.SimpleQueue[Submission] = queue.SimpleQueue()
        self._wake = threading.Event()
        self._closing = False
        self._active: dict[str, tuple[Submission, SubmittedJobInfo]] = {}
        self._failed: set[Any] = set()
        self._counts = {"done": 0, "failed": 0}
        self._scaled_down: set[str] = set()
        self._job_cores = 1
        self._broken_off: Literal["cancelled", "failed"] | None = None
        self._run: Run | None = None
        if workflow.remote_execution_settings.immediate_submit:
            raise WorkflowError("--immediate-submit cannot be used: scalable runs jobs only while Snakemake runs")
        self._settings = workflow.executor_settings
        waiting = [job for job in workflow.dag.needrun_jobs() if not job.is_local]
        if waiting:
            self._check_rules(waiting)
        super().__init__(workflow, logger, *args, **kwargs)

    def _check_rules(self, jobs: Iterable[Any]) -> None:
        """Refuse what no pool serves, once for each rule."""
        with _as_workflow_error():
            run = self._opened()
        problems = []
        for rule, job in sorted({job.rule.name: job for job in jobs}.items()):
            try:
                members = facts.members_of(job)
            except Exception:  # noqa: BLE001, S112  (resources may be functions of files that are not there yet)
                continue
            try:
                run.place(members)
            except run.refusals as error:
                problems.append(f"rule {rule}: {error}")
        if problems:
            raise WorkflowError("\n".join(problems))

    def _opened(self) -> Run:
        if self._run is None:
            from scalable_snakemake.run import Run  # noqa: PLC0415  (a run with nothing to do needs no manifest)

            self._run = Run(self._settings)
        return self._run

    def run_job(self, job: Any) -> None:
        """Hand a job to its pool; failures are reported as the job's, and never raised."""
        try:
            run = self._opened()
            if not run.started:
                self._say(run.start(self._outlook(run)))
        except Exception as error:  # noqa: BLE001  (raised here, it would be reported once more for each job)
            self._broken_off = "failed"
            self.workflow.scheduler.executor_error_callback(WorkflowError(f"Scalable could not start: {error}"))
            return
        try:
            self._hand_over(run, job)
        except Exception as error:  # noqa: BLE001  (one job's trouble must not end the workflow)
            self.report_job_error(SubmittedJobInfo(job), msg=facts.wording_of(f"not submitted: {error}", job))

    def _outlook(self, run: Run) -> list[TaskGroup] | None:
        """Return what is going to run, for the plan; ``None`` if that cannot be told beforehand."""
        from scalable_snakemake.outlook import outlook  # noqa: PLC0415  (a run with nothing to do needs no plan)

        workflow: Any = self.workflow
        dag = workflow.dag
        jobs = [job for job in dag.needrun_jobs() if not job.is_local]

        def place(job: Any) -> tuple[Placement, int]:
            placement = run.place(facts.members_of(job), int(job.threads))
            return placement, run.slots(placement)

        try:
            return outlook(jobs, lambda job: dag.dependencies.get(job, ()), place)
        except Exception as error:  # noqa: BLE001  (resources may be functions of files that are not there yet)
            self._say(f"the plan is made without the DAG: {type(error).__name__}: {error}")
            return None

    def _hand_over(self, run: Run, job: Any) -> None:
        asked = int(job.threads)
        placement = run.place(facts.members_of(job), asked)
        if asked > placement.threads:
            self._say_scaled_down(job, asked, placement.threads, placement.pools)
        self._job_cores = placement.threads
        key = f"{facts.file_name(job)}-{uuid.uuid4().hex[:8]}"
        submission = run.submission(
            key=key,
            name=facts.title_of(job),
            command=self.format_job_exec(job),
            directory=Path(self.workflow.workdir_init),
            logs=Path(self.workflow.persistence.path).resolve() / _LOGS,
            environ=self.envvars(),
            placement=placement,
            features=facts.features_of(job),
        )
        info = SubmittedJobInfo(job, external_jobid=key)
        self._active[key] = submission, info
        self.report_job_submission(info)
        try:
            run.submit(submission, self._notice)
        except BaseException:
            self._active.pop(key, None)
            raise

    def _say_scaled_down(self, job: Any, asked: int, given: int, pools: tuple[str, ...]) -> None:
        title = facts.title_of(job)
        if title not in self._scaled_down:
            self._scaled_down.add(title)
            where = " and ".join(pools)
            self._say(f"{title} asks for {asked} threads, workers of {where} have {given}: it runs with {given}")

    def _say(self, text: str) -> None:
        # Snakemake's log handler prints the message as it is, without its arguments.
        self.logger.info(f"Scalable: {text}")  # noqa: G004

    def _notice(self, submission: Submission) -> None:
        """Take note of a job that has ended; called from a thread of Dask's."""
        self._ended.put(submission)
        self._wake.set()

    async def check_active_jobs(  # type: ignore[override]  # annotated upstream as a coroutine, used as a generator
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended since the last time.

        None is ever given back as still active: which are, this object knows by itself, so
        that the cost of a job does not depend on the number of the others.
        """
        del active_jobs
        while not self._ended.empty():
            self._settle(self._ended.get())
        still_active: tuple[SubmittedJobInfo, ...] = ()
        for info in still_active:
            yield info

    def _settle(self, submission: Submission) -> None:
        known = self._active.get(submission.key)
        if known is None or self._run is None or self._broken_off is not None:
            return
        reason, last_lines = "", ""
        try:
            failure = self._run.failure_of(submission)
            if failure is not None and self._run.may_start_again(submission, failure):
                self._run.submit(submission, self._notice)
                return
        except Exception as error:  # noqa: BLE001  (it would end the thread that waits, and the workflow would hang)
            reason = f"{type(error).__name__}: {error}"
        else:
            if failure is not None:
                reason, last_lines = str(failure), failure.last_lines
        del self._active[submission.key]
        _, info = known
        if reason:
            message = facts.wording_of(reason, info.job, submission.placement.pools, last_lines)
            self.report_job_error(info, msg=message, aux_logs=[submission.request.log])
        else:
            self.report_job_success(info)

    def print_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        """Show a failed job with all that is known of it.

        Snakemake shows no message of a group's, and for all other jobs the base class would
        add a sentence that refers to the log of a cluster.
        """
        job = job_info.job
        if job.is_group() and msg:
            self.logger.error(f"Group job {facts.title_of(job)}: {msg}")  # noqa: G004  (as in _say)
        if job_info.external_jobid is not None:
            kwargs["external_jobid"] = job_info.external_jobid
        job.log_error(msg, **kwargs)

    async def sleep(self) -> None:
        """Wait until a job has ended."""
        # Nothing else lives on this thread's event loop, so it may be blocked.
        self._wake.wait(_WAKE_LIMIT_S)
        if not self._closing:
            self._wake.clear()

    def handle_job_success(self, job: Any) -> None:
        """Count a job whose outputs Snakemake found complete."""
        super().handle_job_success(job)
        self._counts["done"] += 1
        self._failed.discard(job)

    def handle_job_error(self, job: Any) -> None:
        """Count a failed attempt."""
        super().handle_job_error(job)
        self._counts["failed"] += 1
        self._failed.add(job)

    def cancel_jobs(self, active_jobs: list[SubmittedJobInfo]) -> None:
        """End all jobs at once."""
        del active_jobs
        # Snakemake calls this while it handles what broke the workflow off.
        cause = sys.exception()
        self._broken_off = "cancelled" if cause is None or not isinstance(cause, Exception) else "failed"
        if self._run is not None:
            self._run.stop([submission for submission, _ in list(self._active.values())])

    def shutdown(self) -> None:
        """End the run; returns when no worker is left."""
        self._closing = True
        self._wake.set()
        super().shutdown()  # type: ignore[no-untyped-call]
        if self._run is not None and self._run.started:
            status = self._status()
            counts = f"{self._counts['done']} jobs done, {self._counts['failed']} attempts failed"
            try:
                self._run.close(status)
            except Exception as error:  # noqa: BLE001  (the workflow is over; what became of it must still be told)
                self._say(f"the pools did not close properly: {type(error).__name__}: {error}")
            self._say(f"{status}, {counts}; {self._run.whereabouts}")

    def _status(self) -> Literal["completed", "failed", "cancelled"]:
        scheduler: Any = self.workflow.scheduler
        if self._broken_off is not None:
            return self._broken_off
        if self._failed or scheduler.failed:
            return "failed"
        return "cancelled" if scheduler.remaining_jobs else "completed"

    @property
    def cores(self) -> int:
        """Cores that the job which is being handed over may use, instead of all of the machine's."""
        return self._job_cores

    def additional_general_args(self) -> str:
        """Return what a job's own Snakemake is told besides.

        It would repeat a rule's ``retries`` inside each attempt, unless the rule is
        preemptible and has no retries as such. Without a higher limit of jobs in a timespan
        it would stay for a second after its work is done. And it need not say what the main
        process says already, so that the job's log is the job's own output.
        """
        return (
            "--preemptible-rules --preemptible-retries 0 --max-jobs-per-timespan 1000000/0s --quiet progress rules host"
        )


@contextlib.contextmanager
def _as_workflow_error() -> Iterator[None]:
    from scalable import ScalableError  # noqa: PLC0415  (a run with nothing to do needs no manifest)

    try:
        yield
    except ScalableError as error:
        raise WorkflowError(str(error)) from error
