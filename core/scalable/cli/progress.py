"""A run's progress on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from scalable.session import TagProgress

__all__ = ["shown"]


@contextmanager
def shown(progress: Callable[[], tuple[TagProgress, ...]]) -> Iterator[None]:
    """Show how far a run is while the block lasts; nothing where standard error is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console  # noqa: PLC0415  (not needed without a terminal)
    from rich.live import Live  # noqa: PLC0415

    with Live(get_renderable=lambda: _table(progress()), console=Console(stderr=True), refresh_per_second=4):
        yield


def _table(rows: tuple[TagProgress, ...]) -> Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    table.add_column("tag")
    for title in ("queued", "running", "done", "failed", "workers"):
        table.add_column(title, justify="right")
    table.add_column("")
    for row in rows:
        cells = (row.queued + row.blocked, row.running, row.done, row.failed, row.workers)
        table.add_row(row.tag or "(any)", *map(str, cells), row.waiting)
    return table
