"""What is to run, and what workers can be had for it: the plain data that planning starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scalable.errors import PlanError

__all__ = ["PoolModel", "TaskGroup", "Workload"]


@dataclass(frozen=True, slots=True)
class TaskGroup:
    """Tasks of one name.

    Attributes
    ----------
    name : str
        Their name.
    pool : str
        Where they run.
    count : int
        How many there are.
    durations_s : sequence of float
        Seconds that such tasks took, or are thought to take; each task's duration is drawn
        from them. Empty where nobody knows.
    after : tuple of str
        Groups of which all tasks are done before any of these starts.
    each : tuple of str
        Groups that are waited for task by task: the first of these starts when its share of
        the other group's tasks is done, as a sample's second step follows its first.
    slots : int
        How many of them one worker runs at a time.
    cpus : float
        Cores of one task.
    memory_bytes : int or None
        Bytes of one task.
    source : str
        Where the numbers come from, for people.
    """

    name: str
    pool: str
    count: int
    durations_s: Sequence[float] = ()
    after: tuple[str, ...] = ()
    each: tuple[str, ...] = ()
    slots: int = 1
    cpus: float = 1.0
    memory_bytes: int | None = None
    source: str = ""

    @property
    def mean_s(self) -> float:
        """Mean seconds of one task."""
        return sum(self.durations_s) / len(self.durations_s) if self.durations_s else 0.0

    @property
    def parents(self) -> tuple[str, ...]:
        """All groups that it waits for."""
        return (*self.after, *self.each)


@dataclass(frozen=True, slots=True)
class Workload:
    """All tasks of a run.

    Attributes
    ----------
    groups : tuple of TaskGroup
        Each after all that it waits for.
    known : bool
        Whether nothing of it is a guess.
    """

    groups: tuple[TaskGroup, ...]
    known: bool = True

    @classmethod
    def of(cls, groups: Iterable[TaskGroup], *, known: bool = True) -> Workload:
        """Put groups into an order in which each comes after those that it waits for.

        Raises
        ------
        PlanError
            If a group waits for one that is not there, or for itself in a circle.
        """
        given = {group.name: group for group in groups}
        for group in given.values():
            if strangers := set(group.parents) - given.keys():
                raise PlanError(f"tasks '{group.name}' wait for '{min(strangers)}', of which there are none")
        ordered: dict[str, TaskGroup] = {}
        waiting = dict(given)
        while waiting:
            ready = [group for group in waiting.values() if ordered.keys() >= set(group.parents)]
            if not ready:
                raise PlanError(f"tasks wait for each other in a circle: {', '.join(waiting)}")
            for group in ready:
                ordered[group.name] = waiting.pop(group.name)
        return cls(tuple(group for group in ordered.values() if group.count > 0), known)

    @property
    def tasks(self) -> int:
        """How many tasks there are."""
        return sum(group.count for group in self.groups)

    @property
    def by_pool(self) -> Mapping[str, tuple[TaskGroup, ...]]:
        """The groups of each pool."""
        found: dict[str, tuple[TaskGroup, ...]] = {}
        for group in self.groups:
            found[group.pool] = (*found.get(group.pool, ()), group)
        return found


@dataclass(frozen=True, slots=True)
class PoolModel:
    """Workers of one pool, as far as planning is concerned.

    Attributes
    ----------
    name : str
        The pool.
    limit : int
        Workers, at the most.
    wait_s : sequence of float
        Seconds from asking for a worker to where it is paid for, as seen or as usual: each
        worker's is drawn from them.
    boot_s : sequence of float
        Seconds from there to where it is up, likewise.
    price_per_s : float
        What one worker costs a second; any unit, as long as all pools and the budget have it.
    min_bill_s : float
        Seconds of a worker that are paid for at the least.
    """

    name: str
    limit: int = 1_000_000
    wait_s: Sequence[float] = (0.0,)
    boot_s: Sequence[float] = (0.0,)
    price_per_s: float = 1.0
    min_bill_s: float = 0.0

    @property
    def startup_s(self) -> float:
        """Mean seconds from asking for a worker to its being up."""
        return sum(self.wait_s) / len(self.wait_s) + sum(self.boot_s) / len(self.boot_s)
