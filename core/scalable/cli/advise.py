"""``scalable advise``: what past runs say that tasks need."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from cyclopts import Parameter

from scalable.errors import ScalableError

if TYPE_CHECKING:
    from scalable.advisors import Advisor, Recommendation
    from scalable.advisors.usage import Usage

__all__ = ["advise"]

_Flag = Annotated[bool, Parameter(negative="")]

_SIZES: Final = ("input_bytes", "arg_bytes")
_COUNTS: Final = ("n_inputs", "input_files", "n_args", "threads")


def advise(
    *,
    task: str | None = None,
    all: _Flag = False,  # noqa: A002  (the option's name)
    target: str | None = None,
    features: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")] = (),
    model_type: Literal["quantile", "gradient_boosting", "random_forest", "linear"] | None = None,
    confidence: float = 0.95,
    format: Literal["text", "json"] = "text",  # noqa: A002  (the option's name)
    runs_dir: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    write_overlay: Path | None = None,
    force: _Flag = False,
) -> int:
    """Print what past runs say that a task needs: memory, cpus, time and workers, and how sure that is.

    Parameters
    ----------
    task
        Name of the task.
    all
        Every task: what it asked for, what it used, and what is recommended.
    target
        Where it is to run; default is anywhere.
    features
        What is known of the task's input, as name=value; several may follow. Sizes
        (input_bytes, arg_bytes) may be written like 5G.
    model_type
        What the advice comes from; default is gradient_boosting where scikit-learn is installed,
        else quantile.
    confidence
        The share of tasks for which the memory is to suffice.
    format
        For people or for programs.
    runs_dir
        A folder of runs, may be given several times; default is $SCALABLE_RUNS_DIR, or
        .scalable/runs here.
    write_overlay
        Write the advice as an overlay to this file, to be used with --overlay.
    force
        Replace that file if it is there.
    """
    from scalable.planning.counsel import default_model_type, open_advisor  # noqa: PLC0415  (help must not wait for it)
    from scalable.settings import Settings  # noqa: PLC0415

    if all == (task is not None):
        raise ScalableError("give either --task with a task's name, or --all")
    if all and features:
        raise ScalableError("--features tell of the input of one task: give --task with its name in place of --all")
    given = _features(features) or None
    folders = tuple(runs_dir) or (Settings.from_environ().runs_dir,)
    chosen = model_type or default_model_type()
    question = _Question(folders, target, confidence, open_advisor(folders, chosen))
    if task is not None:
        advice = question.advisor.recommend(task, target, confidence=confidence, features=given)
        text = json.dumps(advice.to_json(), indent=1, allow_nan=False) if format == "json" else _as_text(advice)
    else:
        text = question.table(format)
    print(text)  # noqa: T201
    if write_overlay is not None:
        question.write(write_overlay, None if task is None else [task], given, force=force)
    return 0


class _Question:
    """Which history is asked, and how."""

    def __init__(self, folders: Sequence[Path], target: str | None, confidence: float, advisor: Advisor) -> None:
        from scalable.telemetry.past import read_past  # noqa: PLC0415  (help must not wait for it)

        self.past = read_past(folders)
        self.advisor = advisor
        self._target = target
        self._confidence = confidence
        self._folders = folders

    def table(self, format: str) -> str:  # noqa: A002  (the option's name)
        """Return every task of the history."""
        from scalable.advisors.usage import usage_of  # noqa: PLC0415  (as above)
        from scalable.units import parse_bytes  # noqa: PLC0415

        rows = []
        for name in self.past.tasks:
            advice = self.advisor.recommend(name, self._target, confidence=self._confidence)
            memory = next((one["memory"] for one in advice.resources.values() if "memory" in one), None)
            size = None if memory is None else parse_bytes(memory)
            rows.append((advice, usage_of(self.past, name, self._target, size)))
        if format == "json":
            return json.dumps({"tasks": [_row_as_json(*row) for row in rows]}, indent=1, allow_nan=False)
        if not rows:
            return f"no tasks in {', '.join(map(str, self._folders))}"
        # Money only where memory has a price: a column without a number tells nobody anything.
        money = any(usage.saved_usd is not None for _, usage in rows)
        lines = [_TITLES, *(_row(*row) for row in rows)]
        return "\n".join(_aligned(lines if money else [line[:-1] for line in lines]))

    def write(
        self, file: Path, tasks: Iterable[str] | None, features: Mapping[str, Any] | None, *, force: bool
    ) -> None:
        """Write an overlay."""
        from scalable.planning.overlay import overlay_text, write_overlay  # noqa: PLC0415  (as above)

        text = overlay_text(self.advisor, self.past, tasks, self._target, self._confidence, features=features)
        write_overlay(file, text, force=force)


def _features(given: Iterable[str]) -> dict[str, Any]:
    found = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise ScalableError(f"a feature is given as name=value, not '{one}'")
        found[name] = _value(name, value)
    return found


def _value(name: str, text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        # Not in quotes, as people write it.
        value = text
    if name in _SIZES:
        return _size_of(name, value)
    if name in _COUNTS:
        return _count_of(name, value)
    if not _is_finite(value):
        raise ScalableError(f"feature {name}: {text} is no number that a task's input can have")
    return value


def _is_finite(value: Any) -> bool:
    """Return whether no number in a value is infinite, or none at all; text may be a number, too."""
    if isinstance(value, dict | list):
        return all(map(_is_finite, value.values() if isinstance(value, dict) else value))
    try:
        return not isinstance(value, str | float) or math.isfinite(float(value))
    except ValueError:
        return True


def _size_of(name: str, value: Any) -> int:
    from scalable.units import parse_bytes  # noqa: PLC0415  (help must not wait for it)

    try:
        # Of a number with a fraction, or with a power of ten, no part of a byte counts.
        return parse_bytes(int(value) if isinstance(value, float) else value)
    except (ValueError, OverflowError, TypeError, AttributeError) as error:
        raise ScalableError(f"feature {name}: {value!r} is not a size; write it like 512M, 5G or 1000000") from error


def _count_of(name: str, value: Any) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    if not whole or value < 0:
        raise ScalableError(f"feature {name}: {value!r} is not a count; write a whole number from 0 on")
    return int(value)


def _as_text(advice: Recommendation) -> str:
    evidence = advice.evidence
    lines = [f"Task: {advice.task}" + (f" (target: {advice.target})" if advice.target else "")]
    for component, resources in advice.resources.items():
        workers = advice.workers.get(component, 1)
        given = ", ".join(f"{key} {value}" for key, value in resources.items())
        lines.append(f"Workers: {workers} of {component}, each with {given}")
    lines.append(f"Memory suffices for {advice.confidence:.1%} of the tasks ({evidence.get('method', '')})")
    lines.append(f"Model: {advice.model_type}")
    lines.append(f"Evidence: {advice.seen}{_span(evidence)}")
    lines += [
        f"{what.capitalize()}: {', '.join(f'{count} {kind}' for kind, count in counts.items())}"
        for what in ("failures", "skipped")
        if (counts := evidence.get(what))
    ]
    lines += [f"  {reason}" for reason in evidence.get("reasons", ())]
    return "\n".join(map(_printable, lines))


def _span(evidence: Mapping[str, Any]) -> str:
    window = evidence.get("window") or {}
    return f", {window['from']} to {window['to']}" if window.get("from") and window.get("to") else ""


_TITLES = ("TASK", "TASKS", "ASKED", "MEDIAN", "P95", "MAX", "RECOMMENDED", "SURE", "SAVED GB·h", "SAVED $")


def _row(advice: Recommendation, usage: Usage) -> tuple[str, ...]:
    memory = next((str(one["memory"]) for one in advice.resources.values() if "memory" in one), "-")
    sizes = (usage.asked_bytes, usage.median_bytes, usage.p95_bytes, usage.max_bytes)
    saved = "-" if usage.saved_gb_h is None else f"{usage.saved_gb_h:.3g}"
    money = "-" if usage.saved_usd is None else f"{usage.saved_usd:.2f}"
    return (advice.task, str(usage.attempts), *map(_size, sizes), memory, f"{advice.confidence:.1%}", saved, money)


def _row_as_json(advice: Recommendation, usage: Usage) -> dict[str, Any]:
    used = {"median": usage.median_bytes, "p95": usage.p95_bytes, "max": usage.max_bytes}
    return {
        **advice.to_json(),
        "asked_bytes": usage.asked_bytes,
        "used_bytes": used,
        "saved_gb_h": usage.saved_gb_h,
        "saved_usd": usage.saved_usd,
    }


def _size(size: float | None) -> str:
    if size is None:
        return "-"
    return f"{size / 2**30:.1f}G" if size >= 10 * 2**30 else f"{size / 2**20:.0f}M"


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for first, *rest in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        yield _printable("  ".join(cells).rstrip())


def _printable(text: str) -> str:
    """Return text of which nothing can steer the terminal: names of tasks are not ours."""
    return "".join(sign if sign.isprintable() else "?" for sign in text)
