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
    format: Literal["text", "json", "markdown"] = "text",  # noqa: A002  (the option's name)
    output: Path | None = None,
    plot: Path | None = None,
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
        For people, for programs, or for pages that show Markdown, with the picture inside.
    output
        Write to this file, in place of the screen.
    plot
        Also draw workers and tasks over time, as an SVG file.
    runs_dir
        The folder of the runs; default is $SCALABLE_RUNS_DIR, or .scalable/runs here.
    """
    from scalable.report import build, draw_run, render_json, render_markdown, render_text  # noqa: PLC0415  (help must not wait for it)
    from scalable.settings import Settings  # noqa: PLC0415
    from scalable.telemetry.history import find_run  # noqa: PLC0415

    if run_id is not None and (latest or last):
        raise ScalableError("--run-id names one run and --latest another; give one of them")
    if plot is not None and plot.suffix.lower() != ".svg":
        raise ScalableError(f"--plot {plot}: the picture is an SVG file; give it a name that ends in .svg")
    found = find_run(Settings.from_environ().runs_dir if runs_dir is None else runs_dir, run_id)
    made = build(found.path)
    if plot is not None:
        picture = draw_run(made)
        if picture is None:
            raise ScalableError(f"run {found.run_id} has no workers and no tasks to draw")
        _write(plot, picture)
    render = {"text": render_text, "json": render_json, "markdown": render_markdown}[format]
    text = render(made)
    if output is None:
        print(text, end="")  # noqa: T201
    else:
        _write(output, text)
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScalableError(f"cannot write the report to {path}: {error.strerror}") from error
