"""Making a worker ready to leave without losing or repeating anything.

Dask's own retirement moves results away but then drops the worker while tasks still run
there, which are run again elsewhere. Here the worker first stops taking work, gives back
what it has not begun, and finishes what it has.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distributed.core import Status
from distributed.protocol.pickle import dumps
from distributed.protocol.serialize import Serialize, Serialized, deserialize

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import WorkerState

__all__ = ["ready_to_leave"]

_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 1.0
_RESUME_S = 10.0
_AT_A_TIME = 500


async def ready_to_leave(
    scheduler: Scheduler, worker: WorkerState, moving: asyncio.Lock, *, for_good: bool = False
) -> bool:
    """Bring a worker to where nothing is lost when it ends.

    Its results move to others, running tasks finish, the rest is handed back.

    Parameters
    ----------
    scheduler : distributed.Scheduler
        In this process; called on its loop.
    worker : WorkerState
        Who is to leave.
    moving : asyncio.Lock
        One for all workers: results are moved from one at a time, so that each can hand
        over to those that leave after it, and one is left where nobody else is.
    for_good : bool
        Whether it is to begin nothing any more, even if its results have to stay.

    Returns
    -------
    bool
        Whether it may end now, or has ended by itself; ``False`` where it holds results
        that no other worker can take, in which case it works on as before, unless it leaves for good.
    """
    if for_good:
        _stop(scheduler, worker)
    if not await _move_results(scheduler, worker, moving, for_good=for_good):
        return False
    await _hand_back(scheduler, worker)
    pause = _FIRST_LOOK_S
    while await _busy(scheduler, worker):
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_LOOK_S)
    # What it finished meanwhile has to move as well.
    return not (_needed(worker) and _present(scheduler, worker)) or await _move_results(
        scheduler, worker, moving, for_good=for_good
    )


def _present(scheduler: Scheduler, worker: WorkerState) -> bool:
    return scheduler.workers.get(worker.address) is worker


def _needed(worker: WorkerState) -> bool:
    """Whether a worker has results that no other has."""
    return any(len(task.who_has or ()) < 2 for task in worker.has_what)


def _stop(scheduler: Scheduler, worker: WorkerState) -> None:
    """Have a worker begin no more tasks: the status to which Dask goes back if its results cannot move."""
    if _present(scheduler, worker):
        status, stimulus = Status.closing_gracefully, f"stop-{time.time()}"
        scheduler.handle_worker_status_change(status, worker, stimulus)
        message = {"op": "worker-status-change", "status": status.name, "stimulus_id": stimulus}
        scheduler.stream_comms[worker.address].send(message)


async def _move_results(
    scheduler: Scheduler, worker: WorkerState, moving: asyncio.Lock, *, for_good: bool = False
) -> bool:
    """Stop a worker and copy its results; return whether that could be. If not, it works on, or not if `for_good`."""
    async with moving:
        if not _present(scheduler, worker):
            return True
        if for_good and _needed(worker) and scheduler.running <= {worker}:
            # Dask would warn of that, every time.
            return False
        moved = await scheduler.retire_workers(workers=[worker.address], close_workers=False, remove=False)
        if moved or not _present(scheduler, worker):
            return True
        if for_good:
            return False
        # Dask goes back to the status from before, which may be that of an earlier try.
        await _on_worker(scheduler, worker, _resume)
        deadline = time.monotonic() + _RESUME_S
        while _present(scheduler, worker) and worker.status != Status.running and time.monotonic() < deadline:  # noqa: ASYNC110  (Dask has no event for it)
            # The worker's own word arrives by another connection.
            await asyncio.sleep(_FIRST_LOOK_S)
        return not _present(scheduler, worker)


async def _hand_back(scheduler: Scheduler, worker: WorkerState) -> None:
    """Offer what waits on a worker to others, by the protocol of Dask's work stealing.

    The worker itself confirms that it has not begun a task, so that none runs twice. Tasks
    that no other worker can run go back to the scheduler when this one leaves.
    """
    stealing = scheduler.extensions["stealing"]
    for number, task in enumerate(list(worker.processing), start=1):
        if task.processing_on is worker:
            able = scheduler.valid_workers(task)
            takers = (scheduler.running if able is None else able & scheduler.running) - {worker}
            if takers:
                taker = min(takers, key=lambda one: len(one.processing) / one.nthreads)
                stealing.move_task_request(task, worker, taker)
        if number % _AT_A_TIME == 0:
            await asyncio.sleep(0)


async def _busy(scheduler: Scheduler, worker: WorkerState) -> bool:
    """Return whether a task runs there; a worker that does not answer may be busy with one."""
    if not worker.processing or not _present(scheduler, worker):
        return False
    return bool(await _on_worker(scheduler, worker, _under_way) != 0)


async def _on_worker(scheduler: Scheduler, worker: WorkerState, function: Callable[[Any], Any]) -> Any:
    """Call a function on a worker's event loop and return its result; ``None`` if there is no answer."""
    message = {"op": "run", "function": dumps(function), "args": dumps(()), "kwargs": dumps({}), "wait": True}
    answers = await scheduler.broadcast(msg=message, workers=[worker.address], on_error="ignore")
    answer = answers.get(worker.address)
    result = answer.get("result") if isinstance(answer, dict) else None
    # The scheduler takes what it is sent as it comes: what it passes on is not for it to read.
    if isinstance(result, Serialized):
        return deserialize(result.header, result.frames)
    return result.data if isinstance(result, Serialize) else result


def _under_way(dask_worker: Any) -> int:
    return len(dask_worker.state.executing) + len(dask_worker.state.long_running)


def _resume(dask_worker: Any) -> None:
    dask_worker.status = Status.running
