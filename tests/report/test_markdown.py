"""Reports as Markdown, and the public way to them."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from scalable import run_report
from scalable.cli.report import report
from scalable.errors import ScalableError
from scalable.report import build, draw_run, render_markdown
from tests.report.runs import SampleRun, documented_run

Sample = Callable[..., SampleRun]


def test_markdown_says_what_the_text_says(tmp_path: Path) -> None:
    run = documented_run(tmp_path)

    text = run_report(run.path).to_markdown(plot=False)

    assert (
        text
        == f"""\
# Run run-20260520T100000Z-demeter-lulcc-abc123

- Status: completed
- Target: local (provider local)
- Tasks: 20 completed, 0 failed
- Workers: at most 4, on average 3.9
- Scaling decisions: 3 up, 1 down
- Duration: 10.0s
- Efficiency: 65% of the workers' time

## Pools

| pool | peak | avg | threads | memory | efficiency |
| --- | ---: | ---: | ---: | ---: | ---: |
| demeter | 3 | 2.5 | 1 | 1G | 94% |
| postprocess | 2 | 1.4 | 1 | 1G | 14% |

## Tasks

| task | completed | failed | retried | median | p95 | peak p95 | peak max | asked |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| simulate | 16 | 0 | 0 | 1.5s | 1.9s | 100M | 100M | 1G |
| rank | 4 | 0 | 0 | 0.5s | 0.5s | 100M | 100M | 1G |

Files: {str(run.path).replace("_", chr(92) + "_")}
"""
    )


def test_the_picture_is_inside_the_text(tmp_path: Path) -> None:
    run = documented_run(tmp_path)

    (data,) = re.findall(
        r"^!\[.*\]\(data:image/svg\+xml;base64,(\S+)\)$", run_report(run.path).to_markdown(), re.MULTILINE
    )

    assert base64.b64decode(data).decode() == run_report(run.path).plot()


def test_failures_and_costs_are_listed(sample: Sample) -> None:
    run = sample().end(10, "failed").price("demeter", 1.5).paid("demeter", 3600, 1.5)
    run.task("a", "f", 0, 1, outcome="failed", error_type="ValueError", error="bad input")

    lines = render_markdown(build(run.path)).splitlines()

    assert "- Cost: \\$1.50 metered" in lines
    assert "- 1 x ValueError in f, first a: bad input" in lines


def test_names_and_errors_cannot_be_taken_for_markdown_or_html(sample: Sample) -> None:
    error = "<img src=x onerror=alert(1)> [click](http://evil) `x`\n# heading"
    run = sample().end(1).task("k", "a|b_c*", 0, 1, outcome="failed", error=error)

    text = render_markdown(build(run.path))

    assert "| a\\|b\\_c\\* | 0 | 1 |" in text
    assert "\\<img src=x onerror=alert(1)\\> \\[click\\](http://evil) \\`x\\` \\# heading" in text


def test_the_command_line_prints_markdown_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = documented_run(tmp_path)

    report(runs_dir=tmp_path, format="markdown", plot=tmp_path / "run.svg")

    assert capsys.readouterr().out == render_markdown(build(run.path))
    assert (tmp_path / "run.svg").read_text() == draw_run(build(run.path))


def test_what_cannot_be_drawn_is_one_clear_error(sample: Sample, tmp_path: Path) -> None:
    run = sample().end(1)

    with pytest.raises(ScalableError, match=r"run\.png: the picture is an SVG file"):
        report(runs_dir=run.path.parent, plot=tmp_path / "run.png")
    with pytest.raises(ScalableError, match="no workers and no tasks to draw"):
        report(runs_dir=run.path.parent, plot=tmp_path / "run.svg")
    with pytest.raises(ScalableError, match=r"cannot write .*: No such file"):
        report(runs_dir=documented_run(tmp_path).path.parent, plot=tmp_path / "nowhere" / "run.svg")
