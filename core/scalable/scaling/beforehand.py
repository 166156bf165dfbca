"""What is known before anything of a run has run: prices, what the manifest says, and what past runs measured."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from scalable.errors import ScalableError
from scalable.planning.foresee import usual_startup_s
from scalable.spec import DeploymentSpec

if TYPE_CHECKING:
    from scalable.pricing import Rate
    from scalable.telemetry.past import Past

__all__ = ["Beforehand", "Recalled"]

logger = logging.getLogger(__name__)

_SAMPLE: Final = 200
_RECENT_RUNS: Final = 20

_History = tuple[tuple[float | None, float], ...]


class Recalled:
    """What past runs of a target measured, read in a thread of its own so that no run waits for it.

    It is to be joined before the interpreter ends (:meth:`wait`): a thread within DuckDB cannot be
    stopped, and would take the process down.

    Parameters
    ----------
    runs_dir : Path or None
        The folder of runs; ``None`` recalls nothing.
    project, target : str
        Whose runs.
    """

    def __init__(self, runs_dir: Path | None = None, project: str = "", target: str = "") -> None:
        self._past: Past | None = None
        self._known: dict[str, _History] = {}
        self._startup_s: dict[str, float] = {}
        self._thread: threading.Thread | None = None
        if runs_dir is not None and runs_dir.is_dir():
            self._thread = threading.Thread(target=self._read, args=(runs_dir, project, target), name="scalable-recall")
            self._thread.start()

    def wait(self) -> None:
        """Wait until all has been read."""
        if self._thread is not None:
            self._thread.join()

    def durations(self, task: str) -> _History:
        """Return size of the input, or ``None``, and seconds of past tasks with a name, the latest 200 of the target.

        Where the target has none, those of the project's other targets.
        """
        return self._known.get(task, ())

    def startup_s(self, pool: str) -> float | None:
        """Return the seconds that a worker of a pool took to come up, in the median of the latest runs."""
        return self._startup_s.get(pool)

    def _read(self, runs_dir: Path, project: str, target: str) -> None:
        from scalable.telemetry.past import read_past  # noqa: PLC0415  (DuckDB is only for those who recall)

        try:
            past = read_past(runs_dir)
        except (ScalableError, OSError) as error:
            logger.info("past runs are not known: %s", error)
            return
        runs = [run for run in past.runs if run.project == project and run.target == target][-_RECENT_RUNS:]
        for pool in {name for run in runs for name in run.startup_s}:
            self._startup_s[pool] = float(np.median([run.startup_s[pool] for run in runs if pool in run.startup_s]))
        for task in past.tasks:
            self._known[task] = _sample(past, task, target)


def _sample(past: Past, task: str, target: str) -> _History:
    from scalable.telemetry.past import COMPLETED  # noqa: PLC0415

    for where in (target, None):
        attempts = past.of(task, where)
        done = (attempts.outcome == COMPLETED) & np.isfinite(attempts.duration_s)
        if done.any():
            seconds, sizes = attempts.duration_s[done][-_SAMPLE:], attempts.input_bytes[done][-_SAMPLE:]
            return tuple(
                (None if np.isnan(size) else float(size), float(f"{duration:.4g}"))
                for size, duration in zip(sizes, seconds, strict=True)
            )
    return ()


@dataclass(frozen=True, slots=True)
class Beforehand:
    """What is known before anything has run.

    Attributes
    ----------
    rates : mapping of str to Rate
        Price of a worker, by pool, where it is known.
    recalled : Recalled
        What past runs measured.
    prior_s : mapping of str to float
        Seconds that a task is said to take, by its name.
    spec : DeploymentSpec or None
        What is to run.
    """

    rates: Mapping[str, Rate] = field(default_factory=dict)
    recalled: Recalled = field(default_factory=Recalled)
    prior_s: Mapping[str, float] = field(default_factory=dict)
    spec: DeploymentSpec | None = None

    @classmethod
    def of(cls, spec: DeploymentSpec, rates: Mapping[str, Rate], runs_dir: Path | None) -> Beforehand:
        """Return what is known of a deployment; what past runs say follows in a moment."""
        said = {name: task.duration_s for name, task in spec.tasks.items() if task.duration_s is not None}
        return cls(rates, Recalled(runs_dir, spec.project, spec.target), said, spec)

    def history(self, task: str) -> Sequence[tuple[float | None, float]]:
        """Return size of the input, or ``None``, and seconds of past tasks with a name."""
        return self.recalled.durations(task)

    def startup_s(self, pool: str, target: str) -> tuple[float | None, float | None]:
        """Return seconds until a worker of a pool is paid for, and from there until it is up; ``None`` if unknown."""
        if self.spec is None:
            return None, None
        return usual_startup_s(self.spec.parts.get(target, self.spec), self.recalled.startup_s(pool))
