"""What holds whatever a policy says: bounds, work that goes on, money, and starts that fail; pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from scalable.scaling.changes import Change, PoolRules, keep_capable, keep_minimum, told
from scalable.scaling.model import Observation, PoolView, ScaleDecision
from scalable.scaling.places import Cap, grant

__all__ = ["Guard", "PoolRules"]

RETRY_S, LONGEST_RETRY_S = 30.0, 1800.0
"""Seconds for which a pool whose starts fail gets no workers: the first time, doubled each time, and at the most."""

STEP = 64
"""Workers that a pool may always gain in one step; beyond, it may double."""

_EXPIRY_FACTOR = 3.0
_EXPIRY_QUANTILE = 0.9
_STARTUPS_KEPT = 100


class Guard:
    """Cut a policy's decisions to what is safe, and say what was cut.

    Parameters
    ----------
    rules : mapping of str to PoolRules, optional
        By pool; pools not named have :class:`PoolRules` with its defaults.

    Notes
    -----
    Of what :meth:`check` returns, at any time:

    - Workers that are there to stay are never fewer than a minimum for leaving, nor more than a
      limit for coming. What is missing of a minimum is added. Within a pool, those that are about
      to leave still take their places; between pools, who waits for a place is the pools' matter.
    - A worker that has something to do finishes it. The last one that is up, or else on its way,
      for tasks that are queued or run stays; so does that for tasks that wait for running ones,
      unless others have no worker at all.
    - A pool does not gain and lose workers at once, and gains whole groups only.
    - Without a budget nothing that costs is started, nor if all that runs, and what is new, would
      use it up within five minutes. What the price of is not known counts as soon as nothing is left.
    - The pools of an adapter share its limit: those that stay, leave or come are together no more.
      Nobody is moved for it; whoever asks where there is no place gets none.
    - A pool in which three starts in a row, or a tenth of its limit, failed gets none for a while,
      then one group at a time until one comes up. That is for pools that have workers, or whose
      trouble passes: one that has none, and gets none, is given up for good by the cluster, which
      fails the tasks that only it could run, and is shown as broken.
    """

    def __init__(self, rules: Mapping[str, PoolRules] | None = None) -> None:
        self._rules = dict(rules or {})
        self._memory: dict[str, _Memory] = {}

    def check(self, observation: Observation, decision: ScaleDecision) -> ScaleDecision:
        """Return what of a decision is safe.

        Parameters
        ----------
        observation : Observation
            What the decision was made from; each is to be shown once, in order.
        decision : ScaleDecision
            What the policy wants.
        """
        for pool in observation.pools.values():
            self._remembered(pool).learn(pool, observation.now)
        changes = [self._change(pool, decision) for pool in observation.pools.values()]
        keep_capable(observation, changes)
        keep_minimum(observation, changes)
        for change in changes:
            change.keep_groups_whole()
        caps = [self._cap(change, observation.now) for change in changes]
        grant(observation, changes, caps)
        for change in changes:
            memory = self._remembered(change.pool)
            memory.in_flight = change.pool.starting + change.add
            memory.failed_in_a_row += change.expired
        return told(decision, changes)

    def _change(self, pool: PoolView, decision: ScaleDecision) -> Change:
        rules = self._rules.get(pool.info.name, PoolRules())
        return Change(pool, rules, decision, self._remembered(pool).expiry_s(pool, rules))

    def _cap(self, change: Change, now: float) -> Cap:
        """Return how many workers a pool may gain, and why not more."""
        memory, pool, rules = self._remembered(change.pool), change.pool, change.rules
        size = pool.info.group_size
        most = pool.info.limit if rules.max_starting is None else max(rules.max_starting, size)
        step = max(STEP, pool.live) if rules.max_step is None else rules.max_step
        caps = [
            (pool.info.limit - pool.live - pool.draining, f"its limit is {pool.info.limit}"),
            (most - pool.starting, f"at most {most} may be on their way"),
            (max(step, size), f"at most {max(step, size)} in one step"),
        ]
        if pool.broken:
            caps.append((0, f"it is broken: {pool.broken}"))
        elif now < memory.closed_until:
            caps.append((0, f"its starts failed; none for {memory.closed_until - now:.0f} s"))
        elif memory.trips:
            caps.append((size - pool.starting, "its starts failed; one group is tried"))
        if change.leaving:
            caps.append((0, "others of it leave"))
        return min(caps, key=lambda cap: cap[0])

    def _remembered(self, pool: PoolView) -> _Memory:
        return self._memory.setdefault(pool.info.name, _Memory())


@dataclass(slots=True)
class _Memory:
    """What is kept of a pool from one observation to the next."""

    startups: deque[float] = field(default_factory=lambda: deque(maxlen=_STARTUPS_KEPT))
    in_flight: int = 0
    failed_in_a_row: int = 0
    trips: int = 0
    closed_until: float = 0.0

    def learn(self, pool: PoolView, now: float) -> None:
        self.startups.extend(pool.startups)
        if pool.startups:
            self.failed_in_a_row = self.trips = 0
            self.closed_until = now
        if now < self.closed_until:
            # These were asked for before it was known.
            return
        # A worker that is lost later says nothing of starts.
        self.failed_in_a_row += min(pool.failed, self.in_flight)
        bearable = 1 if self.trips else max(3, math.ceil(pool.info.limit / 10))
        if self.failed_in_a_row >= bearable:
            self.closed_until = now + min(LONGEST_RETRY_S, RETRY_S * 2**self.trips)
            self.trips += 1
            self.failed_in_a_row = 0

    def expiry_s(self, pool: PoolView, rules: PoolRules) -> float:
        if not rules.expires:
            return math.inf
        usual = (pool.info.wait_s or 0.0) + (pool.info.boot_s or 0.0)
        if self.startups:
            ordered = sorted(self.startups)
            usual = ordered[math.ceil(_EXPIRY_QUANTILE * len(ordered)) - 1]
        return max(rules.min_expiry_s, _EXPIRY_FACTOR * usual)
