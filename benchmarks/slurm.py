"""Two pools of Slurm jobs against a plain ``dask_jobqueue.SLURMCluster``, on a Slurm of their own, in turn."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PAIRS = 5
WORKERS = 4
TASKS = 2_000

MANIFEST = """\
version: 1
project: {name: benchmark}
targets:
  hpc: {provider: slurm, queue: main, walltime: "00:10:00", interface: lo, max_workers: 4, n_workers: 4}
components:
  simulate: {cpus: 1, memory: 500M}
  rank: {cpus: 1, memory: 600M}
tasks:
  simulate: {component: simulate}
  rank: {component: rank}
"""


def increment(number: int) -> int:
    return number + 1


def timed(
    start: Callable[[], tuple[Callable[[], Any], Callable[[], int], Callable[[int], int], Callable[[], None]]],
) -> None:
    """Print the seconds from nothing to the first result, and tasks a second when all workers are up."""
    began = time.perf_counter()
    first, up, many, close = start()
    first()
    to_first = time.perf_counter() - began
    while up() < WORKERS:
        time.sleep(0.05)
    many(WORKERS * 20)
    began = time.perf_counter()
    assert many(TASKS) == TASKS * (TASKS + 1) // 2
    rate = TASKS / (time.perf_counter() - began)
    close()
    print(json.dumps({"to_first_s": to_first, "tasks_per_s": rate}))


def ours() -> Any:
    from scalable import ScalableSession

    Path("scalable.yaml").write_text(MANIFEST)
    session = ScalableSession.from_yaml("scalable.yaml", target="hpc")
    client = session.start()

    def many(tasks: int) -> int:
        half = tasks // 2
        futures = client.map(increment, range(half), tag="simulate")
        futures += client.map(increment, range(half, tasks), tag="rank")
        return sum(client.gather(futures))

    return (
        lambda: client.submit(increment, 1, tag="simulate").result(),
        lambda: client.worker_count("simulate") + client.worker_count("rank"),
        many,
        session.close,
    )


def peer() -> Any:
    from dask_jobqueue import SLURMCluster
    from distributed import Client

    cluster = SLURMCluster(
        queue="main",
        cores=1,
        processes=1,
        memory="500MiB",
        walltime="00:10:00",
        interface="lo",
        log_directory="logs",
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        worker_extra_args=["--no-dashboard", "--dashboard-address", "127.0.0.1:0"],
    )
    cluster.scale(jobs=WORKERS)
    client = Client(cluster, set_as_default=False)

    def close() -> None:
        client.close()
        cluster.close()

    return (
        lambda: client.submit(increment, 1).result(),
        lambda: len(client.scheduler_info(n_workers=-1)["workers"]),
        lambda tasks: sum(client.gather(client.map(increment, range(tasks), pure=False))),
        close,
    )


def trial(who: str, environment: dict[str, str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="scalable-bench-") as directory:
        done = subprocess.run(
            [sys.executable, __file__, who],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
            timeout=180,
        )
        result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return result


def main() -> None:
    from tests.slurm import backend

    try:
        slurm = backend.up()
    except backend.Unavailable as problem:
        print(f"skipped: {problem}")
        return
    try:
        environment = dict(os.environ, SLURM_CONF=str(slurm.conf))
        pairs = []
        for number in range(PAIRS):
            order = ("ours", "peer") if number % 2 else ("peer", "ours")
            found = {who: trial(who, environment) for who in order}
            slurm.wait_empty()
            pairs.append((found["ours"], found["peer"]))
    finally:
        backend.down()
    for name, unit, better in (("to_first_s", "s", "<= 1.1"), ("tasks_per_s", "tasks/s", ">= 0.91")):
        mine = statistics.median(one[name] for one, _ in pairs)
        theirs = statistics.median(one[name] for _, one in pairs)
        ratio = statistics.median(one[name] / other[name] for one, other in pairs)
        print(
            f"{name}: {mine:.2f} {unit}, SLURMCluster {theirs:.2f}; median of {PAIRS} pairs {ratio:.2f} (aim {better})"
        )


if __name__ == "__main__":
    timed({"ours": ours, "peer": peer}[sys.argv[1]])
