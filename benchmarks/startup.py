"""Processor seconds of starting: an import, and a command that reads a manifest, against Python itself."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

RUNS = 7
MANIFEST = Path(__file__).parents[1] / "examples" / "solar" / "scalable.yaml"


def cpu(command: list[str]) -> float:
    """Return the median of the user and system seconds of a command."""
    seconds = []
    for _ in range(RUNS):
        before = os.times()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=tempfile.gettempdir())
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(seconds)


def main() -> None:
    bare = cpu([sys.executable, "-c", "pass"])
    package = cpu([sys.executable, "-c", "import scalable"])
    validate = cpu([str(Path(sys.executable).with_name("scalable")), "validate", str(MANIFEST)])
    print(f"python -c pass: {bare * 1000:.0f} ms CPU")
    print(f"import scalable: {(package - bare) * 1000:.0f} ms CPU more (aim <= 50)")
    print(f"scalable validate: {validate:.2f} s CPU in all (aim <= 0.4), {validate / bare:.0f} times a bare Python")


if __name__ == "__main__":
    main()
