"""Trivial tasks of a flow through ScalableTaskRunner, against Prefect's own runners and DaskTaskRunner.

One real Prefect server serves all. Each measurement is a process of its own, with two workers
of one thread; the runners take turns, and each begins when the server has come to rest.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import psutil

PROCESSES = ("dask", "scalable", "scalable-map")
THREADS = ("dask-threads", "pool", "scalable-threads", "scalable-threads-map")
FIGURES = ("submit", "wall", "client", "workers", "warm_up")
# Services of the server that no measurement needs; when they write, SQLite turns others away for two seconds.
IDLE_SERVICES = (
    *("CANCELLATION_CLEANUP", "DB_VACUUM", "EVENT_PERSISTER", "FOREMAN", "LATE_RUNS", "REPOSSESSOR", "SCHEDULER"),
    *("PAUSE_EXPIRATIONS", "TRIGGERS"),
)

Figures = dict[str, Any]


@contextlib.contextmanager
def server(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start Prefect's server with a database of its own; yield its address and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1", "PREFECT_HOME": str(folder)}
    lean = {f"PREFECT_SERVER_SERVICES_{service}_ENABLED": "false" for service in IDLE_SERVICES}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", f"--port={port}", "--no-ui"]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env={**os.environ, **quiet, **lean}, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}/api"
        _wait_for(url, process)
        yield url, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 150
    while time.monotonic() < give_up and process.poll() is None:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        time.sleep(0.3)
    raise RuntimeError("no answer from Prefect's server")


def rest(process: psutil.Process) -> float:
    """Wait until a process has done little for two seconds; return its processor seconds so far."""
    before = -1.0
    while True:
        times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
        now = sum(one.user + one.system for one in times)
        if now - before < 0.2:
            return now
        before = now
        time.sleep(2.0)


def measure(name: str, tasks: int, url: str, folder: Path, profiles: Path | None) -> Figures:
    """Run one variant in a process of its own."""
    report, log = folder / "report.json", folder / f"{name}.log"
    report.unlink(missing_ok=True)
    ours = {
        "PREFECT_API_URL": url,
        "PREFECT_HOME": str(folder),
        "DO_NOT_TRACK": "1",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    }
    ready = folder / "ready"
    if profiles is not None:
        ours["BENCH_PROFILE_READY"] = str(ready)
    command = [sys.executable, "-m", "benchmarks.prefect.variant", name, str(tasks), str(report)]
    with log.open("w") as file:
        process = subprocess.Popen(command, env={**os.environ, **ours}, stdout=file, stderr=file)
        if profiles is not None:
            _profile(process, ready, profiles, name)
        process.wait()
    if not report.exists():
        raise RuntimeError(f"{name} failed:\n{log.read_text()[-4000:]}")
    figures: Figures = json.loads(report.read_text())
    return figures


def _profile(process: subprocess.Popen[bytes], ready: Path, profiles: Path, name: str) -> None:
    """Sample the stacks of the flow's process and of a worker with py-spy while they are measured."""
    while not (ready.exists() and ready.read_text()):
        if process.poll() is not None:
            return
        time.sleep(0.1)
    who = json.loads(ready.read_text())
    done = ready.with_suffix(".done")
    done.unlink(missing_ok=True)
    spies = []
    for kind, pid in (("flow", who["flow"]), *(("worker", one) for one in who["workers"])):
        into = profiles / f"{name}-{kind}-{pid}.txt"
        command = ["py-spy", "record", "-p", str(pid), "-o", str(into), "-f", "raw", "-r", "200", "--nonblocking"]
        command += ["--threads", "-d", "3600"]
        spies.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    time.sleep(2)
    ready.unlink()
    while not done.exists() and process.poll() is None:
        time.sleep(0.1)
    for spy in spies:
        spy.send_signal(2)
    for spy in spies:
        spy.wait(60)


