"""How a task goes on whose worker died while it ran."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from distributed.protocol import pickle
from distributed.scheduler import KilledWorker

from scalable.errors import TaskOutOfMemory
from scalable.pools.shape import THREADS
from scalable.telemetry.probe import ATTEMPT_LOST, pool_of
from scalable.units import format_bytes

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import TaskState

    from scalable.pools.cluster import PoolCluster
    from scalable.pools.deaths import Death
    from scalable.pools.pool import Pool

__all__ = ["fail", "judge"]


def judge(cluster: PoolCluster, task: TaskState, death: Death) -> None:
    """Start a task again, in a larger worker if it ran out of memory, or fail it for good.

    Parameters
    ----------
    cluster : PoolCluster
        Whose task; called on its loop.
    task : TaskState
        It waits for a worker.
    death : Death
        Of the worker that ran it.
    """
    worker = str(death.worker.name)
    pool = cluster.pools.get(pool_of(worker))
    # Who of several took the memory is not known yet.
    guilty = death.out_of_memory and death.tasks == 1
    required, message = dict(task.resource_restrictions or {}), ""
    error: Exception | None = None
    if guilty:
        message = _used_too_much(task, death, pool)
        error, required = _after_memory(cluster, task, death, pool, message)
    elif task.suspicious > death.kills_allowed:
        error = KilledWorker(task.key, death.worker.clean(), death.kills_allowed)
    elif death.out_of_memory and pool is not None:
        # Alone from now on, so that it takes nobody along, and another death tells.
        required[THREADS] = float(pool.shape.threads)
    cluster.scheduler.log_event(
        ATTEMPT_LOST,
        {
            "key": task.key,
            "worker": worker,
            "out_of_memory": guilty,
            "peak_bytes": death.peak_bytes or None,
            "error_type": type(error).__name__ if error is not None else "TaskOutOfMemory" if guilty else "WorkerLost",
            "error": str(error) if error is not None else message or f"worker {worker} died",
            "final": error is not None,
        },
    )
    if error is not None:
        fail(cluster.scheduler, task, error)
    else:
        _start_again(cluster.scheduler, task, required)


def fail(scheduler: Scheduler, task: TaskState, error: Exception) -> None:
    """Fail a task that waits for a worker."""
    stimulus = f"failed-{time.time()}"
    follow = scheduler.transition(
        task.key,
        "erred",
        exception=pickle.dumps(error),
        exception_text=f"{type(error).__name__}({error})",
        cause=task.key,
        stimulus_id=stimulus,
    )
    scheduler.transitions(follow, stimulus_id=stimulus)


def _used_too_much(task: TaskState, death: Death, pool: Pool | None) -> str:
    asked = (pool.shape.component.resources.memory_bytes if pool is not None else None) or 0
    reached = f"it reached {_in_mebibytes(death.peak_bytes)} of" if death.peak_bytes else "its worker had"
    return f"task '{task.key}' ran out of memory: {reached} {format_bytes(asked)}"


def _after_memory(
    cluster: PoolCluster, task: TaskState, death: Death, pool: Pool | None, message: str
) -> tuple[Exception | None, dict[str, float]]:
    """Return the error of a task that has no retries, or what it requires of the next worker."""
    # Its retries bound how often it may do this, not how many workers may die under a task.
    task.suspicious -= 1
    required = dict(task.resource_restrictions or {})
    asked = (pool.shape.component.resources.memory_bytes if pool is not None else None) or 0
    if not task.retries:
        return TaskOutOfMemory(message, asked, death.peak_bytes), required
    step = cluster.memory_step(task.key, asked) if pool is not None else None
    if step and pool is not None:
        larger = cluster.add_pool(pool.shape.enlarged(step))
        if larger.broken:
            return TaskOutOfMemory(f"{message}; {larger.broken}", asked, death.peak_bytes), required
        kept = {name: amount for name, amount in required.items() if name not in pool.shape.own_labels}
        required = {larger.shape.name: 1.0, **kept}
    task.retries -= 1
    return None, required


def _start_again(scheduler: Scheduler, task: TaskState, required: dict[str, float]) -> None:
    stimulus = f"again-{time.time()}"
    if required == (task.resource_restrictions or {}):
        scheduler.transitions({task.key: "processing"}, stimulus_id=stimulus)
        return
    # By way of `released`, so that those who count tasks by what they require see it move.
    scheduler.transition(task.key, "released", stimulus_id=stimulus)
    task.resource_restrictions = required
    scheduler.transitions({task.key: "waiting"}, stimulus_id=stimulus)


def _in_mebibytes(size: int) -> str:
    return format_bytes(round(size / 2**20) * 2**20)
