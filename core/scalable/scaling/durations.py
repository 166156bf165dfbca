"""How long tasks take, learned from those that ended, by tag and by what is known of their input."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from scalable.errors import ScalableError

__all__ = ["DurationAdvisor", "Durations", "Estimate"]

_KEPT = 200
_LINE_FROM = 8  # ended tasks
_EXPLAINED = 0.3
_ASKED_AT_ONCE = 8
_SAMPLED = 200
_ANSWERS_KEPT = 1000


class DurationAdvisor(Protocol):
    """What is asked of an advisor: :class:`~scalable.advisors.Advisor` has it."""

    def recommend(self, task: str, *, features: Mapping[str, Any] | None = None) -> Any:
        """Return something with ``duration_s``, seconds or ``None``, and ``confidence``."""
        ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long one task takes.

    Attributes
    ----------
    seconds : float or None
        The mean over the tasks asked about; ``None`` if nothing is known.
    confidence : float
        From 0 to 1.
    """

    seconds: float | None = None
    confidence: float = 0.0


class Durations:
    """Durations of tasks, by tag.

    The last tasks that ended tell: by a line through the logarithms of seconds and of the one
    feature that explains most, if it explains anything, else by their mean. Before there are
    any, an advisor is asked.

    Parameters
    ----------
    advisor : DurationAdvisor, optional
        Whom to ask.
    """

    def __init__(self, advisor: DurationAdvisor | None = None) -> None:
        self._advisor = advisor
        self._tags: dict[str, _Seen] = {}
        self._answers: dict[tuple[str, tuple[tuple[str, Any], ...]], Estimate] = {}

    def learn(self, tag: str, seconds: float, features: Mapping[str, Any] | None = None) -> None:
        """Take in a task that ended."""
        self._tags.setdefault(tag, _Seen()).add(seconds, features or {})

    def estimate(self, tag: str, features: Sequence[Mapping[str, Any] | None] = ()) -> Estimate:
        """Return how long a task takes, in the mean.

        Parameters
        ----------
        tag : str
            Its kind.
        features : sequence of mapping or None
            What is known of the inputs of the tasks that are meant; of many, some are looked at.
        """
        seen = self._tags.get(tag)
        if seen is not None:
            count = len(seen.seconds)
            return Estimate(seen.mean(_sample(features, _SAMPLED)), count / (count + 2.0))
        return self._advised(tag, _sample(features, _ASKED_AT_ONCE) or [None])

    def _advised(self, tag: str, features: Sequence[Mapping[str, Any] | None]) -> Estimate:
        if self._advisor is None:
            return Estimate()
        answers = [self._ask(tag, one or {}) for one in features]
        known = [answer.seconds for answer in answers if answer.seconds is not None]
        if not known:
            return Estimate()
        return Estimate(sum(known) / len(known), sum(answer.confidence for answer in answers) / len(answers))

    def _ask(self, tag: str, features: Mapping[str, Any]) -> Estimate:
        assert self._advisor is not None
        key = (tag, tuple(sorted((name, repr(value)) for name, value in features.items())))
        answer = self._answers.get(key)
        if answer is None:
            try:
                said = self._advisor.recommend(task=tag, features=features)
                answer = Estimate(said.duration_s, said.confidence)
            except ScalableError:
                # It knows nothing of such tasks.
                answer = Estimate()
            if len(self._answers) >= _ANSWERS_KEPT:
                self._answers.clear()
            self._answers[key] = answer
        return answer


class _Seen:
    """Ended tasks of one tag."""

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=_KEPT)
        self._total = 0.0
        self._lines: dict[str, _Line] = {}

    def add(self, seconds: float, features: Mapping[str, Any]) -> None:
        if len(self.seconds) == _KEPT:
            self._total -= self.seconds[0]
        self.seconds.append(seconds)
        self._total += seconds
        for name, value in features.items():
            if isinstance(value, int | float) and value > 0 and seconds > 0:
                self._lines.setdefault(name, _Line()).add(math.log(value), math.log(seconds))

    def mean(self, features: Iterable[Mapping[str, Any] | None]) -> float:
        average = self._total / len(self.seconds)
        name, line = max(self._lines.items(), key=lambda item: item[1].explained, default=("", None))
        if line is None or line.explained < _EXPLAINED:
            return average
        sizes = [one[name] for one in features if one and isinstance(one.get(name), int | float) and one[name] > 0]
        if not sizes:
            return average
        return sum(line.at(math.log(size)) for size in sizes) / len(sizes)


class _Line:
    """Least squares through points that come one by one."""

    def __init__(self) -> None:
        self.count = 0
        self.x = self.y = self.xx = self.xy = self.yy = 0.0
        self._span = (math.inf, -math.inf)

    def add(self, x: float, y: float) -> None:
        # Welford's recurrence, for two variables: sums of products about the means.
        self.count += 1
        dx, dy = x - self.x, y - self.y
        self.x += dx / self.count
        self.y += dy / self.count
        self.xx += dx * (x - self.x)
        self.xy += dx * (y - self.y)
        self.yy += dy * (y - self.y)
        self._span = (min(self._span[0], x), max(self._span[1], x))

    @property
    def explained(self) -> float:
        """The share of the variance that it explains; 0 as long as it cannot be told."""
        if self.count < _LINE_FROM or not self.xx or not self.yy:
            return 0.0
        return self.xy**2 / (self.xx * self.yy)

    def at(self, x: float) -> float:
        """Return the mean of ``exp(y)`` at x, and beyond what was seen that at its end."""
        inside = min(max(x, self._span[0]), self._span[1])
        # Half the variance that is left makes a mean of a median, where the logarithm is normal.
        left = self.yy * (1.0 - self.explained) / self.count
        return math.exp(self.y + self.xy / self.xx * (inside - self.x) + left / 2)


def _sample(features: Sequence[Mapping[str, Any] | None], count: int) -> list[Mapping[str, Any] | None]:
    step = max(1, len(features) // count)
    return list(features[::step][:count])
