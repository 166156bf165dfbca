"""What workers have in their environment, whoever starts them."""

from __future__ import annotations

import math

from scalable.spec import ComponentSpec

__all__ = ["thread_environment"]


def thread_environment(component: ComponentSpec, threads: int) -> dict[str, str]:
    """Return the variables by which numerical libraries learn how many threads they may start.

    Each task may use its share of the worker's cores, and no more.

    Parameters
    ----------
    component : ComponentSpec
        Its ``cpus`` are what one worker has.
    threads : int
        Tasks that one worker runs at a time.

    Examples
    --------
    >>> from scalable.spec import ResourceRequest
    >>> thread_environment(ComponentSpec("a", ResourceRequest(cpus=8)), 2)["OMP_NUM_THREADS"]
    '4'
    """
    share = str(max(1, math.floor(component.resources.cpus / threads)))
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), share)
