"""Upper bounds from order statistics: how sure a small sample makes us."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["rank", "upper"]

_ROUNDING = 1e-9


def rank(count: int, confidence: float) -> int:
    """Return which of ``count`` values, counted from the smallest, bounds the next one with that confidence.

    The next of ``n + 1`` exchangeable values is equally likely to come at each place of their
    order, so it exceeds the k-th smallest of the first n with a probability of at most
    ``1 - k / (n + 1)``, whatever the distribution [1]_; as the bound of split conformal
    prediction the same is [2]_. The smallest k that guarantees c is therefore
    ``ceil((n + 1) * c)``.

    Parameters
    ----------
    count : int
        Values seen, n.
    confidence : float
        The probability c with which the next is not larger; between 0 and 1.

    Returns
    -------
    int
        k; more than ``count`` if there are too few of them for that confidence.

    References
    ----------
    .. [1] S. S. Wilks, "Determination of sample sizes for setting tolerance limits",
       Annals of Mathematical Statistics 12 (1941) 91-96.
    .. [2] V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World",
       Springer 2005.

    Examples
    --------
    >>> rank(19, 0.95), rank(18, 0.95), rank(1000, 0.95)
    (19, 19, 951)
    """
    return max(1, math.ceil((count + 1) * confidence - _ROUNDING))


def upper(ordered: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return the bound that a sorted sample gives, and the confidence that is guaranteed for it.

    Of too few values it is the largest, with the confidence that this really has.

    Parameters
    ----------
    ordered : sequence of float
        Sorted, the smallest first; at least one.
    confidence : float
        As for :func:`rank`.

    Examples
    --------
    >>> upper([1.0, 2.0, 4.0], 0.5), upper([1.0, 2.0, 4.0], 0.95)
    ((2.0, 0.5), (4.0, 0.75))
    """
    count = len(ordered)
    k = min(rank(count, confidence), count)
    return ordered[k - 1], k / (count + 1)
