"""What is to change in each pool, while it is cut to what is safe; pure, and used by the guard alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from scalable.scaling.model import GroupView, Observation, PoolView, ScaleDecision, TagView

__all__ = ["Change", "PoolRules", "keep_capable", "keep_minimum", "told"]


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What one pool is allowed.

    Attributes
    ----------
    max_starting : int or None
        Workers on their way at a time; ``None`` for as many as the pool may have.
    max_step : int or None
        Workers that come, or that leave, in one decision; ``None`` for 64 or as many as there
        are, whichever is more.
    expires : bool
        Whether starts that take very long are given up: three times what nine of ten took so far.
    min_expiry_s : float
        Seconds before which none is.
    """

    max_starting: int | None = None
    max_step: int | None = None
    expires: bool = True
    min_expiry_s: float = 600.0

    @classmethod
    def batch_queue(cls) -> PoolRules:
        """Return what suits a batch system, where it is usual to wait for hours and rude to fill the queue."""
        return cls(max_starting=64, expires=False)


class Change:
    """What is to change in one pool.

    Parameters
    ----------
    pool : PoolView
        As it is.
    rules : PoolRules
        What it is allowed.
    decision : ScaleDecision
        What the policy wants, of which only what can be is taken over.
    expiry_s : float
        Seconds after which a start is given up.
    """

    def __init__(self, pool: PoolView, rules: PoolRules, decision: ScaleDecision, expiry_s: float) -> None:
        name = pool.info.name
        self.pool = pool
        self.rules = rules
        self.notes: list[str] = []
        self.expired = sum(age > expiry_s for age in pool.start_ages)
        self.groups = _known_groups(pool, decision.groups_to_stop.get(name, ()), pool.starting - self.expired)
        up = pool.idle + pool.busy - self.groups_up
        starting = pool.starting - self.expired - self.groups_starting
        self.cancel = _between(decision.workers_to_cancel.get(name, 0), starting)
        # Whether those of a group are idle is for the pool to find out; here it is taken that they are.
        self.remove = _between(decision.workers_to_remove.get(name, 0), min(pool.idle, up))
        self.drain = _between(decision.workers_to_drain.get(name, 0), up - self.remove)
        self.add = max(0, decision.workers_to_add.get(name, 0))
        if self.expired:
            self.add = 0
            self.notes.append(f"{self.expired} starts took longer than {expiry_s:.0f} s and are given up")
        elif self.add and self.leaving:
            # Only the difference comes, or leaves.
            coming, self.add = self.add, max(0, self.add - self.leaving)
            self.keep(coming, "others of it were to come")
        if rules.max_step is not None:
            most = max(rules.max_step, pool.info.group_size)
            self.keep(self.leaving - self.expired - most, f"at most {most} in one step")

    @property
    def groups_up(self) -> int:
        """Workers that are up of groups that are to stop."""
        return sum(group.workers for group in self.groups)

    @property
    def groups_starting(self) -> int:
        """Workers on their way of groups that are to stop."""
        return sum(self.pool.info.group_size for group in self.groups if not group.workers)

    @property
    def up_leaving(self) -> int:
        """Workers that are up and leave."""
        return self.remove + self.drain + self.groups_up

    @property
    def leaving(self) -> int:
        """Workers that leave, up or not."""
        return self.up_leaving + self.cancel + self.groups_starting + self.expired

    @property
    def up_left(self) -> int:
        """Workers that are up and stay."""
        return self.pool.idle + self.pool.busy - self.up_leaving

    @property
    def left(self) -> int:
        """Workers that stay."""
        return self.pool.live - self.leaving

    def keep(self, count: int, why: str) -> None:
        """Let so many fewer leave, busy ones first."""
        if count <= 0 or not self.leaving:
            return
        before = self.leaving
        for _ in range(len(self.groups) + 3):
            self._keep_some(count - (before - self.leaving))
        if self.leaving < before:
            self.notes.append(f"{before - self.leaving} stay: {why}")

    def _keep_some(self, count: int) -> None:
        if count <= 0:
            return
        if self.drain:
            self.drain -= min(count, self.drain)
        elif self.groups:
            self.groups.pop()
        elif self.remove:
            self.remove -= min(count, self.remove)
        else:
            self.cancel -= min(count, self.cancel)

    def keep_up(self, why: str) -> None:
        """Let one fewer of those that are up leave."""
        if self.drain:
            self.drain -= 1
        elif self.remove:
            self.remove -= 1
        else:
            self.groups.remove(max(self.groups, key=lambda group: group.workers))
        self.notes.append(f"one stays: {why}")

    def keep_groups_whole(self) -> None:
        """Let no part of a group leave, unless what leaves is all there is."""
        size = self.pool.info.group_size
        if size > 1 and self.up_left:
            self.remove -= self.remove % size
            self.drain -= self.drain % size
        if size > 1 and self.cancel < self.pool.starting:
            self.cancel -= self.cancel % size


