"""What is done on the workers besides running jobs."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from scalable_snakemake.job import stop_jobs

__all__ = ["stop_worker"]

_SETTLE_S: Final = 1.0
_TICK_S: Final = 0.01


async def stop_worker(run: str, dask_worker: Any) -> None:
    """End all jobs of a run on this worker, and return when Dask has noticed their end."""
    await asyncio.to_thread(stop_jobs, run)
    deadline = time.monotonic() + _SETTLE_S
    while dask_worker.state.all_running_tasks and time.monotonic() < deadline:  # noqa: ASYNC110  (Dask has no event for it)
        await asyncio.sleep(_TICK_S)
