"""What can be aimed at, and what a search among numbers of workers finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from scalable.errors import PlanError, did_you_mean

__all__ = ["OBJECTIVES", "POLICIES", "Chosen", "Interval", "Objective", "Point", "Policy", "known"]

Objective = Literal["minimize cost", "minimize time", "balance"]
Policy = Literal["safe", "aggressive", "manual"]
OBJECTIVES: Final = get_args(Objective)
POLICIES: Final = get_args(Policy)


@dataclass(frozen=True, slots=True)
class Interval:
    """A prediction: ``median``, what 5 % of the worlds are below (``low``) and above (``high``), and ``mean``."""

    low: float
    median: float
    high: float
    mean: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Interval:
        """Return the interval of one number a world."""
        ordered = sorted(values)
        last = len(ordered) - 1
        return cls(
            ordered[round(0.05 * last)],
            ordered[round(0.5 * last)],
            ordered[round(0.95 * last)],
            sum(ordered) / (last + 1),
        )

    def times(self, factor: float) -> Interval:
        """Return it in another unit."""
        return Interval(self.low * factor, self.median * factor, self.high * factor, self.mean * factor)


@dataclass(frozen=True, slots=True)
class Point:
    """One choice of counts and what would come of it.

    Attributes
    ----------
    counts : mapping of str to int
        Workers by pool.
    time_s : Interval
        Seconds until all is done.
    cost : Interval
        What is paid, in the unit of the prices.
    peak : int
        Workers at the same time.
    worker_s : mapping of str to Interval
        Seconds of workers that are paid for, by pool; only of the choice itself.
    """

    counts: Mapping[str, int]
    time_s: Interval
    cost: Interval
    peak: int
    worker_s: Mapping[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a search found.

    Attributes
    ----------
    point : Point
        The choice: the best that keeps the bounds, or, where none does, the one that misses
        them by least.
    front : tuple of Point
        Those of all that were tried of which none is both faster and cheaper, the fastest
        first, in the mean.
    feasible : bool
        Whether half of the worlds keep the bounds.
    within : bool
        Whether they are kept as the policy wants it, with its headroom.
    missed : mapping of str to float
        ``deadline_s`` and ``budget`` as far as they are not kept: by how many seconds, or how
        much of the cost's unit, in the median.
    limited_by : str
        What keeps it from being better, in words.
    tried : int
        How many choices were looked at.
    """

    point: Point
    front: tuple[Point, ...]
    feasible: bool = True
    within: bool = True
    missed: Mapping[str, float] = field(default_factory=dict)
    limited_by: str = ""
    tried: int = 0


def known(what: str, word: str, words: Sequence[str]) -> None:
    """Refuse a word that is not known.

    Raises
    ------
    PlanError
        With those that are, and the nearest.
    """
    if word not in words:
        hint = did_you_mean(word, words)
        raise PlanError(f"{what} '{word}' is not known; there are {', '.join(words)}" + (f"; {hint}" if hint else ""))
