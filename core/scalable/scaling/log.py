"""Every decision of a run with what it was made from, so that it can be told, and others made in its place.

``scaling.jsonl`` has four kinds of lines. ``infos`` names what does not change, when it is
first seen; ``observation`` is what a policy saw; ``unchanged`` is another look at the same,
with time passed; ``scale_decision`` is one pool's change. Moments in observations are on the
clock of the run, in seconds, so that ages can be told at any look.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from scalable.errors import ScalableError
from scalable.scaling.model import GroupView, Observation, PoolInfo, PoolView, ScaleDecision, TagInfo, TagView
from scalable.telemetry.recorder import Recorder

__all__ = ["DecisionLog", "read_observations"]

_COUNTS = ("idle", "busy", "starting", "draining", "unbilled", "failed", "broken")
_TASKS = ("queued", "running", "blocked", "arrived", "done")


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


def read_observations(run_dir: Path) -> Iterator[tuple[Observation, dict[str, tuple[int, int]]]]:
    """Yield what was seen in a run, and what was then decided.

    Parameters
    ----------
    run_dir : Path
        Its directory.

    Yields
    ------
    Observation
        As the policy saw it.
    dict of str to tuple of int
        Workers wanted before and after, by pool; only pools that changed.

    Raises
    ------
    ScalableError
        If there is no record of decisions.
    """
    path = run_dir / "scaling.jsonl"
    if not path.is_file():
        raise ScalableError(f"{run_dir} has no scaling.jsonl: nothing was decided there, or it is no run's directory")
    reader = _Reader()
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                record = json.loads(line)
            except ValueError:
                # A run that was killed may end within a line.
                continue
            yield from reader.take(record)
    yield from reader.end()


class _Reader:
    def __init__(self) -> None:
        self._pools: dict[str, PoolInfo] = {}
        self._tags: dict[str, TagInfo] = {}
        self._seen: dict[str, Any] = {}
        self._open: Observation | None = None
        self._decided: dict[str, tuple[int, int]] = {}

    def take(self, record: Mapping[str, Any]) -> Iterator[tuple[Observation, dict[str, tuple[int, int]]]]:
        event = record.get("event")
        if event == "infos":
            self._pools |= {name: PoolInfo(**info) for name, info in record["pools"].items()}
            self._tags |= {name: _tag_info(info) for name, info in record["tags"].items()}
        elif event == "scale_decision":
            self._decided[record["tag"]] = (record["from"], record["to"])
        elif event == "observation" or (event == "unchanged" and self._seen):
            yield from self.end()
            self._seen = dict(record) if event == "observation" else self._without_news(record["now"])
            self._open = _decode(self._seen, self._pools, self._tags)

    def end(self) -> Iterator[tuple[Observation, dict[str, tuple[int, int]]]]:
        if self._open is not None:
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
