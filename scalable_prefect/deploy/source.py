"""What a flow's file says, read without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scalable.errors import ScalableError, did_you_mean

__all__ = ["FlowSource", "read_flow"]

_RUNNER = "ScalableTaskRunner"


@dataclass(frozen=True, slots=True)
class FlowSource:
    """A flow, as its file tells.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        Name of the function, or of what is assigned.
    parameters : frozenset of str or None
        Names of its parameters; ``None`` where any may be given, or the file does not tell.
    fixed_target : str or None
        The target that the file itself gives to its task runner.
    """

    path: Path
    name: str
    parameters: frozenset[str] | None
    fixed_target: str | None = None


def read_flow(text: str) -> FlowSource:
    """Find a flow.

    Parameters
    ----------
    text : str
        File and function, such as ``flow.py:pipeline``.

    Raises
    ------
    ScalableError
        If there is no such file, or no such flow in it.
    """
    file, _, name = text.rpartition(":")
    if not file or not name:
        raise ScalableError(f"--flow {text!r} names no function: write it as FILE.py:FUNCTION")
    path = Path(file)
    tree = _parse(path)
    known = dict(_candidates(tree))
    if name not in known:
        hint = did_you_mean(name, known) or f"it has: {', '.join(known) or 'none'}"
        raise ScalableError(f"--flow: {path} has no flow '{name}' at its top level; {hint}")
    function = known[name]
    if function is not None and not function.decorator_list:
        raise ScalableError(f"--flow: '{name}' in {path}, line {function.lineno}, is no flow; put @flow above it")
    return FlowSource(path, name, None if function is None else _parameters(function), _fixed_target(tree))


def _parse(path: Path) -> ast.Module:
    try:
        source = path.read_bytes()
    except FileNotFoundError:
        raise ScalableError(f"--flow: there is no file {path}") from None
    except OSError as error:
        raise ScalableError(f"--flow: {path} cannot be read: {error.strerror or error}") from error
    try:
        return ast.parse(source, str(path))
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ScalableError(f"--flow: {path}{where} is not Python: {reason}") from None


_Function = ast.FunctionDef | ast.AsyncFunctionDef


def _candidates(tree: ast.Module) -> Iterator[tuple[str, _Function | None]]:
    """Yield what may be a flow: functions, and names to which something called is assigned."""
    for node in tree.body:
        if isinstance(node, _Function):
            yield node.name, node
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            yield from ((one.id, None) for one in node.targets if isinstance(one, ast.Name))


def _parameters(function: _Function) -> frozenset[str] | None:
    arguments = function.args
    if arguments.kwarg is not None:
        return None
    return frozenset(one.arg for one in (*arguments.args, *arguments.kwonlyargs))


def _fixed_target(tree: ast.Module) -> str | None:
    """Return the target that is written into the file; a file of several flows has the first one's."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_runner(node.func):
            given = [one.value for one in node.keywords if one.arg == "target"] or node.args[1:2]
            if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
                return given[0].value
    return None


def _is_runner(node: ast.expr) -> bool:
    return (isinstance(node, ast.Name) and node.id == _RUNNER) or (
        isinstance(node, ast.Attribute) and node.attr == _RUNNER
    )
