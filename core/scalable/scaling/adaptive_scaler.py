"""`AdaptiveScaler`: workers by tag from how busy they are, for whoever runs the loop."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from scalable.errors import PlanError
from scalable.scaling.busyness import Busyness, Load
from scalable.scaling.durations import DurationAdvisor, Durations, Estimate
from scalable.scaling.model import ScaleDecision

__all__ = ["AdaptiveScaler"]

Task = Mapping[str, Any]

_HISTORY = 1000
_SAMPLED = 1000
_GROWTH = 10


class AdaptiveScaler:
    """Decide on the number of workers of each tag from how busy they are.

    Parameters
    ----------
    advisor : DurationAdvisor, optional
        Says how long tasks take of which none has ended yet, such as
        :class:`~scalable.ResourceAdvisor` or :class:`~scalable.LearnedAdvisor`.
    min_workers, max_workers : mapping of str to int
        Workers by tag, at the least and at the most. A tag without a maximum gains at most ten
        at a time.
    scale_up_threshold : float
        The share of workers that are busy, or have a task in line, above which more come;
        default 0.8. As many come as the work that is left pays for, until no more than this
        share is busy.
    scale_down_threshold : float
        The share of its time below which a worker is not busy enough to stay; default 0.2.
    cooldown_seconds : float
        Seconds after a change of a tag's workers before the next; default 60. It delays neither
        the first worker of a tag whose tasks wait, nor what is missing of a minimum, nor the
        replacement of workers that were lost; nor, once some have left, that others leave
        that are not busy enough.
    startup_s, boot_s : float
        Seconds that a worker takes to come, and how many of these are paid for; default 60
        and 10. A worker that has had nothing to do for longer than it would cost to start
        another is not worth keeping, so that it is ``boot_s`` over which it is looked at how
        busy workers were.
    clock : callable, optional
        Returns seconds that never go back; default is ``time.monotonic``.

    Attributes
    ----------
    decision_history : deque of ScaleDecision
        The last thousand decisions.

    Raises
    ------
    PlanError
        If the thresholds are not 0 <= down < up, or a minimum is more than a maximum.

    Examples
    --------
    >>> scaler = AdaptiveScaler(min_workers={"demeter": 2}, max_workers={"demeter": 20})
    >>> scaler.evaluate(pending_tasks=[{"tag": "demeter"}] * 5, active_workers={"demeter": 0}).workers_to_add
    {'demeter': 5}
    """

    remove_mode = "idle"
    """What is to leave: workers that have nothing to do."""

    def __init__(  # noqa: PLR0917  (the order that users know)
        self,
        advisor: DurationAdvisor | None = None,
        min_workers: Mapping[str, int] | None = None,
        max_workers: Mapping[str, int] | None = None,
        scale_up_threshold: float = 0.8,
        scale_down_threshold: float = 0.2,
        cooldown_seconds: float = 60.0,
        *,
        startup_s: float = 60.0,
        boot_s: float = 10.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._min = dict(min_workers or {})
        self._max = dict(max_workers or {})
        _check_bounds(self._min, self._max)
        self._busyness = Busyness(scale_up_threshold, scale_down_threshold, cooldown_seconds, boot_s)
        self._durations = Durations(advisor)
        self._startup_s = startup_s
        self._boot_s = boot_s
        self._clock = clock
        self.decision_history: deque[ScaleDecision] = deque(maxlen=_HISTORY)

    def evaluate(
        self,
        pending_tasks: Sequence[Task] = (),
        active_workers: Mapping[str, int] | None = None,
        recent_completions: Iterable[Task] | None = None,
        *,
        running_tasks: Sequence[Task] | None = None,
        blocked_tasks: Mapping[str, int] | None = None,
        idle_workers: Mapping[str, int] | None = None,
        starting_workers: Mapping[str, int] | None = None,
    ) -> ScaleDecision:
        """Return what is to change.

        Parameters
        ----------
        pending_tasks : sequence of mapping
            Each with its ``tag`` (or ``component``; else it is ``"default"``) and, if known,
            its ``features``. Those that wait for a worker; all that are not done if
            ``running_tasks`` is not given.
        active_workers : mapping of str to int
            Workers by tag, starting ones included.
        recent_completions : iterable of mapping, optional
            Tasks that ended since the evaluation before, each with ``tag``, ``duration_s`` in
            seconds and, if known, ``features``.
        running_tasks : sequence of mapping, optional
            Tasks under way, each with its ``tag`` and, if known, ``elapsed_s`` in seconds.
        blocked_tasks : mapping of str to int, optional
            Tasks by tag that wait for others; the last worker for them stays.
        idle_workers, starting_workers : mapping of str to int, optional
            Of the active workers those that have nothing to do, and those on their way; by
            default those that no task is for, and none.
        """
        for task in recent_completions or ():
            self._durations.learn(_tag(task), task["duration_s"], task.get("features"))
        active = active_workers or {}
        queued, running = _count(pending_tasks), _count(running_tasks or ())
        estimates = self._estimates(pending_tasks, queued.keys() | running.keys())
        elapsed = _elapsed(running_tasks or ())
        loads = {}
        for tag in dict.fromkeys((*active, *queued, *running, *self._min)):
            workers, starting = active.get(tag, 0), (starting_workers or {}).get(tag, 0)
            up = max(0, workers - starting)
            idle = max(0, up - running[tag] - (queued[tag] if running_tasks is None else 0))
            if idle_workers is not None:
                idle = min(up, idle_workers.get(tag, 0))
            least, most = self._bounds(tag, workers)
            loads[tag] = Load(
                queued=queued[tag] if running_tasks is not None else max(0, queued[tag] - (up - idle)),
                running=running[tag] if running_tasks is not None else min(up - idle, queued[tag]),
                blocked=(blocked_tasks or {}).get(tag, 0),
                idle=idle,
                busy=up - idle,
                starting=starting,
                minimum=least,
                maximum=most,
                estimate=estimates.get(tag, Estimate()),
                elapsed_s=elapsed.get(tag, 0.0),
                startup_s=self._startup_s,
                boot_s=self._boot_s,
            )
        # Looked up at each call, so that a clock put in its place is followed.
        now = self._clock() if self._clock else time.monotonic()
        decision = self._busyness.decide(now, loads, time.time())
        self.decision_history.append(decision)
        return decision

    def _estimates(self, pending: Sequence[Task], tags: Iterable[str]) -> dict[str, Estimate]:
        features: dict[str, list[Mapping[str, Any] | None]] = {tag: [] for tag in tags}
        for task in pending[:: max(1, len(pending) // _SAMPLED)]:
            features[_tag(task)].append(task.get("features"))
        return {tag: self._durations.estimate(tag, some) for tag, some in features.items()}

    def _bounds(self, tag: str, workers: int) -> tuple[int, int]:
        least = self._min.get(tag, 0)
        return least, self._max.get(tag, max(least, workers + _GROWTH))


def _check_bounds(least: Mapping[str, int], most: Mapping[str, int]) -> None:
    for tag, count in (*least.items(), *most.items()):
        if count < 0:
            raise PlanError(f"workers of '{tag}' cannot be {count}; write 0 or more")
    for tag, count in least.items():
        if count > most.get(tag, count):
            raise PlanError(f"min_workers of '{tag}' is {count}, more than its max_workers, {most[tag]}")


def _tag(task: Task) -> str:
    return str(task.get("tag") or task.get("component") or "default")


def _count(tasks: Sequence[Task]) -> Counter[str]:
    try:
        return Counter(map(itemgetter("tag"), tasks))
    except KeyError:
        return Counter(map(_tag, tasks))


def _elapsed(tasks: Iterable[Task]) -> Counter[str]:
    total: Counter[str] = Counter()
    for task in tasks:
        total[_tag(task)] += task.get("elapsed_s", 0.0)
    return total
