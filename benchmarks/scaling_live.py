"""Cost times time of real pools of processes under `predictive`, against Dask's own adaptive cluster.

Workers take an artificial time to start, as machines do. Both get the same tasks, the same
delay and the same most workers, one after the other, and are measured by the same plugin: a
worker costs its cpus from when it was asked for until it is gone. Dask's cluster has one kind
of worker, which must be the larger one. The first pair of each kind has no history.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from distributed import Client, LocalCluster
from distributed.diagnostics.plugin import SchedulerPlugin

from scalable import ScalableSession

DELAY_S = 4.0
MOST = 6
PAIRS = 3
CPUS = {"simulate": 2.0, "postprocess": 0.5}
MANIFEST = """\
version: 1
project: {{name: scaling-live}}
targets:
  here:
    provider: local
    processes: true
    threads_per_worker: 1
    adaptive: {{minimum: 0, maximum: {most}}}
    scaling: {{policy: predictive, objective: balance}}
components:
  simulate: {{cpus: {simulate}, memory: 400M, preload_script: {preload}}}
  postprocess: {{cpus: {postprocess}, memory: 400M, preload_script: {preload}}}
"""

Submit = Callable[..., Any]


class Meter(SchedulerPlugin):
    """Add up the seconds of workers."""

    name = "benchmark-meter"

    def __init__(self) -> None:
        self.here: dict[str, tuple[float, float]] = {}
        self.paid_s = 0.0
        self.workers = 0

    async def start(self, scheduler: Any) -> None:
        """Do nothing."""

    def add_worker(self, scheduler: Any, worker: str) -> None:
        """Begin to count a worker that came."""
        pool = str(scheduler.workers[worker].name).rpartition("-")[0]
        self.here[worker] = (time.monotonic() - DELAY_S, CPUS.get(pool, max(CPUS.values())))
        self.workers += 1

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Count no more for a worker that is gone."""
        since, cpus = self.here.pop(worker)
        self.paid_s += cpus * (time.monotonic() - since)

    def stop(self) -> float:
        """Return the cpu-seconds of all, as if they ended now."""
        now = time.monotonic()
        return self.paid_s + sum(cpus * (now - since) for since, cpus in self.here.values())


def simulate(seconds: float, *_: Any) -> float:
    time.sleep(seconds)
    return seconds


def postprocess(seconds: float, *_: Any) -> float:
    time.sleep(seconds)
    return seconds


def burst(submit: Submit) -> float:
    """Send three bursts with pauses between; return the seconds for which somebody waited."""
    waited = 0.0
    for number, pause in enumerate((6.0, 25.0, 0.0)):
        begun = time.monotonic()
        for future in [submit(simulate, 1.0, number, i, tag="simulate") for i in range(24)]:
            future.result()
        waited += time.monotonic() - begun
        time.sleep(pause)
    return waited


def pipeline(submit: Submit) -> float:
    """Send sixteen long tasks, each followed by a short one on other workers, and one that ends it."""
    begun = time.monotonic()
    firsts = [submit(simulate, 5.0 + i % 4, i, tag="simulate") for i in range(16)]
    seconds = [submit(postprocess, 1.5, one, tag="postprocess") for one in firsts]
    submit(postprocess, 1.0, *seconds, tag="postprocess").result()
    return time.monotonic() - begun


@contextlib.contextmanager
def ours(folder: Path, preload: Path) -> Iterator[tuple[Submit, Meter]]:
    path = folder / "scalable.yaml"
    path.write_text(MANIFEST.format(most=MOST, preload=preload, **CPUS))
    with ScalableSession.from_yaml(path, target="here") as session:
        client = session.start()
        meter = Meter()
        assert session._run is not None
        cluster = session._run.cluster
        cluster.sync(cluster.add_plugin, meter)
        yield client.submit, meter


@contextlib.contextmanager
def dasks(folder: Path, preload: Path) -> Iterator[tuple[Submit, Meter]]:
    options = {"n_workers": 0, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with LocalCluster(**options, preload=[str(preload)], silence_logs=50) as cluster, Client(cluster) as client:
        meter = Meter()
        client.register_plugin(meter)
        meter = cluster.scheduler.plugins[Meter.name]
        cluster.adapt(minimum=0, maximum=MOST)

        def submit(function: Any, *args: Any, tag: str) -> Any:
            return client.submit(function, *args, pure=False)

        yield submit, meter


def measure(engine: Any, work: Callable[[Submit], float], runs: Path) -> tuple[float, float, int]:
    """Return seconds waited, cpu-seconds paid for, and workers started."""
    os.environ["SCALABLE_RUNS_DIR"] = str(runs)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        preload = folder / "slow_start.py"
        preload.write_text(f"import time\ntime.sleep({DELAY_S})\n")
        with engine(folder, preload) as (submit, meter):
            waited = work(submit)
            return waited, meter.stop(), meter.workers


def main() -> None:
    for work in (burst, pipeline):
        with tempfile.TemporaryDirectory() as runs:
            ratios = [pair(work, Path(runs)) for _ in range(PAIRS)]
        told = ", ".join(f"{one:.2f}" for one in ratios)
        print(f"{work.__name__}: cost x time against LocalCluster.adapt: {median(ratios):.2f}, of {told} (aim < 1)")


def pair(work: Callable[[Submit], float], runs: Path) -> float:
    """Return the ratio of cost times time."""
    products = []
    for name, engine in (("predictive", ours), ("LocalCluster.adapt", dasks)):
        waited, paid, workers = measure(engine, work, runs)
        products.append(waited * paid)
        print(
            f"{work.__name__}, {name}: {waited:.1f} s waited, {paid:.1f} cpu-seconds of {workers} workers", flush=True
        )
    return products[0] / products[1]


if __name__ == "__main__":
    sys.exit(main())
