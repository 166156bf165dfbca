"""What one part of a manifest says about another: tasks, components, tags, overlays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from scalable.errors import Issue, did_you_mean
from scalable.manifest.translate import Location, Translator
from scalable.units import format_bytes, parse_bytes

__all__ = ["DEFAULT_COMPONENT", "check_references"]

DEFAULT_COMPONENT = "default"
"""The component of a manifest that names none."""


def check_references(data: Mapping[str, Any], at: Translator) -> list[Issue]:
    """Return what is wrong between parts, each of which may be wrong in itself as well.

    Parameters
    ----------
    data : mapping
        The manifest as plain data, not yet validated.
    at : Translator
        Knows where things stand.
    """
    components = _tables(data.get("components")) or {DEFAULT_COMPONENT: {}}
    tasks = _tables(data.get("tasks"))
    issues = list(_tag_collisions(components, at))
    issues += _component_references(tasks, components, at)
    issues += _after_references(tasks, at)
    issues += _cycles(tasks, at)
    issues += _doubtful_tasks(tasks, components, at)
    return issues


def _tables(value: object) -> dict[str, dict[str, Any]]:
    if not isinstance(value, dict):
        return {}
    return {name: body if isinstance(body, dict) else {} for name, body in value.items()}


def _names(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list | dict) else []


def _tag_collisions(components: Mapping[str, dict[str, Any]], at: Translator) -> Iterator[Issue]:
    offered = {name for body in components.values() for name in _names(body.get("capabilities"))}
    if any(body.get("gpus") for body in components.values()):
        offered.add("gpu")
    for name, body in components.items():
        where: Location = ("components", name)
        if name in offered:
            message = f"the component '{name}' has the name of a capability, so that tasks could not tell them apart"
            yield at.issue("E_TAG_COLLISION", where, message, f"rename it, to '{name}-node' for example", at_key=True)
        for index, tag in enumerate(_names(body.get("tags"))):
            other = "component" if tag in components and tag != name else "capability" if tag in offered else None
            if other is not None:
                message = f"the tag '{tag}' is the name of a {other}, so that tasks could not tell them apart"
                yield at.issue("E_TAG_COLLISION", (*where, "tags", index), message, "rename the tag")
        yield from _gpu_twice(where, body, at)


def _gpu_twice(where: Location, body: Mapping[str, Any], at: Translator) -> Iterator[Issue]:
    capabilities, gpus = body.get("capabilities"), body.get("gpus")
    if not gpus or "gpu" not in _names(capabilities):
        return
    amount = capabilities["gpu"] if isinstance(capabilities, dict) else None
    if amount is not None and amount != gpus:
        message = f"the capability gpu is {amount}, but gpus is {gpus}"
        yield at.issue("E_BAD_CAPABILITY", (*where, "capabilities", "gpu"), message, "leave the capability out")


def _component_references(
    tasks: Mapping[str, dict[str, Any]], components: Mapping[str, object], at: Translator
) -> Iterator[Issue]:
    for name, body in tasks.items():
        component = body.get("component")
        if isinstance(component, str) and component not in components:
            yield at.issue(
                "E_TASK_COMPONENT_REF",
                ("tasks", name, "component"),
                f"there is no component '{component}'",
                did_you_mean(component, components) or f"known: {', '.join(components)}",
            )


def _after_references(tasks: Mapping[str, dict[str, Any]], at: Translator) -> Iterator[Issue]:
    for name, body in tasks.items():
        for index, other in enumerate(_names(body.get("after"))):
            if other not in tasks:
                yield at.issue(
                    "E_TASK_AFTER_REF",
                    ("tasks", name, "after", index),
                    f"there is no task '{other}'",
                    did_you_mean(other, tasks) or f"known: {', '.join(tasks)}",
                )


def _cycles(tasks: Mapping[str, dict[str, Any]], at: Translator) -> Iterator[Issue]:
    waits = {name: [other for other in _names(body.get("after")) if other in tasks] for name, body in tasks.items()}
    for ring in _rings(waits):
        message = f"tasks wait for each other: {' after '.join((*ring, ring[0]))}"
        yield at.issue("E_TASK_CYCLE", ("tasks", ring[0], "after"), message, "remove one of the `after`")


def _rings(graph: Mapping[str, list[str]]) -> Iterator[list[str]]:
    """Yield cycles of a graph until each node that is on one has been named; without recursion."""
    done: set[str] = set()
    for start in graph:
        path: list[str] = []
        stack = [(start, iter(graph[start]))] if start not in done else []
        if stack:
            path.append(start)
        while stack:
            following = next(stack[-1][1], None)
            if following is None:
                stack.pop()
                done.add(path.pop())
            elif following in path:
                yield path[path.index(following) :]
            elif following not in done:
                stack.append((following, iter(graph[following])))
                path.append(following)


def _doubtful_tasks(
    tasks: Mapping[str, dict[str, Any]], components: Mapping[str, dict[str, Any]], at: Translator
) -> Iterator[Issue]:
    for name, body in tasks.items():
        component = body.get("component")
        if not isinstance(component, str) or component not in components:
            continue
        if name in components and name != component:
            message = f"tag='{name}' means the component of that name, but the task runs on '{component}'"
            yield at.issue("W_TASK_SHADOWED", ("tasks", name), message, "rename the task or the component", at_key=True)
        needs, has = _size(body.get("memory")), _size(components[component].get("memory"))
        if needs is not None and has is not None and needs > has:
            message = f"a task needs {format_bytes(needs)}, but the workers of '{component}' have {format_bytes(has)}"
            yield at.issue("W_TASK_MEMORY", ("tasks", name, "memory"), message, "give the component more")


def _size(value: object) -> int | None:
    if not isinstance(value, str | int):
        return None
    try:
        return parse_bytes(value)
    except ValueError:
        return None
