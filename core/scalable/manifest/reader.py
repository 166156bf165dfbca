"""Text to nodes: a strict reader of YAML 1.2 on the events of PyYAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from scalable.errors import Issue, ManifestSyntax
from scalable.manifest.nodes import Entry, Listing, Mark, Node, Scalar, Table, join

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_VALUES", "parse", "read"]

MAX_BYTES = 2**20
"""A longer file is not a manifest."""

MAX_VALUES = 20_000
"""Values of a manifest at the most, each alias counted as what it stands for."""

MAX_DEPTH = 40
"""Levels of lists and mappings inside each other, at the most."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TEXT_TAG = "tag:yaml.org,2002:str"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MERGE = "<<"
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}(?:(?:[Tt]|\s+)\d{1,2}:\d{2}.*)?")


def read(path: Path) -> str:
    """Return a manifest's text.

    Raises
    ------
    ManifestSyntax
        If it cannot be read, is too large, or is not UTF-8.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ManifestSyntax(
            [Issue("E_UNREADABLE", "", "there is no such file", "give the manifest's path", file)]
        ) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ManifestSyntax([Issue("E_UNREADABLE", "", f"cannot be read: {reason}", file=file)]) from error
    if len(data) > MAX_BYTES:
        message = f"is larger than {MAX_BYTES // 2**20} MiB, which no manifest is"
        raise ManifestSyntax([Issue("E_TOO_LARGE", "", message, "give the manifest's path, not that of data", file)])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mark = _mark_at(data[: error.start].decode("utf-8", errors="replace"))
        message = f"is not UTF-8 text: byte 0x{data[error.start]:02x}"
        raise ManifestSyntax([Issue("E_SYNTAX", "", message, "save it as UTF-8", file, *mark)]) from None


def parse(text: str, file: str = "") -> tuple[Table, list[Issue]]:
    """Return the tree of a manifest, and what is wrong with it already.

    Parameters
    ----------
    text : str
        YAML.
    file : str
        Its name, for the issues.

    Raises
    ------
    ManifestSyntax
        If the text is not YAML, or not one mapping, or is out of bounds.
    """
    if found := _UNPRINTABLE.search(text):
        message = f"has the character U+{ord(found[0]):04X}, which text cannot have"
        raise ManifestSyntax([Issue("E_CONTROL_CHARACTER", "", message, "", file, *_mark_at(text[: found.start()]))])
    builder = _Builder(file)
    try:
        root = builder.build(yaml.parse(text, Loader=_LOADER))
    except yaml.YAMLError as error:
        raise ManifestSyntax([_syntax_issue(error, text, file)]) from None
    if root is None or (isinstance(root, Scalar) and root.value is None):
        raise ManifestSyntax([Issue("E_EMPTY", "", "is empty", "a manifest starts with `version: 1`", file)])
    if not isinstance(root, Table):
        kind = "a list" if isinstance(root, Listing) else "a single value"
        message = f"is {kind}, not a mapping"
        raise ManifestSyntax(
            [Issue("E_NOT_A_MAPPING", "", message, "a manifest starts with `version: 1`", file, *root.mark)]
        )
    return root, builder.issues


def _mark_at(before: str) -> Mark:
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _syntax_issue(error: yaml.YAMLError, text: str, file: str) -> Issue:
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    mark = getattr(error, "problem_mark", None)
    message = f"is not YAML: {problem}" + (f" ({context})" if context else "")
    if mark is None:
        return Issue("E_SYNTAX", "", message, "", file)
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    hint = ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        message, hint = "is not YAML: a tab stands where the line is indented", "indent with spaces"
    elif "${" in line:
        hint = 'inside [ ] and { } a variable needs quotes: "${NAME}"'
    return Issue("E_SYNTAX", "", message, hint, file, mark.line + 1, mark.column + 1)


@dataclass(slots=True)
class _Open:
    """A list or mapping whose end has not come yet."""

    node: Listing | Table
    path: str
    anchor: str | None
    size_before: int
    key: Scalar | None = None


@dataclass(slots=True)
class _Builder:
    file: str
    issues: list[Issue] = field(default_factory=list)
    _stack: list[_Open] = field(default_factory=list)
    _anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    _values: int = 0
    _root: Node | None = None

    def build(self, events: Iterator[Event]) -> Node | None:
        """Return the root node; nothing where there is none."""
        documents = 0
        for event in events:
            if isinstance(event, DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._stop("E_SYNTAX", "holds more than one document", "remove the line `---`", _mark(event))
            elif isinstance(event, AliasEvent):
                self._alias(event)
            elif isinstance(event, ScalarEvent):
                self._scalar(event)
            elif isinstance(event, MappingStartEvent | SequenceStartEvent):
                self._open(event)
            elif isinstance(event, MappingEndEvent | SequenceEndEvent):
                self._close()
        return self._root

    def _scalar(self, event: ScalarEvent) -> None:
        mark = _mark(event)
        explicit = event.tag if event.tag not in (None, "!") else None
        if explicit not in (None, _TEXT_TAG):
            self._issue("E_YAML_TAG", f"the YAML tag {explicit} is not allowed", "remove it", mark)
        plain = event.implicit[0]
        if plain and _DATE.fullmatch(event.value) and not self._expects_key():
            self._issue("E_DATE_VALUE", f"{event.value} is a date to some readers and text to others",
                        f'quote it: "{event.value}"', mark)  # fmt: skip
        node = Scalar(mark, event.value, plain, event.value)
        self._count(1, mark)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, 1)
        self._put(node, mark)

    def _alias(self, event: AliasEvent) -> None:
        mark = _mark(event)
        known = self._anchors.get(event.anchor or "")
        if known is None:
            self._stop("E_SYNTAX", f"the alias *{event.anchor} has no anchor before it", "", mark)
        else:
            node, size = known
            self._count(size, mark)
            self._put(node, mark)

    def _open(self, event: MappingStartEvent | SequenceStartEvent) -> None:
        mark = _mark(event)
        if event.tag not in (None, "!"):
            self._issue("E_YAML_TAG", f"the YAML tag {event.tag} is not allowed", "remove it", mark)
        if len(self._stack) >= MAX_DEPTH:
            self._stop("E_TOO_LARGE", f"is nested more than {MAX_DEPTH} levels deep", "", mark)
        node = Table(mark) if isinstance(event, MappingStartEvent) else Listing(mark)
        if self._expects_key():
            self._stop("E_BAD_KEY", "a list or a mapping cannot be a key", "", mark)
        path = self._path_here()
        self._count(1, mark)
        self._put(node, mark)
        self._stack.append(_Open(node, path, event.anchor, self._values - 1))

    def _close(self) -> None:
        done = self._stack.pop()
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.node, self._values - done.size_before)

    def _expects_key(self) -> bool:
        return bool(self._stack) and isinstance(self._stack[-1].node, Table) and self._stack[-1].key is None

    def _path_here(self) -> str:
        if not self._stack:
            return ""
        top = self._stack[-1]
        if isinstance(top.node, Listing):
            return join(top.path, len(top.node.entries))
        return join(top.path, top.key.text) if top.key is not None else top.path

    def _put(self, node: Node, mark: Mark) -> None:
        if not self._stack:
            self._root = node
            return
        top = self._stack[-1]
        if isinstance(top.node, Listing):
            top.node.entries.append(Entry(mark, self._path_here(), node))
        elif top.key is None:
            self._key(top, node, mark)
        else:
            key, path = top.key, self._path_here()
            top.key = None
            # Of two equal keys the first one stays; what is reported here is not looked at again.
            if key.text and not (key.plain and key.text == _MERGE):
                top.node.entries.setdefault(key.text, Entry(key.mark, path, node))

    def _key(self, top: _Open, node: Node, mark: Mark) -> None:
        if not isinstance(node, Scalar):
            self._stop("E_BAD_KEY", "a list or a mapping cannot be a key", "", mark)
        top.key = Scalar(mark, node.text, node.plain, node.source)
        path = join(top.path, node.text)
        if node.plain and node.text == _MERGE:
            self._issue("E_BAD_KEY", "merge keys are not part of YAML 1.2",
                        "write the keys out, or use an overlay", mark, path)  # fmt: skip
        elif not node.text:
            self._issue("E_BAD_KEY", "a key is empty", "", mark, top.path)
        if isinstance(top.node, Table) and node.text in top.node.entries:
            first = top.node.entries[node.text].mark
            message = f"the key '{node.text}' is there twice; the first one is in line {first.line}"
            self._issue("E_DUPLICATE_KEY", message, "remove one of them", mark, path)

    def _count(self, values: int, mark: Mark) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            message = f"holds more than {MAX_VALUES} values, aliases counted as what they stand for"
            self._stop("E_TOO_LARGE", message, "", mark)

    def _issue(self, code: str, message: str, hint: str, mark: Mark, path: str | None = None) -> None:
        where = self._path_here() if path is None else path
        self.issues.append(Issue(code, where, message, hint, self.file, *mark))

    def _stop(self, code: str, message: str, hint: str, mark: Mark) -> NoReturn:
        raise ManifestSyntax([Issue(code, "", message, hint, self.file, *mark)])


def _mark(event: Event) -> Mark:
    start = event.start_mark
    return Mark(start.line + 1, start.column + 1) if start is not None else Mark(1, 1)
