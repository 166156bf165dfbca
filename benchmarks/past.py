"""A million records of past runs: read for the first time, once more, and with one new run, against pandas."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scalable.telemetry.past import Past, read_past

RUNS = 200
RECORDS = 5_000
TASKS = 100
PEER_SHARE = 10
START = 1_779_271_200.0


def write_run(folder: Path, number: int) -> None:
    """Write the directory of a run that has ended."""
    rng = random.Random(number)
    run = folder / f"run-{number:04}"
    run.mkdir()
    start = START + 3600 * number
    facts = {"schema": 1, "run_id": run.name, "started_at": start, "target": "hpc", "provider": "slurm", "pid": 1}
    (run / "run.json").write_text(json.dumps(facts))
    pools = {"work": {"count": 8, "cpus": 1, "memory_bytes": 2**30, "gpus": 0}}
    (run / "plan.json").write_text(json.dumps({"schema": 1, "pools": pools}))
    came = {"event": "worker_added", "at": start, "worker": "work-0", "tag": "work", "threads": 1}
    (run / "workers.jsonl").write_text(json.dumps(came) + "\n")
    with (run / "tasks.jsonl").open("w") as lines:
        for i in range(RECORDS):
            lines.write(json.dumps(record(rng, start, i), separators=(",", ":")) + "\n")
    summary = {"schema": 1, "status": "completed", "ended_at": start + RECORDS, "tasks": {}}
    (run / "summary.json").write_text(json.dumps(summary))


def record(rng: random.Random, start: float, i: int) -> dict[str, Any]:
    task, duration = rng.randrange(TASKS), rng.uniform(1, 100)
    return {
        "key": f"task{task}-0{i:016x}",
        "name": f"task{task}",
        "tag": "work",
        "component": "work",
        "worker": f"work-{i % 8}",
        "attempt": 1,
        "queued_at": start + i,
        "started_at": start + i + 0.25,
        "ended_at": start + i + duration,
        "duration_s": duration,
        "cpu_s": duration / 2,
        "peak_bytes": rng.randrange(2**26, 2**30),
        "exclusive": True,
        "features": {"wildcards.sample": f"s{rng.randrange(50)}", "input_bytes": rng.randrange(2**30)},
        "n_args": 2,
        "arg_bytes": 1_000,
        "n_inputs": 1,
        "input_bytes": rng.randrange(2**30),
        "asked_bytes": 2**30,
        "threads": 1,
        "outcome": "completed",
        "error_type": None,
        "error": None,
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin, answer


def elsewhere(folder: Path) -> float:
    """Return the seconds that reading takes another process, its start not counted."""
    program = (
        "import time; from scalable.telemetry.past import read_past; begin = time.perf_counter(); "
        f"read_past({str(folder)!r}); print(time.perf_counter() - begin)"
    )
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


def peer(folder: Path) -> float:
    """Return the seconds that pandas takes for all records, of which it reads a share."""
    import pandas as pd

    files = sorted(folder.glob("run-*/tasks.jsonl"))[: RUNS // PEER_SHARE]
    seconds, _ = timed(lambda: pd.concat(pd.read_json(file, lines=True) for file in files))
    return seconds * PEER_SHARE


def per_task(past: Past) -> float:
    """Return the milliseconds that the attempts of a task take, with their features, in the mean."""
    seconds, _ = timed(lambda: [list(past.of(task).features) for task in past.tasks])
    return seconds / len(past.tasks) * 1e3


def main() -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(RUNS):
            write_run(folder, number)
        total = RUNS * RECORDS
        pandas_s = peer(folder)
        first_s, past = timed(lambda: read_past(folder))
        assert sum(len(past.of(task)) for task in past.tasks) == total
        again_s, _ = timed(lambda: read_past(folder))
        elsewhere_s = elsewhere(folder)
        write_run(folder, RUNS)
        one_more_s, past = timed(lambda: read_past(folder))
        assert len(past.runs) == RUNS + 1
        print(f"{total} records of {RUNS} runs:")
        print(f"  pandas.read_json:        {pandas_s:6.2f} s ({PEER_SHARE} times what it took for a {PEER_SHARE}th)")
        for title, seconds in (
            ("first read:", first_s),
            ("read again:", again_s),
            ("by another process:", elsewhere_s),
            ("after one more run:", one_more_s),
        ):
            print(f"  {title:24} {seconds:6.2f} s, {pandas_s / seconds:5.1f} times as fast")
        share = total // TASKS
        print(f"attempts of one task with features: {per_task(past):.1f} ms for {share} in the mean (aim <= 20)")


if __name__ == "__main__":
    main()
