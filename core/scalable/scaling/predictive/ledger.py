"""What a run has cost so far, in money and in waiting, and which jobs are open."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from scalable.scaling.model import Observation

__all__ = ["Job", "Ledger"]

_OPEN_KEPT = 128


@dataclass(slots=True)
class Job:
    """Tasks that came together: whoever sent them waits for the last of them.

    Attributes
    ----------
    since_s : float
        When they came.
    ends : dict of str to int
        By kind, how many tasks had come when the last of them had.
    weight : float
        For how many jobs it stands.
    finish_s : dict of str to float
        By kind, when they are predicted to be done.
    """

    since_s: float
    ends: dict[str, int]
    weight: float = 1.0
    finish_s: dict[str, float] = field(default_factory=dict)

    def without(self, kinds: Iterable[str]) -> float:
        """Return when all but tasks of these kinds are predicted to be done."""
        return max((at for kind, at in self.finish_s.items() if kind not in kinds), default=0.0)


class Ledger:
    """Totals of a run: money paid, and job-seconds waited; open jobs, and how many these stand for."""

    def __init__(self) -> None:
        self.paid = 0.0
        self.waited = 0.0
        self.jobs: list[Job] = []
        self.open = 0.0
        self._now: float | None = None
        self._arrived: dict[str, int] = {}

    def see(self, seen: Observation) -> None:
        """Take note of the time that has passed and of what has come."""
        passed = 0.0 if self._now is None else max(0.0, seen.now - self._now)
        self._now = seen.now
        for view in seen.pools.values():
            self.paid += passed * view.info.price_per_s * (view.live + view.draining - view.unbilled)
        self.waited += passed * sum(job.weight for job in self.jobs)
        done = {name: view.done for name, view in seen.tags.items()}
        self.jobs = [job for job in self.jobs if any(done.get(kind, 0) < end for kind, end in job.ends.items())]
        came = {name: view.arrived for name, view in seen.tags.items() if view.arrived > self._arrived.get(name, 0)}
        self._arrived.update(came)
        if came:
            self.jobs.append(Job(seen.now, came))
        if len(self.jobs) > _OPEN_KEPT:
            self.jobs = [_merged(*self.jobs[i : i + 2]) for i in range(0, len(self.jobs), 2)]
        self.open = sum(job.weight for job in self.jobs)


def _merged(first: Job, second: Job | None = None) -> Job:
    if second is None:
        return first
    since = (first.since_s * first.weight + second.since_s * second.weight) / (first.weight + second.weight)
    return Job(since, first.ends | second.ends, first.weight + second.weight, first.finish_s | second.finish_s)
