"""``scalable deploy``: a manifest's targets in the words of an engine, each of which brings its own command."""

from __future__ import annotations

from cyclopts import App

__all__ = ["ENTRY_POINTS", "deploy", "engines"]

ENTRY_POINTS = "scalable.deploy"
"""Group of the entry points by which engines bring their commands."""


def engines() -> App:
    """Return the command with one sub-command for each engine that is installed."""
    from importlib.metadata import entry_points  # noqa: PLC0415  (slow where much is installed)

    application = App(name="deploy", help="Write what an engine needs to run a flow on each target.")
    for entry in sorted(entry_points(group=ENTRY_POINTS)):
        # Named, not imported: one engine's libraries must not be missed by another's users.
        application.command(entry.value, name=entry.name)
    return application


deploy = engines()
