"""What a run will have to do, and with which workers: from an engine, the manifest, past runs, else a guess."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from scalable.planning.workload import PoolModel, TaskGroup, Workload
from scalable.spec import DeploymentSpec, TaskSpec
from scalable.units import format_duration

if TYPE_CHECKING:
    from scalable.telemetry.past import Attempts, Past

__all__ = ["CORE_HOURS", "USD", "Foresight", "Rate", "foresee"]

USD: Final = "USD"
CORE_HOURS: Final = "core-hours"

_SAMPLE: Final = 200
_RECENT_RUNS: Final = 20
_GUESSED_S: Final = 30.0
# The manifest says one number; tasks of one kind differ by about this much from each other.
_SPREAD: Final = (0.75, 0.85, 0.95, 1.0, 1.05, 1.15, 1.3)
_Z95: Final = 1.6449
# Quantiles of the normal distribution at the middles of eleven equal shares.
_NORMAL: Final = (-1.69, -1.10, -0.75, -0.47, -0.23, 0.0, 0.23, 0.47, 0.75, 1.10, 1.69)
_BATCH_BOOT_S: Final = 5.0
_LATER_S: Final = 0.25
_STARTUP_S: Final[Mapping[str, float]] = {
    "local": 1.5,
    "kubernetes": 45.0,
    "aws": 75.0,
    "gcp": 90.0,
}
_THREADS_STARTUP_S: Final = 0.05
_BATCH_STARTUP_S: Final = 60.0
_CLOUDS: Final = frozenset({"aws", "gcp", "kubernetes"})


class Rate(Protocol):
    """What a worker costs, as :class:`scalable.pricing.Rate` says it."""

    @property
    def usd_per_s(self) -> float:
        """US dollars of a worker-second; 0 where nothing is paid."""
        ...

    @property
    def min_bill_s(self) -> float:
        """Seconds that are paid for at the least."""
        ...

    @property
    def source(self) -> str:
        """Where the price is from."""
        ...


@dataclass(frozen=True, slots=True)
class Foresight:
    """All that a plan rests on.

    Attributes
    ----------
    workload : Workload
        What is to run; without groups if nothing is known.
    pools : tuple of PoolModel
        Workers of each pool with their price in :attr:`unit`.
    unit : str
        ``"USD"``, or ``"core-hours"`` where no price is known or nothing is paid.
    price_source : str
        Where prices are from; empty without.
    notes : tuple of str
        What was guessed, and what is not known.
    """

    workload: Workload
    pools: tuple[PoolModel, ...]
    unit: str = CORE_HOURS
    price_source: str = ""
    notes: tuple[str, ...] = ()


def foresee(
    spec: DeploymentSpec,
    maximum: int,
    *,
    past: Past | None = None,
    rates: Mapping[str, Rate | None] | None = None,
    threads: Mapping[str, int] | None = None,
    tasks: Iterable[TaskGroup] | None = None,
    partial: bool = False,
) -> Foresight:
    """Return what a run will have to do, and with which workers.

    Parameters
    ----------
    spec : DeploymentSpec
        What is to run, with the advice of past runs if that is taken.
    maximum : int
        Workers of all pools together, at the most.
    past : Past, optional
        What past runs measured.
    rates : mapping of str to Rate or None, optional
        Price of a worker, by pool; ``None`` where it is not known.
    threads : mapping of str to int, optional
        Tasks that a worker runs at a time, by pool; default is 1.
    tasks : iterable of TaskGroup, optional
        What an engine knows to run, in place of what the manifest says.
    partial : bool
        Whether these are some of it only, so that the manifest and the latest run tell of more.

    Raises
    ------
    PlanError
        If tasks wait for each other in a circle.
    """
    memory = _Memory.of(past, spec)
    given = list(tasks or ())
    if tasks is None or partial:
        given = _joined(given, _from_manifest(spec, memory, threads or {}))
    notes: list[str] = []
    groups = [_complete(group, spec.tasks.get(group.name), memory, maximum, notes) for group in given]
    workload = Workload.of(groups, known=not notes)
    unit, source = _unit(spec, workload, rates or {}, notes)
    pools = tuple(
        _pool(spec, name, memory, maximum=maximum, rate=(rates or {}).get(name), unit=unit, notes=notes)
        for name in spec.components
    )
    return Foresight(workload, pools, unit, source, tuple(notes))


@dataclass(frozen=True, slots=True)
class _Memory:
    """What past runs of the target, and of the project, say."""

    past: Past | None = None
    target: str = ""
    latest: int = -1
    project_runs: tuple[int, ...] = ()
    startup_s: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, past: Past | None, spec: DeploymentSpec) -> _Memory:
        if past is None:
            return cls()
        own = [number for number, run in enumerate(past.runs) if run.project == spec.project]
        here = [number for number in own if past.runs[number].target == spec.target]
        done = [number for number in here or own if past.runs[number].status == "completed"]
        recent = [past.runs[number] for number in here[-_RECENT_RUNS:]]
        startup = {
            pool: tuple(run.startup_s[pool] for run in recent if pool in run.startup_s) for pool in spec.components
        }
        return cls(past, spec.target, done[-1] if done else -1, tuple(own), startup)

    def completed(self, task: str, *, latest: bool) -> Attempts | None:
        """Return completed attempts of a task, the latest run's or the latest there are; ``None`` without any."""
        if self.past is None or (latest and self.latest < 0):
            return None
        from scalable.telemetry.past import COMPLETED  # noqa: PLC0415  (DuckDB is only for those who look back)

        for where in (self.target, None):
            attempts = self.past.of(task, where)
            fitting = (attempts.outcome == COMPLETED) & (attempts.duration_s >= 0)
            fitting &= attempts.run == self.latest if latest else _among(attempts.run, self.project_runs)
            if fitting.any():
                return attempts.where(fitting)
        return None

    def names(self) -> tuple[str, ...]:
        """Return the tasks of the latest run."""
        if self.past is None or self.latest < 0:
            return ()
        from scalable.telemetry.history import INTERNAL  # noqa: PLC0415  (as above)

        found = [name for name in self.past.tasks if INTERNAL not in name]
        return tuple(name for name in found if self.completed(name, latest=True) is not None)


