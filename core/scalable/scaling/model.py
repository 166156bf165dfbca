"""What a scaling policy sees, and what it says: plain data, so that every decision can be told, and made again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

__all__ = [
    "GroupView",
    "Observation",
    "Policy",
    "PoolInfo",
    "PoolView",
    "ScaleDecision",
    "TagInfo",
    "TagView",
]


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """What does not change of a pool.

    Attributes
    ----------
    name : str
        The pool.
    adapter : str
        Who starts and stops its worker groups: the target that its provider serves.
    limit, minimum : int
        Workers, at the most and at the least.
    adapter_limit : int or None
        Workers of all pools of its adapter, at the most; ``None`` for no bound of its own.
    threads : int
        Tasks that one worker runs at a time.
    group_size : int
        Workers that start and stop together.
    labels : mapping of str to float
        What a worker offers.
    price_per_s : float
        What a worker-second costs, more than zero: US dollars where that is known, else cpus.
        Policies compare; they do not add it to dollars.
    usd_per_s : float or None
        US dollars of a worker-second; 0 where nothing is paid, ``None`` where it is not known.
    min_bill_s : float
        Seconds that are paid for at the least.
    wait_s, boot_s : float or None
        Seconds from asking for a worker to where it is paid for, and from there to where it
        is up, as was seen before or is usual; ``None`` where nothing is known.
    """

    name: str
    adapter: str = ""
    limit: int = 1
    minimum: int = 0
    threads: int = 1
    group_size: int = 1
    labels: Mapping[str, float] = field(default_factory=dict)
    price_per_s: float = 1.0
    usd_per_s: float | None = None
    min_bill_s: float = 0.0
    wait_s: float | None = None
    boot_s: float | None = None
    adapter_limit: int | None = None


@dataclass(frozen=True, slots=True)
class GroupView:
    """One worker group at one moment.

    Attributes
    ----------
    name : str
        Its identifier.
    workers : int
        Those of it that are up; 0 while it starts.
    waiting, running : int
        Tasks in line on its workers, and under way there.
    age_s : float
        Seconds since it was asked for.
    """

    name: str
    workers: int = 0
    waiting: int = 0
    running: int = 0
    age_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool at one moment; workers are in exactly one of the five counts.

    Attributes
    ----------
    info : PoolInfo
        What does not change.
    idle, busy : int
        Workers that are up and have nothing to do, or have.
    starting, unbilled : int
        Workers on their way, and how many of these are not paid for yet.
    draining : int
        Workers that finish what they have and leave.
    idle_ages, start_ages : sequence of float
        Seconds for which each idle worker has had nothing to do, and for which each starting
        one has been on its way; the longest first.
    startups : sequence of float
        Seconds that each worker took that came up since the observation before.
    failed : int
        Workers that were lost, or did not start, since the observation before.
    groups : tuple of GroupView
        Empty unless the policy asks for them; the oldest first.
    broken : str
        Why it gets no workers any more; empty while it does.
    """

    info: PoolInfo
    idle: int = 0
    busy: int = 0
    starting: int = 0
    draining: int = 0
    unbilled: int = 0
    idle_ages: Sequence[float] = ()
    start_ages: Sequence[float] = ()
    startups: Sequence[float] = ()
    failed: int = 0
    groups: tuple[GroupView, ...] = ()
    broken: str = ""

    @property
    def live(self) -> int:
        """Workers that are there to stay: idle, busy or on their way."""
        return self.idle + self.busy + self.starting


@dataclass(frozen=True, slots=True)
class TagInfo:
    """What is known beforehand of tasks of one kind.

    Attributes
    ----------
    name : str
        The kind: tasks that take the same of a worker and have the same name.
    pools : tuple of str
        Pools that can run them, the one that is meant for them first.
    slots : mapping of str to int
        How many of them one worker runs at a time, by pool; 1 where it is not said.
    requires : mapping of str to float
        What one of them takes of a worker.
    parents : tuple of str
        Kinds whose tasks they wait for.
    history : sequence of tuple of float or None, and float
        Size of the input (any unit, as long as it is the same; ``None`` if not known) and
        seconds of past tasks.
    prior_s : float or None
        Seconds that one is said to take.
    """

    name: str
    pools: tuple[str, ...]
    slots: Mapping[str, int] = field(default_factory=dict)
    requires: Mapping[str, float] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    history: Sequence[tuple[float | None, float]] = ()
    prior_s: float | None = None


