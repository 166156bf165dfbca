"""How fast tasks of one kind keep coming, and how many workers that takes."""

from __future__ import annotations

import math
from statistics import NormalDist

__all__ = ["Flow", "staff"]

WINDOW_S = 900.0
"""Seconds over which arrivals are counted; older ones fade out."""

SUSTAINED = 8.0
"""Moments of arrival, of equal size, below which arrivals are bursts and not a flow."""

WAITING = 1.8
"""Worker-seconds without work that a task's second of waiting is worth, if money and time weigh the same.

More than one, because whoever waits for a job waits for the running tasks of it as well."""

_SHORTEST_S = 30.0


class Flow:
    """Arrivals of one kind of tasks, as a rate that forgets."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._arrived = 0
        self._count = self._square = self._span_s = 0.0

    def see(self, now: float, arrived: int) -> float:
        """Take note of how many have come so far, and return how many come in a second.

        Returns
        -------
        float
            Tasks a second; 0 as long as they came in too few moments to be a flow.
        """
        new, self._arrived = max(0, arrived - self._arrived), arrived
        if self._last is not None:
            fading = math.exp(-(now - self._last) / WINDOW_S)
            self._span_s = self._span_s * fading + (1 - fading) * WINDOW_S
            self._count *= fading
            self._square *= fading
        self._last = now
        self._count += new
        self._square += new * new
        sustained = self._square > 0 and self._count**2 / self._square > SUSTAINED
        return self._count / max(self._span_s, _SHORTEST_S) if sustained else 0.0


def staff(load: float, busy: float, staying: float, alpha: float) -> float:
    """Return the workers that are best there, one start-up from now.

    Of the tasks that are there, some stay for that long; the rest of the load has come by
    then. What is there varies about the sum of both: survivors as a binomial, arrivals as a
    Poisson variable. The best number is the newsvendor's: a worker too many idles, one too few lets
    a task wait.

    Parameters
    ----------
    load : float
        Workers that the flow keeps busy in the mean.
    busy : float
        Workers that the tasks that run or wait now take.
    staying : float
        Share of these that will still be there, from 0 to 1.
    alpha : float
        Weight of money against time, from 0 to 1.
    """
    mean = load * (1 - staying) + busy * staying
    deviation = math.sqrt(busy * staying * (1 - staying) + load * (1 - staying))
    waiting = WAITING * (1 - alpha)
    return max(0.0, mean + NormalDist().inv_cdf(waiting / (waiting + alpha)) * deviation)
