"""The jobs of one run: asked for, looked at and cancelled many at a time.

A batch system is shared by hundreds of people, and its controller answers one at a time:
workers that are wanted together are one submission (an array), those that leave together
one cancellation, and what became of them is one question for all, asked less often the
longer nothing happens, and not at all while nothing is awaited.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import shlex
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from scalable.errors import ProviderError, SubmitFailed
from scalable.pools.pool import WorkerEnd
from scalable.pools.shape import PoolShape
from scalable.providers.batch.queue import (
    ENDED_STATES,
    PERMANENT_REASONS,
    QueuedJob,
    comment_of,
    parse_squeue,
    squeue_command,
)
from scalable.providers.batch.script import Launch, job_script
from scalable.providers.batch.systems import BatchSystem, only_gone, submit_command
from scalable.providers.options.batch import BatchOptions
from scalable.telemetry.owner import Owner

__all__ = ["BatchWorker", "Jobs", "cancel_all"]

logger = logging.getLogger(__name__)

_GATHER_S: Final = 0.02
_MOST_IN_ARRAY: Final = 500
_MOST_IDS: Final = 500
_AT_ONCE: Final = 8
_COMMAND_S: Final = 120.0
_FIRST_LOOK_S: Final = 1.0
_LONGEST_LOOK_S: Final = 30.0
_SLOWER: Final = 1.3
_SAY_AFTER_S: Final = 30.0
_PAUSES_S: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_STOPPING_S: Final = 30.0
_MISSING: Final = 2
_LOG_LINES: Final = 12
_LOG_BYTES: Final = 8192

# The controller is overloaded or restarting, which passes.
_PASSING = re.compile(
    r"timed out|unable to contact|connection refused|connection reset|temporarily|try again|zero bytes were transmitted"
    r"|transport endpoint|communication connection failure|cannot connect to",
    re.IGNORECASE,
)
# So is a limit on how many jobs somebody may have, but that may take hours.
_LIMIT = re.compile(
    r"(max|grp)\w*submit\w*|job submit limit|pending job threshold|maximum number of jobs", re.IGNORECASE
)
_NO_ARRAYS = re.compile(r"invalid job array", re.IGNORECASE)
# Somebody else ended it, so that no task is to blame.
_FROM_OUTSIDE = {"BOOT_FAIL", "CANCELLED", "DEADLINE", "NODE_FAIL", "PREEMPTED", "REVOKED", "TIMEOUT"}
# A job hands down what its own Slurm set, which contradicts what a script submitted from it asks for; and
# what people set for their own use would go before the manifest, hide jobs, or spare them.
_NOT_OURS = ("SLURM_", "SBATCH_", "SQUEUE_", "SCANCEL_")
_KEPT = ("SLURM_CONF", "SLURM_JWT", "SLURM_CLUSTERS")


class BatchWorker:
    """One worker of a job; a :class:`scalable.pools.pool.RemoteWorker`.

    Attributes
    ----------
    group : str
        The job, by the name that it has in its pool.
    """

    def __init__(self, jobs: Jobs, shape: PoolShape, name: str, scheduler_address: str) -> None:
        self.shape = shape
        self.name = name
        self.scheduler_address = scheduler_address
        self.group = name.partition("~")[0]
        self.closed = False
        self._jobs = jobs

    @property
    def number(self) -> int:
        """The job's number in its pool."""
        return int(self.group.rpartition("-")[2])

    @property
    def ends_at(self) -> float | None:
        """When the job's time is up, in unix seconds."""
        job = self._jobs.job(self.group)
        return None if job is None else job.ends_at

    @property
    def note(self) -> str:
        """What the job waits for."""
        job = self._jobs.job(self.group)
        return "" if job is None else job.note

    def __await__(self) -> Generator[Any, Any, None]:
        """Ask for the job, and return when the batch system has taken it."""
        return self._jobs.submit(self).__await__()

    async def over(self, *, lost: bool) -> WorkerEnd:
        """Return when the job has ended, or, if the worker is lost, does not run any more."""
        return await self._jobs.over(self, lost=lost)

    async def close(self) -> None:
        """Cancel the job, once all its workers are closed."""
        await self._jobs.cancel(self)


