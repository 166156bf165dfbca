"""Every decision of a run with what it was made from, so that it can be told, and others made in its place.

``scaling.jsonl`` has four kinds of lines. ``infos`` names what does not change, when it is
first seen; ``observation`` is what a policy saw; ``unchanged`` is another look at the same,
with time passed; ``scale_decision`` is one pool's change. Moments in observations are on the
clock of the run, in seconds, so that ages can be told at any look.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from scalable.errors import ScalableError
from scalable.scaling.model import GroupView, Observation, PoolInfo, PoolView, ScaleDecision, TagInfo, TagView
from scalable.telemetry.recorder import Recorder

__all__ = ["DecisionLog", "condensed", "read_observations", "warn_of_skipped"]

logger = logging.getLogger(__name__)

_COUNTS = ("idle", "busy", "starting", "draining", "unbilled", "failed", "broken")
_TASKS = ("queued", "running", "blocked", "arrived", "done")
_RUNNING: Final = 64

Look = tuple[Observation, dict[str, tuple[int, int]]]


class DecisionLog:
    """Write down what was seen and decided.

    Parameters
    ----------
    recorder : Recorder
        Of the run.
    policy : str
        Who decides.
    every_look : bool
        Whether looks are written after which nothing changed: a policy that learns from them
        can only so be asked again.
    """

    def __init__(self, recorder: Recorder, policy: str, *, every_look: bool = True) -> None:
        self._recorder = recorder
        self._policy = policy
        self._every_look = every_look
        self._infos: dict[tuple[str, str], PoolInfo | TagInfo] = {}
        self._last: dict[str, Any] | None = None

    def saw(self, observation: Observation, decision: ScaleDecision) -> None:
        """Write an observation, as far as it is news; call it before what was decided is applied."""
        if self._recorder.directory is None or not (self._every_look or decision.has_changes):
            return
        self._name_what_is_new(observation)
        seen = _encode(observation)
        if seen == self._last:
            self._recorder.append("scaling", {"event": "unchanged", "at": time.time(), "now": observation.now})
            return
        self._last = seen
        self._recorder.append("scaling", {"event": "observation", "at": time.time(), "now": observation.now, **seen})

    def decided(self, decision: ScaleDecision, before: Mapping[str, int], after: Mapping[str, int]) -> None:
        """Write a decision that changed something.

        Parameters
        ----------
        decision : ScaleDecision
            With its reasons.
        before, after : mapping of str to int
            Workers that were and are wanted, by pool.
        """
        for pool, count in after.items():
            if count == before[pool]:
                continue
            self._recorder.append(
                "scaling",
                {
                    "event": "scale_decision",
                    "at": time.time(),
                    "tag": pool,
                    "from": before[pool],
                    "to": count,
                    "direction": "up" if count > before[pool] else "down",
                    "reason": decision.reasons.get(pool, decision.reasoning),
                    "policy": self._policy,
                    "confidence": round(decision.confidence, 3),
                    "predicted_s": decision.predicted_completion_time,
                },
            )

    def _name_what_is_new(self, observation: Observation) -> None:
        news: dict[str, dict[str, Any]] = {"pools": {}, "tags": {}}
        views: tuple[tuple[str, Mapping[str, PoolView | TagView]], ...] = (
            ("pools", observation.pools),
            ("tags", observation.tags),
        )
        for what, seen in views:
            for name, view in seen.items():
                # By identity: who observes keeps what has not changed.
                if self._infos.get((what, name)) is not view.info:
                    self._infos[what, name] = view.info
                    news[what][name] = asdict(view.info)
        if news["pools"] or news["tags"]:
            self._recorder.append("scaling", {"event": "infos", "at": time.time(), **news})


def condensed(observation: Observation) -> Observation:
    """Return an observation with what is enough to decide by, so that thousands of tasks make no long line.

    Whoever decides is to see this, or the log would tell of less than was decided from. Of the
    tasks of each kind that run there are at most 64, evenly spaced, and ``running`` still counts
    all; the money that is left is in cents, so that a look at the same is seen to be one.

    Parameters
    ----------
    observation : Observation
        With all that is known.
    """
    budget_usd = observation.budget_usd
    return replace(
        observation,
        tags={name: _with_some_running(view) for name, view in observation.tags.items()},
        budget_usd=None if budget_usd is None else round(budget_usd, 2),
    )


def _with_some_running(view: TagView) -> TagView:
    last = len(view.running_for) - 1
    if last < _RUNNING:
        return view
    some = [view.running_for[step * last // (_RUNNING - 1)] for step in range(_RUNNING)]
    return replace(view, running_for=some)


def warn_of_skipped(lines: int) -> None:
    """Say in the log how many lines were left out."""
    if lines:
        logger.warning("%d lines of the record of decisions cannot be read and are left out", lines)


def read_observations(run_dir: Path, skipped: Callable[[int], None] = warn_of_skipped) -> Iterator[Look]:
    """Yield what was seen in a run, and what was then decided.

    Parameters
    ----------
    run_dir : Path
        Its directory.
    skipped : callable, optional
        Called at the end with the number of lines that were left out, because they are no
        records or refer to what none before them names; default is a warning in the log.

    Yields
    ------
    Observation
        As the policy saw it.
    dict of str to tuple of int
        Workers wanted before and after, by pool; only pools that changed.

    Raises
    ------
    ScalableError
        If there is no record of decisions, or nothing in it of what was seen.
    """
    path = run_dir / "scaling.jsonl"
    if not path.is_file():
        raise ScalableError(
            f"{run_dir} has no scaling.jsonl: its policy changed nothing and keeps no record of looks, "
            "or it is no run's directory; choose a run of a target that is `adaptive`"
        )
    reader = _Reader()
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            yield from reader.take(line)
    yield from reader.end()
    if not reader.looks:
        raise ScalableError(
            f"{path} has nothing that a policy saw ({reader.skipped} lines cannot be used): it was damaged, "
            "or written by an older release, which kept decisions only; choose another run"
        )
    skipped(reader.skipped)


class _Reader:
    """Put lines together again; those that cannot be understood are counted.

    Attributes
    ----------
    looks, skipped : int
        Looks that were read, and lines that were left out.
    """

    def __init__(self) -> None:
        self.looks = self.skipped = 0
        self._pools: dict[str, PoolInfo] = {}
        self._tags: dict[str, TagInfo] = {}
        self._seen: dict[str, Any] = {}
        self._open: Observation | None = None
        self._decided: dict[str, tuple[int, int]] = {}

    def take(self, line: str) -> Iterator[Look]:
        """Read a line; yield the look before it, if it begins another."""
        try:
            record = json.loads(line)
            looked = record["event"] in ("observation", "unchanged")
            if looked:
                yield from self.end()
            self._read(record)
        except (KeyError, TypeError, ValueError):
            # A run that was killed may end within a line, and another release may say other things.
            self.skipped += 1

    def _read(self, record: Mapping[str, Any]) -> None:
        event = record["event"]
        if event == "infos":
            self._pools |= {name: PoolInfo(**info) for name, info in record["pools"].items()}
            self._tags |= {name: _tag_info(info) for name, info in record["tags"].items()}
        elif event == "scale_decision":
            self._decide(record["tag"], int(record["from"]), int(record["to"]))
        elif event == "observation":
            # What follows a look that cannot be read is not the same as the one before.
            self._seen = {}
            self._open = _decode(record, self._pools, self._tags)
            self._seen = dict(record)
        elif event == "unchanged":
            self._open = _decode(self._without_news(record["now"]), self._pools, self._tags)

    def _decide(self, pool: str, before: int, after: int) -> None:
        if self._open is None or pool not in self._open.pools:
            raise KeyError(pool)
        self._decided[pool] = (before, after)

    def end(self) -> Iterator[Look]:
        """Yield the last look."""
        if self._open is not None:
            self.looks += 1
            yield self._open, self._decided
        self._open, self._decided = None, {}

    def _without_news(self, now: float) -> dict[str, Any]:
        return self._seen | {"now": now}


def _tag_info(info: Mapping[str, Any]) -> TagInfo:
    made = TagInfo(**info)
    history = tuple((size, seconds) for size, seconds in made.history)
    return replace(made, pools=tuple(made.pools), parents=tuple(made.parents), history=history)


def _encode(observation: Observation) -> dict[str, Any]:
    now = observation.now
    return {
        "pools": {name: _encode_pool(view, now) for name, view in observation.pools.items()},
        "tags": {name: _encode_tag(view, now) for name, view in observation.tags.items()},
        "limit": observation.limit,
        "minimum": observation.minimum,
        "budget_usd": observation.budget_usd,
        "deadline_at": None if observation.deadline_s is None else round(now + observation.deadline_s, 2),
    }


def _encode_pool(view: PoolView, now: float) -> dict[str, Any]:
    return {
        **{name: value for name in _COUNTS if (value := getattr(view, name))},
        "idle_since": _moments(view.idle_ages, now),
        "asked_at": _moments(view.start_ages, now),
        "startups": [round(one, 2) for one in view.startups],
        "groups": [[one.name, one.workers, one.waiting, one.running, round(now - one.age_s, 2)] for one in view.groups],
    }


def _encode_tag(view: TagView, now: float) -> dict[str, Any]:
    return {
        **{name: value for name in _TASKS if (value := getattr(view, name))},
        "sizes": None if view.queued_sizes is None else [list(one) for one in view.queued_sizes],
        "running_since": [[round(now - age, 2), size] for age, size in view.running_for],
        "completions": [[size, float(f"{seconds:.4g}")] for size, seconds in view.completions],
    }


def _moments(ages: Sequence[float], now: float) -> list[float]:
    return [round(now - age, 2) for age in ages]


def _decode(seen: Mapping[str, Any], pools: Mapping[str, PoolInfo], tags: Mapping[str, TagInfo]) -> Observation:
    now = seen["now"]
    deadline = seen["deadline_at"]
    return Observation(
        now,
        {name: _decode_pool(pools[name], one, now) for name, one in seen["pools"].items()},
        {name: _decode_tag(tags[name], one, now) for name, one in seen["tags"].items()},
        seen["limit"],
        seen["minimum"],
        seen["budget_usd"],
        None if deadline is None else deadline - now,
    )


def _decode_pool(info: PoolInfo, one: Mapping[str, Any], now: float) -> PoolView:
    return PoolView(
        info,
        **{name: one[name] for name in _COUNTS if name in one},
        idle_ages=[max(0.0, now - since) for since in one["idle_since"]],
        start_ages=[max(0.0, now - since) for since in one["asked_at"]],
        startups=one["startups"],
        groups=tuple(
            GroupView(group, workers, waiting, running, now - since)
            for group, workers, waiting, running, since in one["groups"]
        ),
    )


def _decode_tag(info: TagInfo, one: Mapping[str, Any], now: float) -> TagView:
    sizes = one["sizes"]
    return TagView(
        info,
        **{name: one[name] for name in _TASKS if name in one},
        queued_sizes=None if sizes is None else [(size, count) for size, count in sizes],
        running_for=[(now - since, size) for since, size in one["running_since"]],
        completions=[(size, seconds) for size, seconds in one["completions"]],
    )
