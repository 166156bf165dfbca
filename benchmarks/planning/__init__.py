"""Plans against hindsight: what the planner chose, and the best there was once everything was known."""

from __future__ import annotations

from benchmarks.planning.compare import main

__all__ = ["main"]
