"""Run every benchmark, or those that are named."""

from __future__ import annotations

import sys
from importlib import import_module

BENCHMARKS = (
    "throughput",
    "telemetry",
    "startup",
    "counts",
    "slurm",
    "past",
    "advisors",
    "planning",
    "scaling_tick",
    "scaling",
    "scaling_live",
    "prefect",
)


def main(names: list[str]) -> int:
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    for name in names or BENCHMARKS:
        print(f"== {name}", flush=True)
        import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