class _Job:
    """A job from the moment it is wanted."""

    def __init__(self, shape: PoolShape, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.shape = shape
        self.number = number
        self.workers: list[BatchWorker] = []
        self.id = ""
        self.accepted: asyncio.Future[None] = loop.create_future()
        self.accepted.add_done_callback(_retrieved)
        self.end: asyncio.Future[WorkerEnd] = loop.create_future()
        self.since = time.monotonic()
        self.asked_at = self.taken_at = 0.0
        self.ahead_s: float | None = None
        self.ends_at: float | None = None
        self.note = ""
        self.node = ""
        self.awaited = 0
        self.lost = 0
        self.missing = 0
        self.arrived = False
        self.runs = False
        self.gone = False


class Jobs:
    """Submit, watch and cancel the jobs of one run; everything on one event loop.

    Parameters
    ----------
    system : BatchSystem
        Whose jobs.
    options : BatchOptions
        The target's.
    launch : Launch
        What they have in common; the scheduler's address is filled in later.
    watched : callable
        Told the ids of new jobs, for whoever cleans up if this process is killed.

    Attributes
    ----------
    clean : bool
        Whether nothing of the run is left: before anything is submitted, and after
        :meth:`stop` has run to its end and nothing that it had to cancel failed.
    """

    def __init__(
        self, system: BatchSystem, options: BatchOptions, launch: Launch, watched: Callable[[Sequence[str]], None]
    ) -> None:
        self._system = system
        self._options = options
        self._launch = launch
        self._watched = watched
        self._owner = Owner.mine()
        self._arrays = system.array is not None
        self._jobs: dict[str, _Job] = {}
        self._wanted: list[_Job] = []
        self._unwanted: list[_Job] = []
        self._submitting: asyncio.Task[None] | None = None
        self._cancelling: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._said: dict[str, Counter[str]] = {}
        self._unanswered = False
        self._everything = cancel_all(system, launch.run_id)
        # Ids of jobs that may still be there, and whether there may be some that nobody knows the ids of.
        self._left: dict[str, None] = {}
        self._doubtful = False
        self._stopping = asyncio.Event()
        self.clean = True
        self.record: Callable[[Mapping[str, Any]], None] = lambda _record: None

    def job(self, group: str) -> _Job | None:
        """Return a job by its name; ``None`` once it is over."""
        return self._jobs.get(group)

    async def submit(self, worker: BatchWorker) -> None:
        """Ask for the job of a worker, together with all that are asked for at this moment.

        Raises
        ------
        SubmitFailed
            With the batch system's words.
        """
        if worker.closed or self._stopping.is_set():
            return
        job = self._jobs.get(worker.group)
        if job is None:
            job = self._jobs[worker.group] = _Job(worker.shape, worker.number)
            self._wanted.append(job)
        job.workers.append(worker)
        if self._submitting is None or self._submitting.done():
            self._submitting = asyncio.ensure_future(self._submit_wanted())
        await asyncio.shield(job.accepted)

    async def over(self, worker: BatchWorker, *, lost: bool) -> WorkerEnd:
        """Return when the job of a worker has ended, or does not run any more."""
        job = self._jobs.get(worker.group)
        if job is None:
            return WorkerEnd("its job was cancelled")
        job.awaited += 1
        job.lost += lost
        job.arrived |= lost
        self._look_soon()
        try:
            return await asyncio.shield(job.end)
        except asyncio.CancelledError:
            # Whoever waited for a worker has it.
            job.arrived = True
            raise
        finally:
            job.awaited -= 1
            job.lost -= lost

    async def cancel(self, worker: BatchWorker) -> None:
        """Cancel the job of a worker once nobody else is in it, together with all that are cancelled now."""
        job = self._jobs.get(worker.group)
        worker.closed = True
        if job is None or not all(one.closed for one in job.workers):
            return
        self._jobs.pop(worker.group)
        if job in self._wanted:
            self._wanted.remove(job)
            job.accepted.cancel()
        await asyncio.wait([job.accepted])
        if not job.id or job.gone:
            return
        self._unwanted.append(job)
        if self._cancelling is None or self._cancelling.done():
            self._cancelling = asyncio.ensure_future(self._cancel_unwanted())
        await asyncio.shield(self._cancelling)

    async def stop(self) -> None:
        """Look no more, and leave nothing behind; :attr:`clean` says whether that was achieved."""
        self._stopping.set()
        for job in self._wanted:
            job.accepted.cancel()
        self._wanted.clear()
        if self._looking is not None:
            await _ended(self._looking)
        in_time = True
        for task in (self._submitting, self._cancelling):
            if task is not None:
                # To kill a command does not undo what it has begun, so it gets its time.
                _, late = await asyncio.wait([task], timeout=_STOPPING_S)
                in_time = in_time and not late
                await _ended(task)
        commands = self._by_ids(self._left)
        if self._everything:
            # One call more, in which nothing can have been forgotten.
            commands = [self._everything] if self._left or self._doubtful else []
        done = [await self._cancelled(command, last=True) for command in commands]
        self.clean = in_time and all(done)

    async def _submit_wanted(self) -> None:
        while True:
            await asyncio.sleep(_GATHER_S)
            wanted, self._wanted = self._wanted, []
            if not wanted:
                return
            batches = list(_batches(wanted, _MOST_IN_ARRAY if self._arrays else 1))
            await asyncio.gather(*(self._submit_batch(batch) for batch in batches))

    async def _submit_batch(self, jobs: list[_Job]) -> None:
        try:
            async with self._places:
                asked_at = time.time()
                ids = await self._submitted(jobs)
        except Exception as error:  # noqa: BLE001  (whoever asked for the jobs is told)
            if len(jobs) > 1 and _NO_ARRAYS.search(str(error)):
                # This cluster takes none, or none this large.
                self._arrays = False
                await asyncio.gather(*(self._submit_batch([job]) for job in jobs))
                return
            # Of an array that is larger than what one may still have, some jobs may fit; the others wait.
            fits = len(jobs) // 2 if isinstance(error, SubmitFailed) and _limited(error.stderr) else 0
            if fits:
                await self._submit_batch(jobs[:fits])
            for job in jobs[fits:]:
                if not job.accepted.done():
                    job.accepted.set_exception(error)
            return
        self._watched(ids)
        self._left.update(dict.fromkeys(ids))
        now = time.time()
        event = {"event": "submitted", "at": now, "system": self._system.name, "pool": jobs[0].shape.name}
        self.record({**event, "job_ids": ids})
        for job, job_id in zip(jobs, ids, strict=True):
            job.id = job_id
            job.since = time.monotonic()
            job.asked_at, job.taken_at = asked_at, now
            if not job.accepted.done():
                job.accepted.set_result(None)
        self._look_soon()

    async def _submitted(self, jobs: list[_Job]) -> list[str]:
        """Submit jobs of one pool with consecutive numbers, and return their ids."""
        if self._stopping.is_set():
            raise ProviderError("the run ends")
        first, array = jobs[0], len(jobs) > 1
        worker = first.workers[0]
        comment = comment_of(first.shape.name, self._owner)
        launch = replace(self._launch, scheduler_address=worker.scheduler_address, comment=comment)
        workers = len(first.workers)
        text = job_script(
            self._system, self._options, first.shape, launch, group=first.number, workers=workers, array=array
        )
        path = self._launch.log_directory / f"{worker.group}.sh"
        # What a component's env says may be a secret.
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        elements = len(jobs) if array else None
        command = submit_command(self._system, text, path, elements=elements)
        self.clean = False
        out = await self._insist(command.argv, command.stdin)
        found = self._system.job_id.search(out)
        if found is None:
            self._doubtful = True
            raise SubmitFailed(shlex.join(command.argv[:1]), 0, f"it printed no job id, but: {out.strip()[:200]}")
        job_id = found["job_id"]
        return [f"{job_id}_{element}" for element in range(len(jobs))] if array else [job_id]

    async def _cancel_unwanted(self) -> None:
        while True:
            await asyncio.sleep(_GATHER_S)
            unwanted, self._unwanted = self._unwanted, []
            if not unwanted:
                return
            ids = [job.id for job in unwanted]
            if not all([await self._cancelled(command) for command in self._by_ids(ids)]):
                continue
            if not self._everything:
                for one in ids:
                    self._left.pop(one, None)
            now = time.time()
            self.record({"event": "cancelled", "at": now, "system": self._system.name, "job_ids": ids})

    def _by_ids(self, ids: Iterable[str]) -> list[list[str]]:
        """Return the commands that cancel some jobs."""
        names = _condensed(ids)
        parts = (names[start : start + _MOST_IDS] for start in range(0, len(names), _MOST_IDS))
        return [[*self._system.cancel, *part] for part in parts]

    async def _cancelled(self, command: Sequence[str], *, last: bool = False) -> bool:
        """Run a command that cancels jobs, and tell whether they are as good as gone."""
        try:
            await self._insist(command, last=last)
        except SubmitFailed as error:
            if not only_gone(error.stderr):
                which, run_id = " ".join(command[len(self._system.cancel) :]), self._launch.run_id
                logger.warning(
                    "jobs were not cancelled (%s): %s; once the run has ended, `scalable clean --run %s` does it",
                    which, error.stderr.strip(), run_id,
                )  # fmt: skip
                return False
        return True

    async def _insist(self, argv: Sequence[str], stdin: str | None = None, *, last: bool = False) -> str:
        """Run a command, again after a while where nobody answers, and return what it printed.

        Once the run ends, only what is ``last`` is tried again.

        Raises
        ------
        SubmitFailed
            With its words.
        """
        pauses = iter(_PAUSES_S)
        while True:
            code, out, err = await _run(argv, stdin)
            if not code:
                return out
            unheard = _PASSING.search(err) is not None
            # It may have been done all the same, unknown to us.
            self._doubtful = self._doubtful or unheard
            pause = next(pauses, None) if unheard and (last or not self._stopping.is_set()) else None
            if pause is None:
                raise SubmitFailed(_shown(argv), code, err or out, passing=unheard or _limited(err))
            logger.warning("`%s` failed, trying again in %g s: %s", argv[0], pause, err.strip())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.sleep(pause) if last else self._stopping.wait(), pause)
            if self._stopping.is_set() and not last:
                raise SubmitFailed(_shown(argv), code, err or out, passing=True)

    def _look_soon(self) -> None:
        if self._system.name != "slurm":
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())
        self._wake.set()

    def _curious(self) -> bool:
        # Until a job is seen to run, when it will end is not known: queues have limits of their own.
        return any(job.id and not job.end.done() and (job.awaited or not job.runs) for job in self._jobs.values())

    async def _look(self) -> None:
        while self._curious():
            pause = _FIRST_LOOK_S
            self._wake.clear()
            while self._curious() and not self._wake.is_set():
                try:
                    await self._look_once()
                except Exception:
                    # What one answer leads to must not end looking for the rest of the run.
                    logger.exception("the jobs could not be looked at")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), pause)
                pause = min(pause * _SLOWER, _LONGEST_LOOK_S)
            # However often somebody is curious, Slurm is asked once a second at the most.
            await asyncio.sleep(_FIRST_LOOK_S)

    async def _look_once(self) -> None:
        asked_at = time.monotonic()
        arguments, environment = squeue_command(self._launch.run_id)
        code, out, err = await _run(arguments, None, environment)
        if code:
            if not self._unanswered:
                logger.warning("Slurm does not say what became of the jobs: %s", err.strip())
            self._unanswered = True
            return
        self._unanswered = False
        found = {job.job_id: job for job in parse_squeue(out)}
        for job in list(self._jobs.values()):
            if job.id and not job.end.done() and job.since < asked_at:
                self._see(job, found.get(job.id))
        self._say_what_waits()

    def _see(self, job: _Job, seen: QueuedJob | None) -> None:
        """Take note of what Slurm says of a job."""
        if seen is None:
            job.missing += 1
            job.runs = False
            if job.missing >= _MISSING:
                # An answer can be incomplete: it is not known to be gone, and will be cancelled.
                self._over(job, "is not in Slurm's queue any more", outside=True)
            return
        job.missing = 0
        job.node = seen.node or job.node
        job.runs = seen.state == "RUNNING"
        if job.ahead_s is None and seen.submitted_at is not None:
            job.ahead_s = _ahead_s(seen.submitted_at, job.asked_at, job.taken_at)
        job.ends_at = None if seen.ends_at is None else seen.ends_at - (job.ahead_s or 0.0)
        waits = seen.state in {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED"}
        job.note = (f"{seen.state} ({seen.reason})" if seen.reason else seen.state) if waits else ""
        if seen.state in ENDED_STATES:
            job.gone = True
            self._left.pop(job.id, None)
            # Which of several workers took the memory is for their nannies to tell.
            out_of_memory = seen.state == "OUT_OF_MEMORY" and len(job.workers) == 1
            outside = seen.state in _FROM_OUTSIDE
            self._over(job, f"ended as {seen.state}", out_of_memory=out_of_memory, outside=outside)
        elif job.lost and waits:
            self._over(job, f"was put back into the queue ({seen.reason or seen.state})", outside=True)
        elif seen.state == "PENDING" and seen.reason in PERMANENT_REASONS:
            self._over(job, f"can never start: {seen.reason}", hopeless=True)

    def _over(self, job: _Job, how: str, **facts: bool) -> None:
        where = f" on {job.node}" if job.node else ""
        text = f"job {job.id}{where} {how}"
        if not (job.arrived or facts.get("hopeless")):
            text += f" before its worker connected to {job.workers[0].scheduler_address}{self._log_of(job)}"
        job.end.set_result(WorkerEnd(text, **facts))

    def _log_of(self, job: _Job) -> str:
        path = self._launch.log_directory / f"{job.shape.name}-{job.id}.log"
        try:
            with path.open("rb") as log:
                # Logs may be on a slow disk that is shared by all, and be large.
                log.seek(max(0, os.fstat(log.fileno()).st_size - _LOG_BYTES))
                lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            return f"; it left no log in {self._launch.log_directory}"
        return "; its log ends:\n  " + "\n  ".join(lines) if lines else f"; its log {path} is empty"

    def _say_what_waits(self) -> None:
        """Say once why jobs of a pool have been waiting for long, and again when the reason changes."""
        waiting: dict[str, Counter[str]] = {}
        now = time.monotonic()
        for job in self._jobs.values():
            if job.note and now - job.since > _SAY_AFTER_S:
                waiting.setdefault(job.shape.name, Counter())[job.note] += 1
        for pool, notes in waiting.items():
            if set(notes) != set(self._said.get(pool, ())):
                text = ", ".join(f"{count} {note}" for note, count in notes.items())
                logger.warning("pool %s: jobs wait in the queue: %s", pool, text)
        self._said = waiting


def cancel_all(system: BatchSystem, run_id: str) -> list[str]:
    """Return the command that cancels all jobs of a run by their name; empty where there is none such."""
    return [*system.cancel, f"--name={run_id}"] if system.name == "slurm" else []


def _batches(jobs: Iterable[_Job], most: int) -> Iterable[list[_Job]]:
    """Divide jobs into those that can be one array: of one pool, of one size, with numbers in a row."""
    ordered = sorted(jobs, key=lambda job: (job.shape.name, len(job.workers), job.number))
    row = enumerate(ordered)
    for _, some in itertools.groupby(row, lambda one: (one[1].shape.name, len(one[1].workers), one[1].number - one[0])):
        alike = [job for _, job in some]
        for start in range(0, len(alike), most):
            yield alike[start : start + most]


def _condensed(ids: Iterable[str]) -> list[str]:
    """Return job ids with the elements of an array as one.

    Examples
    --------
    >>> _condensed(["7_0", "7_1", "7_2", "9", "7_5"])
    ['7_[0-2,5]', '9']
    """
    names: dict[str, list[int]] = {}
    for one in ids:
        array, _, element = one.partition("_")
        names.setdefault(array, []).extend([int(element)] if element else [])
    return [f"{array}_[{_ranges(elements)}]" if elements else array for array, elements in names.items()]


def _ranges(numbers: list[int]) -> str:
    rows = itertools.groupby(enumerate(sorted(numbers)), lambda one: one[1] - one[0])
    spans = [[number for _, number in row] for _, row in rows]
    return ",".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def _ahead_s(submitted_at: float, asked_at: float, taken_at: float) -> float:
    """Return by how much Slurm's clock is ahead of this machine's.

    Parameters
    ----------
    submitted_at : float
        When a job was submitted, in whole seconds by Slurm's clock.
    asked_at, taken_at : float
        Before and after that by ours.

    Examples
    --------
    >>> _ahead_s(1000.0, 1000.2, 1000.4), _ahead_s(1100.0, 1000.2, 1000.4), _ahead_s(900.0, 1000.0, 1009.0)
    (0.0, 99.6, -99.0)
    """
    return max(0.0, submitted_at - taken_at) + min(0.0, submitted_at + 1.0 - asked_at)


def _limited(words: str) -> bool:
    """Tell whether a refusal is for a limit on how many jobs there may be, which others' ends make room below."""
    return _LIMIT.search(words) is not None and PERMANENT_REASONS.isdisjoint(re.findall(r"\w+", words))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _shown(argv: Sequence[str]) -> str:
    text = shlex.join(argv)
    return text if len(text) <= 200 else f"{text[:197]}..."


async def _run(
    argv: Sequence[str], stdin: str | None, environment: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    """Run a command, without what Slurm told this process if it is itself in a job."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_OURS) or name in _KEPT}
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(environment) if environment is not None else inherited,
            # Ctrl-C is meant for this process, which ends its jobs in order.
            start_new_session=True,
        )
    except OSError as error:
        return 127, "", f"{argv[0]}: {error.strerror}"
    given = None if stdin is None else stdin.encode()
    try:
        out, err = await asyncio.wait_for(process.communicate(given), _COMMAND_S)
    except TimeoutError:
        return 124, "", f"`{argv[0]}` did not end within {_COMMAND_S:.0f} s, timed out"
    finally:
        if process.returncode is None:
            # Also when nobody waits for it any more.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace")


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Look at a future's exception: those who waited for it may have gone."""
    if not future.cancelled():
        future.exception()
