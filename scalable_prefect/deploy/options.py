"""What the options of the command say of every deployment, checked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from scalable.errors import ScalableError, did_you_mean
from scalable.extras import require
from scalable.units import parse_duration
from scalable_prefect.deploy.merge import Path
from scalable_prefect.deploy.source import FlowSource

__all__ = ["check_parameters", "pool_names", "said_by"]


def said_by(
    param: Sequence[str],
    concurrency_limit: int | None,
    cron: str | None,
    interval: str | None,
    timezone: str | None,
) -> dict[Path, Any]:
    """Return values by their path in a deployment.

    Raises
    ------
    ScalableError
        If one of them cannot be.
    """
    said: dict[Path, Any] = {("parameters", name): value for name, value in map(_parameter, param)}
    if concurrency_limit is not None:
        if concurrency_limit < 1:
            raise ScalableError(f"--concurrency-limit must be 1 or more, not {concurrency_limit}")
        said["concurrency_limit",] = concurrency_limit
    schedule = _schedule(cron, interval, timezone)
    if schedule is not None:
        said["schedules",] = [schedule]
    return said


def check_parameters(said: dict[Path, Any], flow: FlowSource) -> None:
    """Refuse parameters that the flow does not have."""
    if flow.parameters is None:
        return
    for path in said:
        if path[0] == "parameters" and path[1] not in flow.parameters:
            known = sorted(flow.parameters)
            hint = did_you_mean(path[1], known) or f"it has: {', '.join(known) or 'none'}"
            raise ScalableError(f"--param: the flow '{flow.name}' has no parameter '{path[1]}'; {hint}")


def pool_names(given: Sequence[str], targets: Sequence[str]) -> dict[str, str]:
    """Return the names of work pools that were given, by target."""
    names: dict[str, str] = {}
    for text in given:
        target, is_for_one, name = text.partition("=")
        if not is_for_one:
            target, name = "", text
        if not name or (target and target not in targets):
            hint = did_you_mean(target, targets) or f"targets: {', '.join(targets)}"
            raise ScalableError(f"--work-pool {text!r}: write a name, or target=name; {hint}")
        names |= dict.fromkeys([target] if target else targets, name)
    return names


def _parameter(text: str) -> tuple[str, Any]:
    name, given, value = text.partition("=")
    if not given or not name:
        raise ScalableError(f"--param {text!r} must be name=value")
    if not text.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in text):
        raise ScalableError(f"--param {name}: the value is not UTF-8 text")
    try:
        return name, json.loads(value, parse_constant=_refuse_constant)
    except ValueError:
        return name, value


def _refuse_constant(text: str) -> Any:
    raise ValueError(text)


def _schedule(cron: str | None, interval: str | None, timezone: str | None) -> dict[str, Any] | None:
    if cron is not None and interval is not None:
        raise ScalableError("give --cron or --interval, not both")
    if cron is None and timezone is not None:
        raise ScalableError("--timezone belongs to --cron; give both")
    if interval is not None:
        return {"interval": _seconds(interval)}
    if cron is None:
        return None
    schedules = require("prefect", "prefect.client.schemas.schedules")
    schedule = {"cron": cron} if timezone is None else {"cron": cron, "timezone": timezone}
    try:
        schedules.CronSchedule(**schedule)
    except ValueError as error:
        reasons = [str(one["msg"]) for one in error.errors()] if hasattr(error, "errors") else [str(error)]
        raise ScalableError(f"--cron {cron!r}, --timezone {timezone or 'UTC'}: {'; '.join(reasons)}") from None
    return schedule


def _seconds(interval: str) -> float:
    try:
        seconds = parse_duration(interval)
    except ValueError as error:
        raise ScalableError(f"--interval {interval!r}: {error}") from None
    if seconds < 1:
        raise ScalableError(f"--interval {interval!r} must be a second or more")
    return int(seconds) if seconds == int(seconds) else seconds