def table(results: Mapping[str, Sequence[Figures]]) -> None:
    """Print the medians, and how many times less each is than the peer's."""
    print(f"{'ms per task':22}{'submit':>9}{'wall':>9}{'CPU flow':>10}{'workers':>9}{'server':>9}{'warm-up s':>11}")
    for name, runs in results.items():
        one = {figure: median(run[figure] for run in runs) for figure in (*FIGURES, "server")}
        print(
            f"{name:22}{one['submit']:9.2f}{one['wall']:9.1f}{one['client']:10.1f}{one['workers']:9.1f}"
            f"{one['server']:9.1f}{one['warm_up']:11.1f}"
        )


def times(results: Mapping[str, Sequence[Figures]], name: str, peer: str, *figures: str) -> float | None:
    """Return the median over the rounds of peer / variant in a sum of figures; ``None`` where one was not run."""
    if not results.get(name) or not results.get(peer):
        return None
    pairs = zip(results[peer], results[name], strict=True)
    return median(sum(theirs[one] for one in figures) / sum(ours[one] for one in figures) for theirs, ours in pairs)


def verdicts(results: Mapping[str, Sequence[Figures]]) -> None:
    """Print what was aimed at."""
    for name in ("scalable", "scalable-map"):
        _say(times(results, name, "dask", "wall"), f"{name}: wall, DaskTaskRunner /", 10)
        _say(times(results, name, "dask", "client", "workers"), f"{name}: CPU of flow and workers, DaskTaskRunner /", 8)
        _say(times(results, name, "dask", "submit"), f"{name}: submit, DaskTaskRunner /", 50)
    for name in ("scalable-threads", "scalable-threads-map"):
        _say(times(results, name, "dask-threads", "wall"), f"{name}: wall, DaskTaskRunner with threads /", 7)
        _say(times(results, name, "pool", "wall"), f"{name}: wall, ThreadPoolTaskRunner /", 0.5)


def _say(ratio: float | None, what: str, aim: float) -> None:
    if ratio is not None:
        print(f"  {what} it: {ratio:.2f} (aim >= {aim:g}){'' if ratio >= aim else '  MISSED'}")


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.prefect", description=__doc__)
    parser.add_argument("--tasks", type=int, default=200, help="of each measurement (200)")
    parser.add_argument("--repeat", type=int, default=1, help="rounds of all variants (1)")
    parser.add_argument("--variants", default=",".join((*PROCESSES, *THREADS)), help="names, with commas")
    parser.add_argument("--profile", type=Path, help="folder for stacks that py-spy sampled; figures are then slower")
    parser.add_argument("--threads", action="store_true", help="print the CPU of the flow's threads, too")
    parser.add_argument("--json", type=Path, help="append all figures to this file, a line a measurement")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] = ()) -> None:
    options = _options(arguments)
    if options.profile is not None:
        if shutil.which("py-spy") is None:
            sys.exit("--profile needs py-spy on the PATH")
        options.profile.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Figures]] = {name: [] for name in options.variants.split(",")}
    with tempfile.TemporaryDirectory() as name, server(Path(name)) as (url, process):
        for number in range(options.repeat):
            for variant, runs in results.items():
                before = rest(process)
                figures = measure(variant, options.tasks, url, Path(name), options.profile)
                figures["server"] = 1000 * (rest(process) - before) / options.tasks
                runs.append(figures)
                _note(options, number, variant, figures)
    print(f"{options.tasks} tasks, 2 workers, medians of {options.repeat}:")
    table(results)
    verdicts(results)


def _note(options: argparse.Namespace, number: int, variant: str, figures: Figures) -> None:
    if options.json is not None:
        with options.json.open("a") as file:
            line = {"variant": variant, "tasks": options.tasks, "round": number, **figures}
            file.write(json.dumps(line) + "\n")
    shown = " ".join(f"{one}={figures[one]:.2f}" for one in (*FIGURES, "server"))
    print(f"  {number + 1}. {variant}: {shown}", flush=True)
    if options.threads:
        for thread, spent in figures["threads"].items():
            print(f"       {spent:7.2f} {thread}")
