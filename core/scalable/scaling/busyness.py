"""The number of workers from how busy they are: thresholds, a cooldown, bounds; pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from scalable.errors import PlanError
from scalable.scaling.durations import Estimate
from scalable.scaling.levels import Levels
from scalable.scaling.model import ScaleDecision

__all__ = ["GUESSED_TASK_S", "Busyness", "Load"]

GUESSED_TASK_S = 30.0
"""Seconds that a task is taken for where nothing is known."""

_LEAST_WORTH_S = 1e-3


@dataclass(frozen=True, slots=True)
class Load:
    """Tasks and workers of one tag at one moment.

    Attributes
    ----------
    queued, running, blocked : int
        Tasks that wait for a worker, that run (those of one worker as one), and that wait for others.
    idle, busy, starting : int
        Workers that have nothing to do, or have, or are on their way.
    minimum, maximum : int
        Workers.
    estimate : Estimate
        How long one task takes.
    elapsed_s : float
        Seconds for which the running tasks have run, together.
    startup_s, boot_s : float
        Seconds that a worker takes to come, and how many of these are paid for.
    slots : float
        Tasks that one worker runs at a time.
    """

    queued: int = 0
    running: int = 0
    blocked: int = 0
    idle: int = 0
    busy: int = 0
    starting: int = 0
    minimum: int = 0
    maximum: int = 0
    estimate: Estimate = field(default_factory=Estimate)
    elapsed_s: float = 0.0
    startup_s: float = 60.0
    boot_s: float = 10.0
    slots: float = 1.0

    @property
    def workers(self) -> int:
        """All of them."""
        return self.idle + self.busy + self.starting

    @property
    def task_s(self) -> float:
        """Seconds that one task takes, or is taken to."""
        return GUESSED_TASK_S if self.estimate.seconds is None else self.estimate.seconds

    @property
    def in_hand(self) -> int:
        """Workers that have something to do, or would have at once."""
        return self.busy + math.ceil(self.queued / self.slots)

    @property
    def work_s(self) -> float:
        """Worker-seconds of the tasks that are there."""
        left = max(0.2 * self.running * self.task_s, self.running * self.task_s - self.elapsed_s)
        return self.queued * self.task_s / self.slots + left

    def useful(self, share: float) -> int:
        """Return how many workers the tasks that are there pay for, each busy for this share of its time.

        A worker pays if it gets ``sqrt(boot * (startup + task))`` seconds of work, where the
        product of money and time is least: n workers cost work + n boots, and take a start-up,
        work / n and one task. What those who are there do before a new one could come is
        not for new ones.
        """
        early = (self.idle + self.busy + 0.5 * self.starting) * self.startup_s
        left = max(0.0, self.work_s - early)
        worth = max(_LEAST_WORTH_S, math.sqrt(self.boot_s * (self.startup_s + self.task_s)))
        wanted = math.ceil((self.busy + self.idle_taken + self.starting + left / worth) / share)
        return min(self.enough(share), wanted)

    def enough(self, share: float) -> int:
        """Return the workers of which no more than this share is busy; the first start without spare ones."""
        return math.floor(self.in_hand / share) if self.workers else self.in_hand

    @property
    def idle_taken(self) -> int:
        """Idle workers that queued tasks are for."""
        return min(self.idle, math.ceil(self.queued / self.slots))


@dataclass(slots=True)
class _Memory:
    levels: Levels
    changed_at: float = -math.inf
    shrinking: bool = False
    expected: int = 0


class Busyness:
    """Decide by tag; what is kept from one look to the next is when a change was, and how busy workers were.

    Parameters
    ----------
    up : float
        The share of busy workers above which more come.
    down : float
        The share of its time below which a worker is not busy enough to stay.
    cooldown_s : float
        Seconds between two changes of a tag's workers; workers that are not busy enough go on to leave.
    window_s : float
        Seconds over which it is looked at how busy they were.
    """

    def __init__(self, up: float, down: float, cooldown_s: float, window_s: float) -> None:
        if not 0 <= down < up:
            raise PlanError(
                f"scale_down_threshold must be less than scale_up_threshold and not negative, not {down} and {up}"
            )
        if not cooldown_s >= 0:
            raise PlanError(f"cooldown_seconds must be 0 or more, not {cooldown_s}")
        self.up = up
        self.down = down
        self.cooldown_s = cooldown_s
        self.window_s = window_s
        self._memory: dict[str, _Memory] = {}

    def decide(self, now: float, loads: Mapping[str, Load], timestamp: float) -> ScaleDecision:
        """Return what is to change.

        Parameters
        ----------
        now : float
            Seconds on a clock that never goes back.
        loads : mapping of str to Load
            By tag.
        timestamp : float
            What the decision is to say of when it was made.
        """
        add: dict[str, int] = {}
        remove: dict[str, int] = {}
        reasons: dict[str, str] = {}
        for tag, load in loads.items():
            memory = self._memory.get(tag)
            if memory is None:
                memory = self._memory[tag] = _Memory(Levels(self.window_s), expected=load.workers)
            memory.levels.add(now, load.in_hand)
            change, reason = self._change(now, load, memory)
            if change:
                (add if change > 0 else remove)[tag] = abs(change)
                reasons[tag] = reason
                memory.changed_at, memory.shrinking = now, change < 0
            memory.expected = load.workers + change
        return ScaleDecision(
            workers_to_add=add,
            workers_to_remove=remove,
            reasoning="; ".join(f"{tag}: {reason}" for tag, reason in reasons.items()) or "nothing is to change",
            confidence=_confidence(loads),
            predicted_completion_time=_completion_s(loads, add),
            timestamp=timestamp,
            reasons=reasons,
        )

    def _change(self, now: float, load: Load, memory: _Memory) -> tuple[int, str]:
        change, reason = self._wanted(now, load, memory)
        lacking, surplus = load.minimum - load.workers, load.workers - load.maximum
        if lacking > max(0, change):
            return lacking, f"its minimum is {load.minimum}"
        if surplus > 0:
            return -min(load.idle, surplus), f"its maximum is {load.maximum}"
        return max(min(0, lacking), min(change, -surplus)), reason

    def _wanted(self, now: float, load: Load, memory: _Memory) -> tuple[int, str]:
        missing = load.useful(self.up) - load.workers
        cooling = now - memory.changed_at < self.cooldown_s
        if missing > 0 and load.in_hand > self.up * load.workers:
            lost = memory.expected - load.workers
            if load.workers and cooling:
                return max(0, min(lost, missing)), f"{lost} workers were lost"
            return missing, f"{load.busy} of {load.workers} workers busy, {load.queued} tasks wait"
        kept = max(memory.levels.busy(self.down), load.enough(self.up), int(load.blocked > 0))
        spare = min(load.idle, load.workers - kept)
        if spare > 0 and (memory.shrinking or not cooling):
            return -spare, f"{spare} workers were busy for less than {self.down:.0%} of {self.window_s:.0f} s"
        return 0, ""


def _confidence(loads: Mapping[str, Load]) -> float:
    """Return how much is known of durations, in the mean over tasks; 1 where there are none."""
    tasks = sum(load.queued + load.running for load in loads.values())
    if not tasks:
        return 1.0
    known = sum((load.queued + load.running) * load.estimate.confidence for load in loads.values())
    return round(known / tasks, 3)


def _completion_s(loads: Mapping[str, Load], add: Mapping[str, int]) -> float | None:
    """Return seconds until the present tasks are done, ``None`` if that cannot be told."""
    longest = 0.0
    for tag, load in loads.items():
        tasks = load.queued + load.running
        if not tasks:
            continue
        workers = load.workers + add.get(tag, 0)
        if load.estimate.seconds is None or not workers:
            return None
        late = load.startup_s if not load.idle + load.busy else 0.0
        longest = max(longest, late + max(load.work_s / workers, min(load.task_s, load.work_s)))
    return longest
