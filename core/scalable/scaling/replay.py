"""What another policy would have decided in a run, at every look that was taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scalable.scaling.guard import Guard
from scalable.scaling.log import read_observations, warn_of_skipped
from scalable.scaling.model import Observation, Policy, ScaleDecision

__all__ = ["Replayed", "replay"]


@dataclass(frozen=True, slots=True)
class Replayed:
    """One look at the pools of a run.

    Attributes
    ----------
    at_s : float
        Seconds since the first.
    observation : Observation
        What was there.
    was : dict of str to int
        By how many workers each pool then changed.
    would : dict of str to int
        By how many it would have.
    decision : ScaleDecision
        The other policy's, with its reasons.
    """

    at_s: float
    observation: Observation
    was: dict[str, int]
    would: dict[str, int]
    decision: ScaleDecision


def replay(
    run_dir: Path, policy: Policy, guard: Guard | None = None, *, skipped: Callable[[int], None] = warn_of_skipped
) -> Iterator[Replayed]:
    """Yield what a policy decides at each look that was taken in a run.

    It is shown what was there then, which its own decisions have not changed: what it says at
    one look does not make up for what it would have done at the one before.

    Parameters
    ----------
    run_dir : Path
        Directory of the run.
    policy : Policy
        One that has decided nothing yet.
    guard : Guard, optional
        Default: one with the usual rules.
    skipped : callable, optional
        Called at the end with the number of lines of the record that had to be left out;
        default is a warning in the log.

    Raises
    ------
    ScalableError
        If the run has no record of decisions, or nothing in it of what was seen.
    """
    guard = guard or Guard()
    begun: float | None = None
    for observation, was in read_observations(run_dir, skipped):
        begun = observation.now if begun is None else begun
        decision = guard.check(observation, policy.decide(observation))
        changed = {name: to - before for name, (before, to) in was.items()}
        yield Replayed(observation.now - begun, observation, changed, _changes(observation, decision), decision)


def _changes(observation: Observation, decision: ScaleDecision) -> dict[str, int]:
    changes = {}
    for name in decision.pools:
        fewer = sum(
            counts.get(name, 0)
            for counts in (
                decision.workers_to_remove,
                decision.workers_to_cancel,
                decision.workers_to_expire,
                decision.workers_to_drain,
            )
        )
        view = observation.pools[name]
        stopped = set(decision.groups_to_stop.get(name, ()))
        fewer += sum(max(1, one.workers) for one in view.groups if one.name in stopped)
        changes[name] = decision.workers_to_add.get(name, 0) - fewer
    return changes