@dataclass(frozen=True, slots=True)
class TagView:
    """Tasks of one kind at one moment.

    Attributes
    ----------
    info : TagInfo
        What is known beforehand.
    queued, running, blocked : int
        Tasks that could run and do not, that run, and that wait for others.
    arrived, done : int
        Tasks that have come and that have ended so far.
    queued_sizes : sequence of tuple of float and int, or None
        Size of the input and how many queued tasks have about that; ``None`` if sizes are not known.
    running_for : sequence of tuple of float, and float or None
        Seconds for which each running task has run, and the size of its input.
    completions : sequence of tuple of float or None, and float
        Size of the input and seconds of each task that ended since the observation before.
    """

    info: TagInfo
    queued: int = 0
    running: int = 0
    blocked: int = 0
    arrived: int = 0
    done: int = 0
    queued_sizes: Sequence[tuple[float, int]] | None = None
    running_for: Sequence[tuple[float, float | None]] = ()
    completions: Sequence[tuple[float | None, float]] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a policy sees, at one moment.

    Attributes
    ----------
    now : float
        Seconds on a clock that never goes back.
    pools : mapping of str to PoolView
        In the manifest's order.
    tags : mapping of str to TagView
        Kinds of tasks; more may come while the run goes on.
    limit, minimum : int or None
        Workers of all pools together, at the most and at the least; ``None`` for no bound.
    budget_usd : float or None
        US dollars that are left to spend.
    deadline_s : float or None
        Seconds that are left.
    """

    now: float
    pools: Mapping[str, PoolView]
    tags: Mapping[str, TagView]
    limit: int | None = None
    minimum: int | None = None
    budget_usd: float | None = None
    deadline_s: float | None = None


@dataclass(frozen=True, slots=True)
class ScaleDecision:
    """What is to change.

    Attributes
    ----------
    workers_to_add, workers_to_remove : dict of str to int
        Workers by pool; those that leave are up. Only idle ones are ever taken.
    workers_to_cancel : dict of str to int
        Starting workers by pool that are not to come after all, the latest first.
    workers_to_expire : dict of str to int
        Starting workers by pool that have been on their way for too long, the oldest first.
    workers_to_drain : dict of str to int
        Workers by pool that finish what they have and leave, those with least to do first.
    groups_to_stop : dict of str to tuple of str
        Worker groups by pool that are to leave, where the policy says which; what they run is finished.
    reasoning : str
        Why, for people.
    confidence : float
        How much is known of what it rests on, from 0 to 1.
    predicted_completion_time : float or None
        Seconds until all present tasks are done; ``None`` if nobody can tell.
    timestamp : float
        When it was made, on the clock of the observation.
    reasons : dict of str to str
        Why, by pool.
    """

    workers_to_add: dict[str, int] = field(default_factory=dict)
    workers_to_remove: dict[str, int] = field(default_factory=dict)
    workers_to_cancel: dict[str, int] = field(default_factory=dict)
    groups_to_stop: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reasoning: str = ""
    confidence: float = 1.0
    predicted_completion_time: float | None = None
    timestamp: float = 0.0
    reasons: dict[str, str] = field(default_factory=dict)
    workers_to_expire: dict[str, int] = field(default_factory=dict)
    workers_to_drain: dict[str, int] = field(default_factory=dict)

    @property
    def has_changes(self) -> bool:
        """Whether anything is to change."""
        return bool(self.pools)

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools in which anything is to change."""
        changes: tuple[Mapping[str, object], ...] = (
            self.workers_to_add,
            self.workers_to_remove,
            self.workers_to_cancel,
            self.workers_to_expire,
            self.workers_to_drain,
            self.groups_to_stop,
        )
        return tuple(dict.fromkeys(name for change in changes for name in change))


@runtime_checkable
class Policy(Protocol):
    """Who decides; from what it is shown alone, so that the same observations make the same decisions.

    Attributes
    ----------
    name : str
        What a target's ``scaling`` says.
    interval_s : float
        Seconds between two looks.
    wants_groups : bool
        Whether observations are to have worker groups, which costs a step for each worker.
    """

    name: str
    interval_s: float
    wants_groups: bool

    def decide(self, observation: Observation) -> ScaleDecision:
        """Return what is to change."""
        ...
