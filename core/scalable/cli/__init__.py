"""The ``scalable`` command: one module a command; errors are caught here and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from scalable.errors import ScalableError

if TYPE_CHECKING:
    from cyclopts import App

__all__ = ["app", "main"]

_COMMANDS = ("adapter", "advise", "clean", "deploy", "plan", "ps", "replay", "report", "run", "schema", "validate")


def app() -> App:
    """Return the command line as a cyclopts application, for running and for the documentation."""
    from cyclopts import App  # noqa: PLC0415  (not needed to import the package)

    from scalable import __version__  # noqa: PLC0415

    application = App(
        name="scalable",
        help="Tagged tasks on right-sized pools of Dask workers.",
        version=__version__,
        result_action="return_value",
    )
    for command in _COMMANDS:
        application.command(f"scalable.cli.{command}:{command}", name=command)
    return application


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        Default: the process's own.

    Returns
    -------
    int
        0, or the exit code of the error's branch (see :mod:`scalable.errors`).
    """
    try:
        result = app()(arguments if arguments is None else list(arguments))
    except ScalableError as error:
        print(f"scalable: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return int(result or 0)
