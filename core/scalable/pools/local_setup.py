"""What a worker process of this machine does besides when it starts: a Dask preload module.

Whoever ends a run often signals its whole process group, as a Prefect worker does that cancels
a flow run. The process that started the workers then ends them in order, for which it has to
find them alive.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from typing import Any, Final

__all__ = ["dask_setup"]

_GRACE_S: Final = 10.0


def dask_setup(worker: Any) -> None:
    """Take SIGTERM as news that the end is near; called by Dask in the worker's process."""
    if multiprocessing.parent_process() is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: _end_later())


def _end_later() -> None:
    end = threading.Timer(_GRACE_S, os.kill, (os.getpid(), signal.SIGKILL))
    end.daemon = True
    end.start()
