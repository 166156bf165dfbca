"""Round trips through YAML: quotes, indentation, and comments that stay where they are."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import yaml

from scalable.extras import require

__all__ = ["comments_kept", "editor", "node", "render"]

_TRAILING = {True: 2, False: 0}
"""Where ruamel.yaml keeps the comment after a value of a mapping, and after an item of a list."""


def editor(text: str) -> Any:
    """Return what reads a text, and writes it indented as it is."""
    library = require("prefect", "ruamel.yaml")
    made = library.YAML()
    # A class of its own, because representers belong to classes.
    made.Representer = type("Representer", (library.RoundTripRepresenter,), {})
    made.Representer.add_representer(float, _float)
    made.preserve_quotes = True
    made.width = 2**20
    made.explicit_start = text.startswith("---")
    list_under_key = re.search(r"^( *)[^\s#-][^\n]*:[ ]*\n(?:[ ]*(?:#[^\n]*)?\n)*( *)- ", text, re.MULTILINE)
    offset = max(len(list_under_key[2]) - len(list_under_key[1]), 0) if list_under_key else 0
    map_under_key = re.search(r"^( *)[^\s#-][^\n]*:[ ]*\n\1( +)[^\s#-]", text, re.MULTILINE)
    made.indent(mapping=len(map_under_key[2]) if map_under_key else 2, sequence=offset + 2, offset=offset)
    return made


def render(made: Any, data: Any) -> str:
    """Return the text of what an :func:`editor` has read."""
    stream = io.StringIO()
    made.dump(data, stream)
    return stream.getvalue()


def node(value: Any) -> Any:
    """Return plain data as an :func:`editor` has it; text is quoted where a reader may take it for something else."""
    comments = require("prefect", "ruamel.yaml.comments")
    if isinstance(value, Mapping):
        made: Any = comments.CommentedMap()
        for key, one in value.items():
            made[node(key)] = node(one)
        return made
    if isinstance(value, list | tuple):
        listed = comments.CommentedSeq()
        listed.extend(node(one) for one in value)
        return listed
    if isinstance(value, str) and not _means_itself(value):
        return require("prefect", "ruamel.yaml.scalarstring").DoubleQuotedScalarString(value)
    return value


def _float(representer: Any, value: float) -> Any:
    """Represent a float with a point, without which 1e-05 is text in YAML 1.1."""
    text = repr(value)
    text = {"inf": ".inf", "-inf": "-.inf"}.get(text, text if "." in text else text.replace("e", ".0e"))
    return representer.represent_scalar("tag:yaml.org,2002:float", text)


def _means_itself(text: str) -> bool:
    """Whether text without quotes is this text, also to readers of YAML 1.1 such as Prefect's."""
    try:
        return bool(yaml.safe_load(f"[{text}]") == [text] and yaml.safe_load(text) == text)
    except (yaml.YAMLError, ValueError):
        return False


@contextmanager
def comments_kept(deployment: MutableMapping[str, Any]) -> Iterator[None]:
    """Leave what is written between this deployment and the next behind it, whatever is its last line then."""
    after = _take_rest(deployment)
    yield
    if after:
        _give_rest(deployment, after)


def _take_rest(top: Any) -> str:
    container, key, slot = _last(top)
    tokens: Any = container.ca.items.get(key) if key is not None else None
    token = tokens[slot] if tokens else None
    if token is None:
        return ""
    own, _, rest = token.value.partition("\n")
    if own:
        token.value = own + "\n"
    else:
        tokens[slot] = None
    return str(rest)


def _give_rest(top: Any, rest: str) -> None:
    tokens = require("prefect", "ruamel.yaml.tokens")
    mark = require("prefect", "ruamel.yaml.error").CommentMark(0)
    container, key, slot = _last(top)
    if key is None:
        return
    place = container.ca.items.setdefault(key, [None, None, None, None])
    own = place[slot].value.rstrip("\n") if place[slot] is not None else ""
    place[slot] = tokens.CommentToken(f"{own}\n{rest}", mark, None)


def _last(node: Any) -> tuple[Any, Any, int]:
    """Return the innermost container of the last line, with the key or index there, and where its comment is."""
    while True:
        is_map = isinstance(node, Mapping)
        key = next(reversed(list(node)), None) if is_map else len(node) - 1
        if key is None:
            return node, None, _TRAILING[is_map]
        below = node[key]
        if not hasattr(below, "ca") or not below or below.fa.flow_style():
            return node, key, _TRAILING[is_map]
        node = below
