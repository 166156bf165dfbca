"""Reports as text and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from scalable.report import build, render_json, render_text
from tests.report.runs import SampleRun, documented_run

Sample = Callable[..., SampleRun]


def words(text: str) -> list[str]:
    return sorted(text.split())


def test_the_text_has_every_line_that_the_tutorials_show(tmp_path: Path) -> None:
    run = documented_run(tmp_path)

    text = render_text(build(run.path))

    assert (
        text
        == f"""\
Run: run-20260520T100000Z-demeter-lulcc-abc123
Status: completed
Target: local (provider: local)
Workers: peak=4, avg=3.9
  demeter: 5 started, 3 removed, 2 final
  postprocess: 2 started, 0 removed, 2 final
Scaling events: 3 scale-up, 1 scale-down
Tasks: 20 completed, 0 failed
  task      completed  failed  retried  median   p95  peak p95  peak max  asked
  simulate         16       0        0    1.5s  1.9s      100M      100M     1G
  rank              4       0        0    0.5s  0.5s      100M      100M     1G
Duration: 10.0s
Efficiency: 65% (worker utilization)
Pools:
  pool         peak  avg  threads  memory  efficiency
  demeter         3  2.5        1      1G         94%
  postprocess     2  1.4        1      1G         14%
Files: {run.path}
"""
    )


def test_what_is_rare_is_shown_where_it_happened(sample: Sample) -> None:
    run = sample(overlay="night").end(10, "failed").paid("demeter", 3600, 1234.5)
    run.task("a", "f", 0, 1, outcome="failed", error_type="ValueError", error="bad\ninput " + "x" * 500)
    run.task("b", "f", 0, None, outcome="cancelled").task("c", "f", 0, None, outcome="lost")
    run.task("d", "f", 0, 1, outcome="failed").task("d", "f", 0, 1, attempt=2)

    lines = render_text(build(run.path)).splitlines()

    assert "Status: failed" in lines
    assert "Overlay: night" in lines
    assert "Tasks: 1 completed, 1 failed, 1 cancelled, 1 lost, 1 retried" in lines
    assert "Cost: $1,234.50 metered" in lines
    (failure,) = [line for line in lines if "ValueError" in line]
    assert failure.startswith("  1 x ValueError in f, first a: bad input xxx")
    assert failure.endswith("...")
    assert len(failure) < 220


def test_a_run_without_records_says_what_is_not_known(sample: Sample) -> None:
    lines = render_text(build(sample().end(0.5).path)).splitlines()

    assert "Workers: peak=0, avg=0.0" in lines
    assert "Tasks: 0 completed, 0 failed" in lines
    assert "Efficiency: not known (worker utilization)" in lines


def test_a_run_under_way_and_a_killed_one_say_so(sample: Sample) -> None:
    running = render_text(build(sample("run-a", started_at=time.time()).path))
    killed = render_text(build(sample("run-b", boot_id="an earlier boot").path))
    unknown = render_text(build(sample("run-c", host="login7").path))

    assert "Status: running (what is known so far)\n" in running
    assert "Status: killed (its process is gone" in killed
    assert "Status: unknown (no summary yet, and it ran on login7" in unknown


def test_names_and_errors_cannot_steer_the_terminal(sample: Sample) -> None:
    run = sample().end(1).task("k", "evil\x1b[2J\nname", 0, 1, outcome="failed", error="\x1b]0;owned\x07")

    text = render_text(build(run.path))

    assert "\x1b" not in text
    assert "\x07" not in text
    assert "evil?[2J?name" in text


def test_a_peak_that_tasks_share_is_explained_below_the_table(sample: Sample) -> None:
    run = sample().end(1).task("k", "f", 0, 1, exclusive=False, peak_bytes=3 * 2**29)

    text = render_text(build(run.path))

    assert "1.5G*" in text
    assert "* tasks shared a process" in text


def test_names_beyond_a_screen_are_counted(sample: Sample) -> None:
    run = sample().end(9)
    for index in range(45):
        run.task(f"f-{index}", f"name-{index:02}", index, 0.01)

    text = render_text(build(run.path))

    assert "name-39" in text
    assert "name-40" not in text
    assert "  and 5 more names\n" in text


def test_the_json_form_keeps_its_keys(tmp_path: Path) -> None:
    content = json.loads(render_json(build(documented_run(tmp_path).path)))

    assert {key: sorted(value) if isinstance(value, dict) else value for key, value in content.items()} == {
        "schema": 1,
        "run": words(
            "run_id path project target provider overlay status started_at ended_at "
            "duration_s host pid scalable_version manifest_path fingerprint objectives "
        ),
        "tasks": ["attempts", "by_name", "cancelled", "completed", "failed", "lost", "names", "retried"],
        "workers": ["average", "peak", "pools"],
        "scaling": ["down", "up"],
        "efficiency": content["efficiency"],
        "cost_usd": None,
        "cost": None,
        "failures": [],
    }
    assert sorted(content["tasks"]["by_name"][0]) == words(
        "name completed failed cancelled lost retried attempts median_s p95_s cpu_s "
        "peak_p95_bytes peak_max_bytes asked_bytes peak_shared "
    )
    assert sorted(content["workers"]["pools"][0]) == words(
        "tag started removed final peak average threads memory_bytes efficiency "
    )


def test_the_json_form_has_the_figures_of_the_text(tmp_path: Path) -> None:
    content = json.loads(render_json(build(documented_run(tmp_path).path)))

    assert content["run"]["status"] == "completed"
    assert content["tasks"]["completed"] == 20
    assert content["workers"]["pools"][0]["final"] == 2
    assert content["scaling"] == {"up": 3, "down": 1}
    assert content["efficiency"] == 25.5 / 39
