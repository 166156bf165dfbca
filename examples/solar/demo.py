"""The solar example through all three engines: ``python demo.py``; needs no network and leaves nothing running."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
_SCALABLE = "import sys; from scalable.cli import main; sys.exit(main())"


class DemoError(Exception):
    """A part of the demo went wrong; the message says which and why."""


@dataclass(frozen=True)
class Engine:
    """One way to run the example; ``name`` is also that of its folder."""

    name: str
    title: str
    command: tuple[str, ...]


def engines(out: Path, size: str, target: str) -> tuple[Engine, ...]:
    options = ("--size", size, "--target", target)
    snakemake = (
        *("-m", "snakemake", "--snakefile", str(HERE / "Snakefile"), "--directory", str(out / "snakemake")),
        *("--executor", "scalable", "--scalable-manifest", str(HERE / "scalable.yaml"), "--scalable-target", target),
        *("--jobs", "4", "--forceall", "--config", f"size={size}", "out=."),
    )
    return (
        Engine("script", "plain script", (str(HERE / "script.py"), *options, "--out", str(out / "script"))),
        Engine("flow", "Prefect flow", (str(HERE / "flow.py"), *options, "--out", str(out / "flow"))),
        Engine("snakemake", "Snakemake", snakemake),
    )


def environment(out: Path) -> dict[str, str]:
    """Keep runs, caches and Prefect's database below the output folder, and every server a passing one."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("SCALABLE_", "PREFECT_"))}
    return ours | {
        "SCALABLE_RUNS_DIR": str(out / "runs"),
        "PREFECT_HOME": str(out / "flow" / "prefect"),
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "MPLCONFIGDIR": str(out / "cache" / "matplotlib"),
        "XDG_CACHE_HOME": str(out / "cache"),
        "DASK_CONFIG": str(out / "cache" / "dask"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run(engine: Engine, out: Path) -> Path:
    """Run the example with one engine, say how it went, and return the directory of the run."""
    folder, runs = out / engine.name, out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ranking.json").unlink(missing_ok=True)
    before = set(runs.glob("run-*"))
    begun = time.monotonic()
    done = _python(*engine.command, out=out)
    seconds = time.monotonic() - begun
    log = folder / "log.txt"
    log.write_text(done.stdout, encoding="utf-8")
    made = set(runs.glob("run-*")) - before
    if done.returncode or len(made) != 1 or not (folder / "ranking.json").is_file():
        last = "\n".join(f"    {line}" for line in done.stdout.splitlines()[-25:])
        raise DemoError(
            f"{engine.title} failed (exit code {done.returncode}); its last words, all of them in {log}:\n{last}"
        )
    (directory,) = made
    best = _ranking(out, engine.name)[0]
    print(f"   {_work_done(directory)}; {seconds:.1f} s")
    print(
        f"   best: tilt {best['tilt_deg']:g}°, azimuth {best['azimuth_deg']:g}°, "
        f"{best['yield_kwh']:,.0f} kWh a year ({best['yield_kwh_per_kw']:,.0f} per kW)\n",
        flush=True,
    )
    return directory


def report(engine: Engine, directory: Path, out: Path) -> Path:
    """Write the report of a run and return its path."""
    path = out / engine.name / "report.txt"
    done = _python("-c", _SCALABLE, "report", "--run-id", directory.name, "--output", str(path), out=out)
    if done.returncode:
        raise DemoError(f"there is no report of run {directory.name}: {done.stdout.strip()}")
    return path


def compare(out: Path, names: tuple[str, ...] = ("script", "flow", "snakemake")) -> int:
    """Return how many designs the rankings hold, which must all be equal."""
    first, *others = names
    expected = _ranking(out, first)
    for other in others:
        found = _ranking(out, other)
        if len(found) != len(expected):
            raise DemoError(f"{first} ranked {len(expected)} designs, {other} {len(found)}")
        for one, two in zip(expected, found, strict=True):
            if one != two:
                raise DemoError(f"{first} and {other} differ at rank {one['rank']}:\n    {one}\n    {two}")
    return len(expected)


def demo(out: Path, size: str, target: str) -> None:
    print(f"Yearly yield of solar plants: {size} grid on target '{target}', one manifest, three engines\n")
    chosen = engines(out, size, target)
    directories = []
    for number, engine in enumerate(chosen, start=1):
        print(f"{number}. {engine.title}", flush=True)
        directories.append(run(engine, out))
    count = compare(out)
    print(f"The three rankings are equal: {count} designs each.")
    reports = [report(engine, directory, out) for engine, directory in zip(chosen, directories, strict=True)]
    print(f"   picture   {_shown(out / chosen[0].name / 'yield.png')}")
    for path in reports:
        print(f"   report    {_shown(path)}")
    print(f"\nThe last one:\n\n{reports[-1].read_text(encoding='utf-8').rstrip()}")


def _shown(path: Path) -> Path:
    """Return a path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Run the solar example with a script, with Prefect and with Snakemake."
    )
    parser.add_argument("--out", type=Path, default=HERE / "out", help="everything is written below it")
    parser.add_argument("--size", choices=("small", "large"), default="small")
    parser.add_argument("--target", default="local", help="a target of scalable.yaml")
    options = parser.parse_args()
    try:
        demo(options.out.resolve(), options.size, options.target)
    except DemoError as failure:
        print(f"\n{failure}")
        return 1
    return 0


def _python(*arguments: str, out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment(out),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )


def _ranking(out: Path, name: str) -> list[dict[str, Any]]:
    return list(json.loads((out / name / "ranking.json").read_text(encoding="utf-8")))


def _work_done(directory: Path) -> str:
    tasks = Counter(line["outcome"] for line in _lines(directory / "tasks.jsonl"))
    pools = Counter(line["tag"] for line in _lines(directory / "workers.jsonl") if line["event"] == "worker_added")
    workers = ", ".join(f"{count} for {tag}" for tag, count in pools.items())
    return f"{tasks['completed']} tasks; workers started: {workers}"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


if __name__ == "__main__":
    sys.exit(main())
