"""How much of the time how many workers were busy, over a while."""

from __future__ import annotations

from collections import deque

__all__ = ["Levels"]


class Levels:
    """Demand for workers over the last seconds.

    Parameters
    ----------
    window_s : float
        Seconds that are looked back on.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, demand: int) -> None:
        """Take in how many workers have something to do from now on."""
        self._seen.append((now, demand))
        while len(self._seen) > 1 and self._seen[1][0] <= now - self._window_s:
            self._seen.popleft()

    def busy(self, share: float) -> int:
        """Return how many workers had something to do for at least this share of the time.

        What was before the first look counts as that did.
        """
        end = self._seen[-1][0]
        begin = end - self._window_s
        spans = []
        for index, (start, demand) in enumerate(self._seen):
            until = self._seen[index + 1][0] if index + 1 < len(self._seen) else end
            spans.append((demand, max(0.0, until - (begin if index == 0 else start))))
        left = share * self._window_s
        for demand, seconds in sorted(spans, reverse=True):
            left -= seconds
            if left <= 0:
                return demand
        return spans[-1][0]
