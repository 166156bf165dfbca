"""From what a task needs to what a worker is given."""

from __future__ import annotations

import math

__all__ = ["HEADROOM", "ideal_workers", "round_up", "task_bytes", "walltime_s", "walltime_text", "worker_bytes"]

HEADROOM = 1.2
"""Factor on what was seen where too little was seen to be sure."""

MIB = 2**20
_GIB = 2**30

# Dask's nanny kills a worker at 95 % of its memory, and at 80 % the worker begins nothing more
# (`distributed.worker.memory.terminate`, `.pause`), which no provider of ours changes. A process
# often keeps what its last task took: above 80 % it would stand still for ever.
_PAUSE = 0.8
# The nanny, and Python's resource tracker: some 75 MiB, which a batch system counts as the job's.
_BESIDE = 96 * MIB


def worker_bytes(task_bytes: float, tasks: int = 1) -> int:
    """Return the memory of a worker in which tasks live that reach this peak, and others begin after them.

    Parameters
    ----------
    task_bytes : float
        Bytes that one task needs, the process around it included.
    tasks : int
        How many it runs at a time.
    """
    need = task_bytes * max(1, tasks)
    return round_up(max(need / _PAUSE, need + _BESIDE))


def task_bytes(worker: float) -> int:
    """Return the peak for which a worker of so many bytes is meant; the inverse of :func:`worker_bytes`."""
    return max(1, math.floor(worker * _PAUSE))


def round_up(size: float) -> int:
    """Return a size in bytes rounded up to one that people would write.

    The step is at most a sixteenth of the size from 1G on, so that rounding wastes little, and
    not much less, so that nearly equal needs become equal workers: 64M below 4G, 256M below
    16G, 1G from there on.

    Examples
    --------
    >>> [round_up(gib * 2**30) / 2**30 for gib in (0.5, 0.51, 4.1, 17.2)]
    [0.5, 0.5625, 4.25, 18.0]
    """
    step = 64 * MIB if size < 4 * _GIB else 256 * MIB if size < 16 * _GIB else _GIB
    return max(1, math.ceil(size / step)) * step


def walltime_s(duration_s: float) -> float:
    """Return the seconds to give a job for one task: with headroom, in whole minutes, as batch systems count."""
    return max(1, math.ceil(duration_s * HEADROOM / 60)) * 60.0


def walltime_text(seconds: float) -> str:
    """Return seconds as ``HH:MM:SS``, rounded up.

    Examples
    --------
    >>> walltime_text(9000), walltime_text(100 * 3600)
    ('02:30:00', '100:00:00')
    """
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def ideal_workers(work_s: float, startup_s: float, longest_s: float, tasks: int) -> int:
    """Return how many workers finish a run's work with the least product of time and cost.

    With w workers that take s seconds to start, and W seconds of work for one of them, a run
    takes ``T = s + W / w`` and costs ``C = w * T = w * s + W`` seconds of workers. The product
    ``T * C = w * s**2 + 2 * s * W + W**2 / w`` is least where its derivative
    ``s**2 - W**2 / w**2`` is zero, at ``w = W / s``: there a worker works as long as it took
    to start. More than ``W / longest`` cannot shorten the run, whose longest task one worker
    has to do; and more workers than tasks would find nothing.

    Parameters
    ----------
    work_s : float
        Seconds that one worker would work, W.
    startup_s : float
        Seconds until a worker that is asked for is up, s.
    longest_s : float
        Seconds of the longest task.
    tasks : int
        As many workers as this have something to do.

    Examples
    --------
    >>> ideal_workers(3600, 60, 30, 1000), ideal_workers(3600, 60, 900, 1000), ideal_workers(3600, 0, 1, 7)
    (60, 4, 7)
    """
    ideal = round(work_s / startup_s) if startup_s > 0 else tasks
    useful = math.floor(work_s / longest_s + 1e-9) if longest_s > 0 else tasks
    return max(1, min(ideal, useful, tasks))
