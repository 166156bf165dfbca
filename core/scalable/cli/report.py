"""``scalable report``: what happened in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from scalable.errors import ScalableError

__all__ = ["report"]

_Flag = Annotated[bool, Parameter(negative="")]


def report(
    *,
    latest: _Flag = False,
    last: _Flag = False,
    run_id: str | None = None,
    format: Literal["text", "json"] = "text",  # noqa: A002  (the option's name)
    output: Path | None = None,
    runs_dir: Path | None = None,
) -> int:
    """Print what happened in a run: tasks, workers, scaling, efficiency.

    Parameters
    ----------
    latest
        The newest run, which is the default.
    last
        The same.
    run_id
        The run of this name; its beginning will do.
    format
        For people or for programs.
    output
        Write to this file, in place of the screen.
    runs_dir
        The folder of the runs; default is $SCALABLE_RUNS_DIR, or .scalable/runs here.
    """
    from scalable.report import build, render_json, render_text  # noqa: PLC0415  (help must not wait for it)
    from scalable.settings import Settings  # noqa: PLC0415
    from scalable.telemetry.history import find_run  # noqa: PLC0415

    if run_id is not None and (latest or last):
        raise ScalableError("--run-id names one run and --latest another; give one of them")
    found = find_run(Settings.from_environ().runs_dir if runs_dir is None else runs_dir, run_id)
    made = build(found.path)
    text = render_json(made) if format == "json" else render_text(made)
    if output is None:
        print(text, end="")  # noqa: T201
        return 0
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScalableError(f"cannot write the report to {output}: {error.strerror}") from error
    return 0
