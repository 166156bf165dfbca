"""Advice as an overlay of a manifest, for people to read, to keep, and to lay over it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scalable.advisors import Advisor, Recommendation, worker_bytes
from scalable.advisors.base import ASKED_PLUS_HEADROOM
from scalable.advisors.sizing import task_bytes
from scalable.errors import ScalableError
from scalable.manifest.references import DEFAULT_COMPONENT
from scalable.planning.counsel import careful, recent_tasks
from scalable.telemetry.past import Past
from scalable.units import format_bytes, parse_bytes

__all__ = ["overlay_text", "write_overlay"]

_MIB: Final = 2**20


class _Quoted(str):
    """Text that is written in quotes, so that no reader of YAML takes it for anything else."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """Plain data, with some of its texts in quotes."""


_Dumper.add_representer(
    _Quoted, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style='"')
)


def overlay_text(
    advisor: Advisor,
    past: Past,
    tasks: Iterable[str] | None,
    target: str | None,
    confidence: float = 0.95,
    *,
    features: Mapping[str, Any] | None = None,
) -> str:
    """Return an overlay with what is advised for some tasks and the components on which they run.

    The memory of a component is the most that any task needs which ran there of late, whether
    it is among those asked for or not.

    Parameters
    ----------
    advisor : Advisor
        Who is asked.
    past : Past
        The same history.
    tasks : iterable of str, optional
        Names of the tasks; default is all of the latest runs.
    target : str, optional
        Where they are to run.
    confidence : float
        As for :meth:`Advisor.recommend`.
    features : mapping, optional
        What is known of the input of the tasks that are asked for.

    Raises
    ------
    ScalableError
        If there is nothing to advise.
    """
    known = _manifest_tasks(past, target)
    wanted = None if tasks is None else set(tasks)
    advised: dict[str, _Advised] = {}
    for name in dict.fromkeys((*recent_tasks(past), *(wanted or ()))):
        given = features if wanted is not None and name in wanted else None
        retried = bool(known.get(name, {}).get("retries"))
        advice = careful(advisor, name, target, confidence=confidence, features=given, retried=retried)
        advised[name] = _Advised(advice, _component(advice, known.get(name, {}), past), given, retried=retried)
    chosen = {name: one for name, one in advised.items() if wanted is None or name in wanted}
    body: dict[str, Any] = {"components": {}, "tasks": {}}
    remarks = [
        f"tasks.{name}: on which component it ran is not known, so that none has advice of it"
        for name, one in chosen.items()
        if one.component is None
    ]
    for component in sorted({one.component for one in chosen.values() if one.component is not None}):
        its = {name: one.advice for name, one in advised.items() if one.component == component}
        sparse = [name for name, one in its.items() if one.evidence.get("method") == ASKED_PLUS_HEADROOM]
        if sparse:
            remarks.append(f"components.{component}: as it is; too little is known of {', '.join(sorted(sparse))}")
        elif made := _component_body(component, its.values(), past):
            body["components"][_Quoted(component)] = made
    for name, one in chosen.items():
        if name in known:
            body["tasks"][_Quoted(name)] = _task_body(advisor, one, target)
        elif one.component is not None:
            remarks.append(
                f"tasks.{name}: not in the manifest of the latest run, so that only its component can have advice"
            )
    advices = {name: one.advice for name, one in chosen.items()}
    return _written({key: value for key, value in body.items() if value}, advices, remarks)


def write_overlay(file: Path, text: str, *, force: bool) -> None:
    """Write an overlay to a file: all of it, or nothing.

    Parameters
    ----------
    file : Path
        The file.
    text : str
        What it is to hold.
    force : bool
        Whether it may take the place of what is there.

    Raises
    ------
    ScalableError
        If there is something already, or it cannot be written.
    """
    if file.exists() and not force:
        raise ScalableError(f"{file} is there already; give --force to replace it, or another name")
    try:
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise ScalableError(f"cannot write {file}: {error.strerror or error}") from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(draft).chmod(0o644)
        Path(draft).replace(file)
    except OSError as error:
        Path(draft).unlink(missing_ok=True)
        raise ScalableError(f"cannot write {file}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class _Advised:
    """Advice for one task, and what it is for; without a component if nobody knows where the task ran."""

    advice: Recommendation
    component: str | None
    features: Mapping[str, Any] | None
    retried: bool


def _component(advice: Recommendation, known: Mapping[str, Any], past: Past) -> str | None:
    """Return where a task ran, or else where the manifest has it run."""
    name = next(iter(advice.resources), DEFAULT_COMPONENT)
    # An advisor calls it so, too, if it does not know.
    if name != DEFAULT_COMPONENT or any(name in run.planned for run in past.runs):
        return name
    named = known.get("component")
    return named if isinstance(named, str) else None


def _resources(advice: Recommendation) -> Mapping[str, Any]:
    return next(iter(advice.resources.values()), {})


def _component_body(component: str, advised: Iterable[Recommendation], past: Past) -> dict[str, Any]:
    sizes, cpus = [], []
    for one in advised:
        resources = _resources(one)
        sizes += [parse_bytes(resources["memory"])] if "memory" in resources else []
        at_a_time = 1 if one.evidence.get("peaks") == "shared" else one.evidence.get("tasks_at_a_time", 1)
        # Of a task that is not tried again this is more.
        sizes += [worker_bytes(one.memory_bytes, at_a_time)] if one.memory_bytes is not None else []
        cpus += [resources["cpus"]] if "cpus" in resources else []
    made: dict[str, Any] = {"memory": _Quoted(format_bytes(max(sizes)))} if sizes else {}
    # By default a worker has as many threads as cpus. Other cpus would change how many tasks share its memory.
    if cpus and max(cpus) != _cpus_there(component, past) and _threads_are_fixed(component, past):
        made["cpus"] = max(cpus)
    return made


def _cpus_there(component: str, past: Past) -> float | None:
    found = (run.planned[component].cpus for run in reversed(past.runs) if component in run.planned)
    return next(found, None)


def _threads_are_fixed(component: str, past: Past) -> bool:
    """Return whether the workers had another number of threads than their cpus make by themselves."""
    cpus = _cpus_there(component, past)
    threads = next((run.threads[component] for run in reversed(past.runs) if component in run.threads), None)
    return cpus is not None and threads is not None and threads != max(1, int(cpus))


def _task_body(advisor: Advisor, advised: _Advised, target: str | None) -> dict[str, Any]:
    advice = advised.advice
    made: dict[str, Any] = {}
    if advice.memory_bytes is not None and advice.evidence.get("method") != ASKED_PLUS_HEADROOM:
        made["memory"] = _Quoted(format_bytes(-(-advice.memory_bytes // _MIB) * _MIB))
    if advice.duration_s is not None:
        made["duration"] = _Quoted(f"{max(0.1, round(advice.duration_s, 1)):g}s")
    memory = _resources(advice).get("memory")
    if advised.retried and memory is not None:
        size = parse_bytes(memory)
        more = advisor.retry_bytes(advice.task, task_bytes(size), target=target, features=advised.features)
        step = worker_bytes(more) - size
        made["memory_step"] = _Quoted(format_bytes(-(-step // _MIB) * _MIB))
    return made


def _manifest_tasks(past: Past, target: str | None) -> Mapping[str, Mapping[str, Any]]:
    """Return the tasks that the manifest of the latest run names."""
    for run in reversed(past.runs):
        if target is not None and run.target != target:
            continue
        try:
            data = yaml.safe_load((run.path / "manifest.yaml").read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError):
            continue
        tasks = data.get("tasks") if isinstance(data, dict) else None
        return {str(name): body if isinstance(body, dict) else {} for name, body in (tasks or {}).items()}
    return {}


def _written(body: Mapping[str, Any], advised: Mapping[str, Recommendation], remarks: Iterable[str]) -> str:
    if not body:
        why = "; ".join(remarks) or "there is no history"
        raise ScalableError(f"there is nothing to write an overlay of: {why}")
    lines = ["What past runs advise; lay it over a manifest with --overlay."]
    for name, one in advised.items():
        lines.append(f"{name}: memory suffices for {one.confidence:.1%} ({one.model_type}, {one.seen})")
    comments = "".join(f"# {_printable(line)}\n" for line in (*lines, *remarks))
    return comments + str(yaml.dump(dict(body), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1000))


def _printable(text: str) -> str:
    """Return text for a comment, of which no sign can end the line."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