def keep_capable(observation: Observation, changes: Iterable[Change]) -> None:
    """Keep the last worker that can do work that is there or is about to be."""
    by_pool = {change.pool.info.name: change for change in changes}
    capable = {
        name: [by_pool[pool] for pool in tag.info.pools if pool in by_pool] for name, tag in observation.tags.items()
    }
    starving = any(
        tag.queued and not any(one.pool.live for one in capable[name]) for name, tag in observation.tags.items()
    )
    for name, tag in observation.tags.items():
        if tag.queued or tag.running or (not starving and _due(tag, observation)):
            _keep_one(capable[name], f"it is the last that can run '{name}'")


def keep_minimum(observation: Observation, changes: Iterable[Change]) -> None:
    """Let no pool, nor all of them, fall below a minimum; what comes elsewhere counts for all of them."""
    every = list(changes)
    for change in every:
        least = change.pool.info.minimum
        change.keep(least - change.left, f"its minimum is {least}")
    coming = sum(change.add for change in every)
    for change in every:
        least = observation.minimum or 0
        lacking = least - sum(one.left for one in every) - coming
        change.keep(lacking, f"the run has a minimum of {least}")


def told(decision: ScaleDecision, changes: Iterable[Change]) -> ScaleDecision:
    """Return a decision as it was cut, with what was cut and why in its reasons."""
    every = {change.pool.info.name: change for change in changes}
    notes = {name: "; ".join(change.notes) for name, change in every.items() if change.notes}
    strange = set().union(*(_names(decision))) - set(every)
    notes |= dict.fromkeys(sorted(strange), "there is no such pool")
    reasons = {name: reason for name, reason in decision.reasons.items() if name not in notes}
    reasons |= {name: "; ".join(filter(None, (decision.reasons.get(name), note))) for name, note in notes.items()}
    cuts = (f"{name}: {note}" for name, note in notes.items())
    return replace(
        decision,
        workers_to_add=_counts(every, "add"),
        workers_to_remove=_counts(every, "remove"),
        workers_to_cancel=_counts(every, "cancel"),
        workers_to_expire=_counts(every, "expired"),
        workers_to_drain=_counts(every, "drain"),
        groups_to_stop={
            name: tuple(group.name for group in change.groups) for name, change in every.items() if change.groups
        },
        reasons=reasons,
        reasoning="; ".join(filter(None, (decision.reasoning, *cuts))),
    )


def _names(decision: ScaleDecision) -> Iterable[Mapping[str, object]]:
    return (
        decision.workers_to_add,
        decision.workers_to_remove,
        decision.workers_to_cancel,
        decision.workers_to_drain,
        decision.groups_to_stop,
    )


def _counts(changes: Mapping[str, Change], kind: str) -> dict[str, int]:
    counts = {name: int(getattr(change, kind)) for name, change in changes.items()}
    return {name: count for name, count in counts.items() if count}


def _known_groups(pool: PoolView, names: Sequence[str], starting: int) -> list[GroupView]:
    known = {group.name: group for group in pool.groups}
    groups = [known[name] for name in dict.fromkeys(names) if name in known]
    coming = [group for group in groups if not group.workers]
    return [group for group in groups if group.workers] + coming[: max(0, starting) // pool.info.group_size]


def _between(count: int, most: int) -> int:
    return max(0, min(count, most))


def _due(tag: TagView, observation: Observation) -> bool:
    """Return whether blocked tasks will be ready once running ones end, as far as anybody knows."""
    parents = [observation.tags[name] for name in tag.info.parents if name in observation.tags]
    return tag.blocked > 0 and any(one.running for one in (parents or observation.tags.values()))


def _keep_one(capable: Sequence[Change], why: str) -> None:
    up = [change for change in capable if change.pool.idle + change.pool.busy]
    if up:
        if not any(change.up_left for change in up):
            up[0].keep_up(why)
        return
    starting = [change for change in capable if change.pool.starting - change.expired]
    if starting and not any(change.left for change in starting):
        starting[0].keep(1, why)
