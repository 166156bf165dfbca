"""The solar example as a Prefect flow: ``python flow.py --size small --out out/flow``."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import solar
from prefect import flow, task

from scalable_prefect import ScalableTaskRunner

HERE = Path(__file__).resolve().parent

simulate = task(solar.simulate, tags=["simulate"])
postprocess = task(solar.postprocess, tags=["postprocess"])


@flow(name="solar", task_runner=ScalableTaskRunner(manifest=HERE / "scalable.yaml", target="local"))
def rank_designs(size: str = "small", out: str = "out/flow") -> dict[str, Any]:
    """Simulate every design of the grid, then rank them."""
    results = simulate.map(solar.grid(size))
    return postprocess.submit(results, out).result()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Rank designs of a solar plant with a Prefect flow.")
    parser.add_argument("--size", choices=("small", "large"), default="small")
    parser.add_argument("--out", type=Path, default=HERE / "out" / "flow")
    parser.add_argument("--target", default=os.environ.get("SCALABLE_TARGET", "local"))
    options = parser.parse_args()
    runner = ScalableTaskRunner(manifest=HERE / "scalable.yaml", target=options.target)
    made = rank_designs.with_options(task_runner=runner)(options.size, str(options.out.resolve()))
    best = made["best"]
    print(f"best of {made['designs']}: tilt {best['tilt_deg']:g}°, azimuth {best['azimuth_deg']:g}°, ", end="")
    print(f"{best['yield_kwh']:,.0f} kWh a year; {made['picture']}")
