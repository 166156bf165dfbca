"""Which scaling policies there are: built in, or installed beside it; built from a name or a line of text."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from scalable.errors import PlanError, did_you_mean
from scalable.scaling.model import Policy

__all__ = ["BUILT_IN", "DEFAULT", "ENTRY_POINTS", "make_policy", "policy_names"]

ENTRY_POINTS = "scalable.policies"
"""Group of the entry points by which other distributions bring policies: classes, or what makes one when called."""

DEFAULT = "predictive"
"""What a line of text that says nothing of ``scaling`` means."""

_BUILT_IN = {
    "no": "scalable.scaling.ratio:NoPolicy",
    "share": "scalable.scaling.share:SharePolicy",
    "vanilla": "scalable.scaling.ratio:VanillaPolicy",
    "capability": "scalable.scaling.capability:CapabilityPolicy",
    "fixed_elastic": "scalable.scaling.ratio:FixedElasticPolicy",
    "waterfall": "scalable.scaling.waterfall:WaterfallPolicy",
    "adaptive": "scalable.scaling.adaptive_policy:AdaptivePolicy",
    "predictive": "scalable.scaling.predictive:PredictivePolicy",
}

BUILT_IN = tuple(_BUILT_IN)

_ALLOCATIONS = ("even_load", "capability")


def make_policy(
    text: str, parameters: Mapping[str, Any] | None = None, *, objective: str | None = None, **context: Any
) -> Policy:
    """Return a policy.

    Parameters
    ----------
    text : str
        A policy's name; or ``"allocate=capability; scaling=vanilla"``; or the lines of a
        waterfall, ``priority,name[,max]`` each. ``allocate`` may be ``even_load`` or
        ``capability`` and changes nothing: a task always goes to a worker that has what it
        requires, and among these to the one that is free first.
    parameters : mapping of str to object, optional
        The policy's own, by name.
    objective : str, optional
        ``minimize cost``, ``balance`` or ``minimize time``, for policies that have a parameter of this name.
    **context
        What else the caller knows, such as ``interval_s``; for policies that have a parameter
        of the name and are not given it in ``parameters``.

    Raises
    ------
    PlanError
        If there is no such policy, or it has no such parameter, or a value is none that it can have.

    Examples
    --------
    >>> make_policy("allocate=capability; scaling=vanilla", {"upper_task_ratio": 5}).name
    'vanilla'
    """
    name, own = _read(text)
    given = {**own, **(parameters or {})}
    made = _find(name)
    known = _parameters(made)
    if known is not None:
        _refuse_unknown(name, given, known)
        offered = {"objective": objective, **context}
        given = {**{key: value for key, value in offered.items() if key in known and value is not None}, **given}
    try:
        return cast("Policy", made(**given))
    except (TypeError, ValueError) as error:
        raise PlanError(f"scaling policy '{name}' cannot be made with {_listed(given)}: {error}") from error


def policy_names() -> tuple[str, ...]:
    """Return the names of all policies: those built in first."""
    return tuple(dict.fromkeys((*_BUILT_IN, *sorted(_entry_points()))))


def _read(text: str) -> tuple[str, dict[str, Any]]:
    if "=" in text:
        return _read_assignments(text), {}
    if "," in text:
        return "waterfall", {"rules": text}
    return text.strip(), {}


def _read_assignments(text: str) -> str:
    said: dict[str, str] = {}
    for part in text.split(";"):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key or equals):
            continue
        if key not in ("allocate", "scaling") or not value or key in said:
            raise PlanError(
                f"'{part.strip()}' in '{text}' says nothing of scaling; "
                "write it once each, such as 'allocate=capability; scaling=vanilla'"
            )
        said[key] = value
    if said.get("allocate", "capability") not in _ALLOCATIONS:
        raise PlanError(_unknown("allocation", said["allocate"], _ALLOCATIONS))
    return said.get("scaling", DEFAULT)


def _find(name: str) -> Any:
    if name in _BUILT_IN:
        module, _, attribute = _BUILT_IN[name].partition(":")
        return getattr(import_module(module), attribute)
    entry = _entry_points().get(name)
    if entry is None:
        raise PlanError(_unknown("scaling policy", name, policy_names()))
    try:
        return entry.load()
    except Exception as error:
        # Whatever goes wrong in somebody else's module is told by the name that the user wrote.
        raise PlanError(f"scaling policy '{name}' cannot be loaded: {type(error).__name__}: {error}") from error


def _parameters(made: Any) -> tuple[str, ...] | None:
    """Return the names of what it takes, or ``None`` if it takes anything."""
    parameters = inspect.signature(made).parameters.values()
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return None
    return tuple(one.name for one in parameters)


def _refuse_unknown(name: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise PlanError(_unknown(f"parameter of scaling policy '{name}'", key, known))


def _unknown(what: str, word: str, known: tuple[str, ...]) -> str:
    hint = did_you_mean(word, known)
    return f"there is no {what} '{word}'; known: {', '.join(known) or 'none'}" + (f"; {hint}" if hint else "")


def _listed(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in given.items()) or "nothing given"


def _entry_points() -> dict[str, Any]:
    # Slow where much is installed, so only asked for names that are not built in.
    from importlib.metadata import entry_points  # noqa: PLC0415

    return {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
