"""What the scheduler must remember of task runs, so that none is run twice unasked.

Dask repeats a task whose worker died, and one whose result was lost. Prefect's users have
not asked for that: the task may have sent a mail. The ledger notes on the scheduler which
tasks have begun and ended; a worker that is given one for the second time reads it there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from distributed.diagnostics.plugin import SchedulerPlugin
from prefect.client.schemas.objects import State
from prefect.states import Crashed

from scalable import ATTEMPT_LOST
from scalable_prefect import buffers

__all__ = ["LOST", "STARTED", "Ledger", "Verdict", "verdict_on"]

STARTED: Final = "scalable-prefect-started"
"""Dask event topic: a worker begins a task run."""

LOST: Final = "scalable-prefect-lost"
"""Dask event topic: a worker died under a task run."""

_ANNOTATION: Final = "scalable_prefect"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a task's earlier attempts.

    Attributes
    ----------
    lost : int
        Attempts under which a worker died.
    completed : bool
        Whether one had ended, and its result was lost.
    under_way : bool
        Whether a worker has begun one that has not ended.
    """

    lost: int = 0
    completed: bool = False
    under_way: bool = False

    def may_run(self, retries: int) -> bool:
        """Whether the task may run now; a worker's death uses up one of its retries."""
        return not self.completed and self.lost <= retries

    def state(self) -> State[Any]:
        """Return the state of a task run that may not run again."""
        if self.completed:
            message = (
                "The task run had ended, but its result was lost with the worker that held it. It is not run again "
                "unasked; keep results in storage with persist_result=True."
            )
        else:
            message = lost_message(self.lost)
        return Crashed(message=message, data=WorkerDied(message))


class WorkerDied(Exception):
    """A worker died under a task run, or with its result."""


def lost_message(lost: int, worker: str = "", memory: str = "") -> str:
    """Return what is said of a task run whose worker died; ``memory``: what is known of one that ran out of it."""
    if memory:
        again = f" It is the last of {lost} workers that died under it." if lost > 1 else ""
        return f"{memory[0].upper()}{memory[1:]}.{again}"
    which = f"Worker {worker}" if worker else "The worker"
    again = f", the last of {lost}," if lost > 1 else ""
    return f"{which}{again} died while it ran this task: out of memory, preempted or killed."


class Ledger(SchedulerPlugin):
    """Note on the scheduler what became of task runs that have begun."""

    name = "scalable-prefect-ledger"
    idempotent = True

    def __init__(self) -> None:
        self._verdicts: dict[str, Verdict] = {}
        self._scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """Remember the scheduler; called by Dask when the plugin is added."""
        self._scheduler = scheduler
        buffers.serve(scheduler)

    def log_event(self, topic: str, msg: Any) -> None:
        """Note a task run that begins, and tell of one that was lost once it is known why."""
        if topic == STARTED:
            known = self._verdicts.get(msg["key"], Verdict())
            self._verdicts[msg["key"]] = replace(known, under_way=True)
        elif topic == ATTEMPT_LOST and msg["key"] in self._verdicts:
            memory = msg["error"] if msg["out_of_memory"] else ""
            self._scheduler.log_event(
                LOST, {"key": msg["key"], "lost": self._verdicts[msg["key"]].lost, "memory": memory}
            )

    def transition(self, key: Any, start: str, finish: str, *_: Any, stimulus_id: str, **__: Any) -> None:
        """Follow task runs that have begun from one of Dask's states to another."""
        known = self._verdicts.get(key)
        if known is None:
            return
        if finish == "memory":
            self._verdicts[key] = Verdict(known.lost, completed=True)
        elif finish == "forgotten":
            del self._verdicts[key]
        elif finish == "waiting":
            self._again(key, known)

    def _again(self, key: str, known: Verdict) -> None:
        verdict = Verdict(known.lost + known.under_way, completed=known.completed)
        self._verdicts[key] = verdict
        task = self._scheduler.tasks[key]
        task.annotations = {**(task.annotations or {}), _ANNOTATION: [verdict.lost, verdict.completed]}


def verdict_on(worker: Any, key: str) -> Verdict:
    """Return what the scheduler told a worker of a task's earlier attempts."""
    task = worker.state.tasks.get(key)
    noted = (task.annotations or {}).get(_ANNOTATION) if task is not None else None
    return Verdict(*noted) if noted else Verdict()
