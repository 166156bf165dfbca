"""The scaling policies before an outside judge: its observations in our words, our decisions in its.

``SCALABLE_SCALING_JUDGE`` names the judge's folder. All policies and baselines on all workloads
take a quarter of an hour (``SCALABLE_BENCH_ALL=1``); without, `predictive` and two baselines do.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
POLICIES = ("predictive", "adaptive", "vanilla", "capability", "fixed_elastic", "waterfall")
BASELINES = ("--policies", "dask_per_tag,parsl_htex,clairvoyant")


def judge() -> Path | None:
    """Return the judge's program, if it is there."""
    folder = Path(os.environ.get("SCALABLE_SCALING_JUDGE", ROOT.parent / "shared" / "scaling_eval"))
    program = folder / "simulate.py"
    return program if program.is_file() else None


def run(program: Path, policy: str, *more: str) -> None:
    """Print how a policy fares."""
    subprocess.run(
        [
            *(sys.executable, str(program), "--external", f"benchmarks.scaling.adapter:{policy}", "--label", policy),
            *("--jobs", str(min(2, os.cpu_count() or 1)), *more),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{program.parent}"},
        check=True,
    )


def main() -> None:
    """Run the judge."""
    program = judge()
    if program is None:
        print("there is no judge: SCALABLE_SCALING_JUDGE names the folder of simulate.py")
        return
    if os.environ.get("SCALABLE_BENCH_ALL") != "1":
        run(program, "predictive", *BASELINES, "--seeds", "1")
        return
    run(program, "predictive", *BASELINES)
    run(program, "predictive", "--fifo")
    for policy in POLICIES[1:]:
        run(program, policy)


if __name__ == "__main__":
    main()
