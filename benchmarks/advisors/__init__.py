"""The advisors: what asking and telling costs, and how they do against published methods on recorded workflows."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from scalable.advisors import Observation, ResourceAdvisor
from scalable.ml import LearnedAdvisor
from scalable.telemetry.past import Past, PastRun

RECORDS = 10_000
BATCHES = 10
BATCH = 40
REFITS = 5
TASK = "simulate"
ROOT = Path(__file__).parents[2]
PREDICTORS = (
    "presets,max,p95,p99,tovar,witt-lr,witt-wastage,ponder,bucketing,lotaru,limit-linear,"
    "benchmarks.advisors.adapter:learned,benchmarks.advisors.adapter:quantile"
)
REFERENCE = "witt-wastage"


def facts(rng: random.Random) -> dict[str, Any]:
    """Return what is known and measured of one attempt: its need grows with its input, and differs by model."""
    years, model = rng.randrange(1, 100), rng.randrange(5)
    size = round(2 ** rng.uniform(24, 33))
    need = (20 + years / 2 + 10 * model + size / 2**21) * rng.lognormvariate(0, 0.1)
    return {
        "features": {"years": years, "model": f"m{model}"},
        "input_bytes": size,
        "duration_s": need / 10,
        "cpu_s": need / 10,
        "peak_bytes": need * 2**20,
    }


def past(rng: random.Random) -> Past:
    """Return a history of one task, as :func:`scalable.telemetry.past.read_past` would."""
    some = [facts(rng) for _ in range(RECORDS)]
    columns: dict[str, Any] = {
        name: np.array([one[name] for one in some]) for name in ("input_bytes", "duration_s", "cpu_s", "peak_bytes")
    }
    for name in ("task", "run", "component", "outcome", "n_args", "n_inputs"):
        columns[name] = np.zeros(RECORDS)
    columns |= {"started_at": np.arange(RECORDS, dtype=float), "ended_at": np.arange(1, RECORDS + 1, dtype=float)}
    columns |= {"exclusive": np.ones(RECORDS, dtype=bool), "threads": np.ones(RECORDS)}
    columns |= {"arg_bytes": np.full(RECORDS, np.nan), "asked_bytes": np.full(RECORDS, 2.0**30)}
    columns["features"] = np.array([json.dumps(one["features"]) for one in some], dtype=object)
    run = PastRun(
        "run-0", Path("run-0"), "hpc", "bench", "slurm", 0.0, 1e6, "completed", {}, {"work": 60.0}, {"work": 1}
    )
    return Past([run], tasks=[TASK], components=["work"], columns=columns)


def once(advisor: ResourceAdvisor | LearnedAdvisor, rng: random.Random) -> float:
    """Tell of one attempt, ask for the next, and return the milliseconds that this took."""
    told, asked = facts(rng), facts(rng)
    attempt = Observation(TASK, "hpc", "completed", component="work", run_id="run-1", **told)
    features = {**asked["features"], "input_bytes": asked["input_bytes"]}
    begin = time.perf_counter()
    advisor.observe(attempt)
    advisor.recommend(TASK, "hpc", features=features)
    return (time.perf_counter() - begin) * 1e3


def told(title: str, times: list[float]) -> None:
    mean, p99 = np.mean(times), np.quantile(times, 0.99)
    print(f"  {title:38} {mean:6.2f} ms in the mean, {p99:6.2f} ms at p99, of {len(times)}", flush=True)


def costs() -> None:
    """Print what it costs to tell of one attempt and to ask for the next."""
    rng = random.Random(1)
    history = past(rng)
    print(f"observe() and the next recommend() together, {RECORDS} records of the task (aim <= 5 ms):")
    quantile, learned = ResourceAdvisor(history), LearnedAdvisor(history)
    quantile.recommend(TASK, "hpc")
    told("ResourceAdvisor", [once(quantile, rng) for _ in range(BATCHES * BATCH)])
    begin = time.perf_counter()
    learned.recommend(TASK, "hpc")
    first_s = time.perf_counter() - begin
    times = []
    for _ in range(BATCHES):
        learned.settle()
        times += [once(learned, rng) for _ in range(BATCH)]
    told("LearnedAdvisor", times)
    during: list[float] = []
    for _ in range(REFITS):
        learned.settle()
        with learned._lock:
            learned._schedule(learned._models[TASK])
        while learned._refits:
            during.append(once(learned, rng))
    told("LearnedAdvisor, learning meanwhile", during)
    learned.close()
    print(f"  LearnedAdvisor's first answer, learned from the history: {first_s:.1f} s")


def judge() -> tuple[Path, Path] | None:
    """Return the judge's program and the traces, if they are there."""
    shared = ROOT.parent / "shared"
    program = Path(os.environ.get("SCALABLE_JUDGE", shared / "advisor_eval")) / "evaluate.py"
    traces = Path(os.environ.get("SCALABLE_TRACES", shared / "traces"))
    return (program, traces) if program.is_file() and any(traces.glob("*.csv.gz")) else None


def compare(program: Path, traces: Path, protocol: str, only: str) -> None:
    """Print how much of their memory the advisors and published methods waste."""
    done = subprocess.run(
        [
            *(sys.executable, str(program), "--traces", str(traces), "--protocol", protocol),
            *("--only", only, "--reference", REFERENCE, "--predictors", PREDICTORS),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    print(f"{only or 'all traces'}, {protocol}:")
    print(done.stdout[done.stdout.rindex("== all:") :].strip(), flush=True)


def main() -> None:
    costs()
    found = judge()
    if found is None:
        print("no traces to be judged on: SCALABLE_JUDGE names the folder of evaluate.py, SCALABLE_TRACES theirs")
        return
    compare(*found, "warm", "sizey__")
    if os.environ.get("SCALABLE_BENCH_ALL") == "1":
        compare(*found, "warm", "")
        compare(*found, "cold", "")


if __name__ == "__main__":
    main()
