"""``scalable replay``: what another policy would have decided in a run."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from scalable.errors import ScalableError

if TYPE_CHECKING:
    from scalable.scaling.replay import Replayed

__all__ = ["replay"]


def replay(
    run: str | None = None,
    *,
    policy: str = "predictive",
    set: Annotated[list[str] | None, Parameter(negative="")] = None,  # noqa: A002  (the option's name)
    objective: str | None = None,
    format: Literal["text", "json"] = "text",  # noqa: A002  (the option's name)
    runs_dir: Path | None = None,
) -> int:
    """Print what a policy would have decided at every look that was taken in a run.

    Each look shows it what was there then; its own decisions do not change what it sees next.

    Parameters
    ----------
    run
        The run of this name, or its directory; its beginning will do. Default is the newest.
    policy
        Name of the policy, or a text such as "allocate=capability; scaling=vanilla".
    set
        A parameter of the policy, as NAME=VALUE; may be given several times.
    objective
        What it aims at: minimize cost, minimize time, or balance.
    format
        For people or for programs: one JSON object a line.
    runs_dir
        The folder of the runs; default is $SCALABLE_RUNS_DIR, or .scalable/runs here.
    """
    from scalable.scaling.policies import make_policy  # noqa: PLC0415  (help must not wait for it)
    from scalable.scaling.replay import replay as replayed  # noqa: PLC0415
    from scalable.settings import Settings  # noqa: PLC0415
    from scalable.telemetry.history import find_run  # noqa: PLC0415

    chosen = make_policy(policy, dict(map(_parameter, set or ())), objective=objective)
    if run is not None and Path(run).is_dir():
        directory = Path(run)
    else:
        directory = find_run(Settings.from_environ().runs_dir if runs_dir is None else runs_dir, run).path
    looks, was, would = 0, Counter[str](), Counter[str]()
    skipped: list[int] = []
    for look in replayed(directory, chosen, skipped=skipped.append):
        looks += 1
        was[_kind(look.was)] += 1
        would[_kind(look.would)] += 1
        if format == "json":
            print(json.dumps(_facts(look)))  # noqa: T201
        elif look.was or look.would:
            print(_line(look))  # noqa: T201
    if any(skipped):
        print(f"{directory.name}: {sum(skipped)} lines cannot be used and were left out", file=sys.stderr)  # noqa: T201
    if format == "text":
        print(  # noqa: T201
            f"{directory.name}: {looks} looks; more workers at {was['up']}, fewer at {was['down']}; "
            f"with {chosen.name} more at {would['up']}, fewer at {would['down']}"
        )
    return 0


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ScalableError(f"--set {text!r} sets nothing; write it as NAME=VALUE, such as upper_task_ratio=5")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _kind(changes: dict[str, int]) -> str:
    if any(count > 0 for count in changes.values()):
        return "up"
    return "down" if changes else "none"


def _line(look: Replayed) -> str:
    pools = dict.fromkeys((*look.was, *look.would))
    parts = []
    for name in pools:
        view = look.observation.pools[name]
        parts.append(
            f"{name} ({view.busy} busy, {view.idle} idle, {view.starting} starting): "
            f"was {look.was.get(name, 0):+d}, would be {look.would.get(name, 0):+d}"
        )
    reasons = "; ".join(look.decision.reasons[name] for name in pools if name in look.decision.reasons)
    return f"{look.at_s:8.1f} s  {'; '.join(parts)}" + (f"\n            {reasons}" if reasons else "")


def _facts(look: Replayed) -> dict[str, Any]:
    return {
        "at_s": round(look.at_s, 3),
        "was": look.was,
        "would": look.would,
        "reasons": look.decision.reasons,
        "reasoning": look.decision.reasoning,
        "confidence": look.decision.confidence,
        "predicted_s": look.decision.predicted_completion_time,
    }
