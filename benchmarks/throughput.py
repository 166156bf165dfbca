"""Trivial tagged tasks through Scalable, telemetry on, against a plain Dask client.

Both have two worker processes of one thread, and both constrain each task by the same
resource. The two take turns, so that a busy machine slows both; the median of the pairs'
ratios is the figure.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster

from scalable import ScalableSession

TASKS = 10_000
PAIRS = 5
MANIFEST = """\
version: 1
project: {name: bench}
targets: {local: {provider: local, max_workers: 2, processes: true}}
components: {work: {cpus: 1}}
"""


def identity(x: int) -> int:
    return x


def timed(submit: Callable[[int], Any], gather: Callable[[list[Any]], Any]) -> float:
    begin = time.perf_counter()
    futures = [submit(i) for i in range(TASKS)]
    gather(futures)
    return time.perf_counter() - begin


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "scalable.yaml"
        manifest.write_text(MANIFEST)
        os.environ["SCALABLE_RUNS_DIR"] = str(Path(folder) / "runs")
        with (
            LocalCluster(
                n_workers=2, threads_per_worker=1, resources={"work": 1}, dashboard_address=None, silence_logs=30
            ) as cluster,
            Client(cluster) as dask,
            ScalableSession.from_yaml(manifest) as session,
        ):
            client = session.start()
            plain = lambda i: dask.submit(identity, i, pure=False, resources={"work": 1})  # noqa: E731
            ours = lambda i: client.submit(identity, i, tag="work")  # noqa: E731
            dask.gather([plain(i) for i in range(200)])
            client.gather([ours(i) for i in range(200)])
            ratios = []
            for _ in range(PAIRS):
                peer, own = timed(plain, dask.gather), timed(ours, client.gather)
                ratios.append(peer / own)
                speeds = f"plain Dask {TASKS / peer:6.0f} tasks/s, Scalable {TASKS / own:6.0f} tasks/s"
                print(f"  {speeds}, ratio {ratios[-1]:.2f}", flush=True)
                time.sleep(1)
    median = statistics.median(ratios)
    print(f"throughput, Scalable / plain Dask, {TASKS} tasks, median of {PAIRS} pairs: {median:.2f} (aim >= 0.90)")


if __name__ == "__main__":
    main()
