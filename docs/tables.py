"""Tables of the documentation that are made from the code, so that they cannot lag behind it."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from scalable.manifest.codes import CODES


def _row(texts: tuple[str, ...], first: type[nodes.TextElement] | None = None) -> nodes.row:
    row = nodes.row()
    for number, text in enumerate(texts):
        cell = first(text, text) if first is not None and number == 0 else nodes.Text(text)
        row += nodes.entry("", nodes.paragraph("", "", cell))
    return row


def _table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> nodes.table:
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (30, 70)), cols=len(titles))
    group += nodes.thead("", _row(titles))
    group += nodes.tbody("", *(_row(row, nodes.literal) for row in rows))
    return nodes.table("", group)


class ManifestCodes(Directive):
    """Every code that a manifest's problems have."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return [_table(("code", "meaning"), sorted(CODES.items()))]


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directive."""
    app.add_directive("manifest-codes", ManifestCodes)
    return {"parallel_read_safe": True}