def _among(values: Any, wanted: Sequence[int]) -> Any:
    import numpy as np  # noqa: PLC0415  (only those who look back have arrays)

    return np.isin(values, wanted)


def _joined(known: Sequence[TaskGroup], expected: Sequence[TaskGroup]) -> list[TaskGroup]:
    """Return what is expected with what is known in its place; more of a kind may be to come."""
    rest = {group.name: group for group in expected}
    joined = []
    for group in known:
        same = rest.pop(group.name, None)
        joined.append(group if same is None else replace(group, count=max(group.count, same.count)))
    return [*joined, *rest.values()]


def _from_manifest(spec: DeploymentSpec, memory: _Memory, threads: Mapping[str, int]) -> list[TaskGroup]:
    """Return the manifest's tasks, and those that the latest run had besides."""
    groups = []
    for task in spec.tasks.values():
        seen = memory.completed(task.name, latest=True)
        count = task.count if task.count is not None else (0 if seen is None else len(seen))
        takes = 1 if seen is None else max(1, int(seen.threads[-1]))
        slots = max(1, threads.get(task.component, 1) // takes)
        resources = spec.components[task.component].resources
        groups.append(
            TaskGroup(
                task.name,
                task.component,
                count,
                after=task.after,
                slots=slots,
                cpus=resources.cpus / slots,
                memory_bytes=task.memory_bytes,
            )
        )
    return [*groups, *_besides(spec, memory, threads)]


def _besides(spec: DeploymentSpec, memory: _Memory, threads: Mapping[str, int]) -> list[TaskGroup]:
    """Return tasks of the latest run that the manifest does not name; what was over when one began it waits for."""
    found: list[tuple[float, float, TaskGroup]] = []
    for name in memory.names():
        seen = memory.completed(name, latest=True)
        if name in spec.tasks or seen is None or seen.component[-1] not in spec.components:
            continue
        pool = str(seen.component[-1])
        slots = max(1, threads.get(pool, 1) // max(1, int(seen.threads[-1])))
        group = TaskGroup(name, pool, len(seen), slots=slots, cpus=spec.components[pool].resources.cpus / slots)
        found.append((float(seen.started_at.min()), float(seen.ended_at.max()), group))
    return [
        replace(group, after=tuple(other.name for _, over, other in found if over <= begun))
        for begun, _, group in found
    ]


def _complete(group: TaskGroup, task: TaskSpec | None, memory: _Memory, maximum: int, notes: list[str]) -> TaskGroup:
    """Return a group with count and durations, by past runs, else as the manifest says, else guessed."""
    if not group.count and (task is None or task.count is None):
        group = replace(group, count=max(1, maximum))
        notes.append(
            f"tasks.{group.name}: guessed to be {group.count}, as many as there may be workers; give its `count`"
        )
    if group.durations_s:
        return group
    seen = memory.completed(group.name, latest=False)
    if seen is not None:
        seconds = tuple(float(f"{one:.4g}") for one in seen.duration_s[-_SAMPLE:].tolist())
        return replace(group, durations_s=seconds, source=f"{len(seconds)} past tasks")
    if task is not None and task.duration_s is not None and task.duration_high_s is not None:
        ratio = max(1.0, task.duration_high_s / task.duration_s)
        spread = tuple(task.duration_s * math.exp(math.log(ratio) / _Z95 * z) for z in _NORMAL)
        return replace(group, durations_s=spread, source="advice of past runs")
    if task is not None and task.duration_s is not None:
        return replace(group, durations_s=tuple(task.duration_s * one for one in _SPREAD), source="the manifest")
    notes.append(
        f"tasks.{group.name}: guessed to take {format_duration(_GUESSED_S)} each; give its `duration`, or run it once"
    )
    guessed = tuple(_GUESSED_S * one for one in (0.25, 0.5, 1.0, 2.0, 4.0))
    return replace(group, durations_s=guessed, source="a guess")


def _unit(
    spec: DeploymentSpec, workload: Workload, rates: Mapping[str, Rate | None], notes: list[str]
) -> tuple[str, str]:
    """Return in what cost is counted, and where prices are from."""
    used = list(workload.by_pool) or list(spec.components)
    unknown = [name for name in used if rates.get(name) is None]
    if unknown:
        if len(unknown) < len(used) or spec.objectives.budget_usd is not None:
            notes.append(
                f"no price is known of pool {', '.join(unknown)}, so cost is counted in core-hours"
                + ("" if spec.objectives.budget_usd is None else ", and the budget is not looked at")
                + f"; give `price:` in targets.{spec.target}"
            )
        return CORE_HOURS, ""
    known = [rate for rate in map(rates.get, used) if rate is not None]
    if all(rate.usd_per_s == 0 for rate in known):
        return CORE_HOURS, "; ".join(dict.fromkeys(f"nothing is paid: {rate.source}" for rate in known))
    return USD, "; ".join(dict.fromkeys(rate.source for rate in known))


def _pool(
    spec: DeploymentSpec,
    name: str,
    memory: _Memory,
    *,
    maximum: int,
    rate: Rate | None,
    unit: str,
    notes: list[str],
) -> PoolModel:
    startup = memory.startup_s.get(name, ())
    if not startup:
        guessed = _usual_s(spec)
        startup = (0.7 * guessed, guessed, 1.6 * guessed)
        if spec.provider != "local":
            notes.append(
                f"pool {name}: workers are guessed to start within {format_duration(guessed)}, "
                f"as is usual for {spec.provider}"
            )
    wait, boot = _divided(spec, startup, rate)
    price = rate.usd_per_s if unit == USD and rate is not None else spec.components[name].resources.cpus / 3600
    return PoolModel(name, maximum, wait, boot, max(price, 1e-12), 0.0 if rate is None else rate.min_bill_s)


def usual_startup_s(spec: DeploymentSpec, seen_s: float | None = None) -> tuple[float, float]:
    """Return how long workers of a target usually take to come up.

    Parameters
    ----------
    spec : DeploymentSpec
        The target.
    seen_s : float, optional
        Seconds that they took in past runs.

    Returns
    -------
    wait_s, boot_s : float
        Seconds until a worker is paid for, and from there until it is up.
    """
    (wait,), (boot,) = _divided(spec, (_usual_s(spec) if seen_s is None else seen_s,), None)
    return (0.0 if wait == _LATER_S else wait), boot


def _usual_s(spec: DeploymentSpec) -> float:
    if spec.provider == "local" and not getattr(spec.options, "processes", True):
        return _THREADS_STARTUP_S
    return _STARTUP_S.get(spec.provider, _BATCH_STARTUP_S)


def _divided(
    spec: DeploymentSpec, startup: Sequence[float], rate: Rate | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return which part of a start-up is waited for, and which is paid for."""
    if spec.provider == "local" or spec.provider in _CLOUDS or getattr(rate, "boot_paid", False):
        # What looks for work to be done does so every so often.
        return (_LATER_S,), tuple(startup)
    # Of a job only the end of it: the rest is the queue.
    return tuple(max(0.0, one - _BATCH_BOOT_S) for one in startup), (min(_BATCH_BOOT_S, *startup),)
