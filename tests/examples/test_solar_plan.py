"""The plan of the solar example says how long its next run takes."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from scalable import ScalableSession

MANIFEST = Path(__file__).parents[2] / "examples" / "solar" / "scalable.yaml"
WITHIN = 0.10


def simulate(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def postprocess(results: list[float]) -> float:
    time.sleep(1.5)
    return sum(results)


def run() -> tuple[float, float]:
    """Return the seconds that a run of the example's shape was planned to take, and those that it took."""
    with ScalableSession.from_yaml(MANIFEST, target="local") as session:
        plan = session.plan()
        client = session.start(plan)
        naps = [0.4 + 0.05 * number for number in range(15)]
        client.submit(postprocess, client.map(simulate, naps, tag="simulate"), tag="postprocess").result()
    assert session.run_dir is not None
    assert plan.time_s is not None
    started = json.loads((session.run_dir / "run.json").read_text())["started_at"]
    lines = (session.run_dir / "tasks.jsonl").read_text().splitlines()
    return plan.time_s.median, max(json.loads(line)["ended_at"] for line in lines) - started


@pytest.mark.slow
def test_the_predicted_time_is_within_a_tenth_of_what_the_next_run_takes() -> None:
    # What it really computes takes longer or shorter by more than that while others use the machine, and so
    # does the start of a process: hence naps, and as many runs as make one of them undisturbed.
    run()
    misses: list[tuple[float, float]] = []
    for _ in range(4):
        planned, took = run()
        if abs(planned / took - 1) <= WITHIN:
            return
        misses.append((planned, took))
    pytest.fail(f"planned and taken: {misses}")
