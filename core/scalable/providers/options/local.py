"""Options of the local provider."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator

from scalable.manifest.fields import Flag, MaxWorkers, check_flag, problem
from scalable.providers.options.common import ScalingOptions, ThreadsPerWorker

__all__ = ["LocalOptions"]


def _check_containers(value: object) -> object:
    if value != "none":
        raise problem("E_BAD_CONTAINERS_MODE", f"containers must be none, not {value!r}",
                      "the local provider starts workers without containers")  # fmt: skip
    return value


class LocalOptions(ScalingOptions):
    """Options of ``provider: local``.

    Attributes
    ----------
    max_workers : int
        Workers of all pools together; 1 by default.
    threads_per_worker : int or None
        Tasks that a worker runs at a time; by default as many as its component has whole cpus.
    processes : bool
        Whether workers are processes of their own, or threads of this one, as by default.
    containers : str
        ``none``: workers run without containers.
    dashboard : bool
        Whether Dask's dashboard is served, on the loopback interface.
    """

    # Narrower than in the base: here a number always holds.
    max_workers: MaxWorkers = 1
    threads_per_worker: ThreadsPerWorker | None = None
    processes: Annotated[bool, BeforeValidator(check_flag("E_BAD_PROCESSES_FLAG", "processes"))] = False
    containers: Annotated[Literal["none"], BeforeValidator(_check_containers)] = "none"
    dashboard: Flag = False
