"""What a report says of money: metered, counted for a killed run, and unknown without being zero."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scalable.report import build, render_json, render_text
from tests.report.runs import SampleRun

Sample = Callable[..., SampleRun]


def money(run: SampleRun) -> list[str]:
    """Return the lines on money of a run's report."""
    lines = render_text(build(run.path)).splitlines()
    start = next((index for index, line in enumerate(lines) if line.startswith("Cost:")), len(lines))
    rest = (line for line in lines[start + 1 :])
    return lines[start : start + 1] + [line for line in rest if "worker-hours" in line]


def planned(run: SampleRun, **cost: Any) -> SampleRun:
    plan = json.loads((run.path / "plan.json").read_text())
    (run.path / "plan.json").write_text(json.dumps(plan | {"cost": cost}))
    return run


def test_what_was_metered_stands_beside_what_was_estimated(sample: Sample) -> None:
    run = planned(sample().plan(demeter=2), usd=0.5, low=0.4, high=0.75, source="a table").end(7200)
    run.price("demeter", 0.36).paid("demeter", 7200, 0.72)
    assert money(run) == [
        "Cost: $0.72 metered; estimated $0.50 ($0.40 to $0.75)",
        "  demeter: 2.00 paid worker-hours, 8.00 core-hours, $0.72 (a table of 2026-01-01)",
    ]


def test_a_killed_run_is_counted_up_to_its_last_record(sample: Sample) -> None:
    run = sample(boot_id="an earlier boot").price("demeter", 3.6, min_bill_s=60.0)
    run.worker("demeter-0", 0, 30, "lost").worker("demeter-1", 100).worker("demeter-2", 400, 1000, "scaled down")
    cost = build(run.path).cost
    assert cost is not None
    assert not cost.final
    # A minute at the least, from 100 to the last record at 1000, and 600.
    assert cost.pools[0].paid_s == pytest.approx(60 + 900 + 600)
    assert cost.usd == pytest.approx(1.56)
    assert money(run)[0] == "Cost: $1.56 so far, by the workers that were seen"


def test_the_boot_of_a_machine_counts_where_it_is_paid(sample: Sample) -> None:
    run = sample(boot_id="an earlier boot").price("demeter", 3.6, boot_paid=True)
    run.worker("demeter-0", 100, 200, startup_s=90.0)
    assert build(run.path).cost_usd == pytest.approx(0.19)


def test_a_pool_without_a_price_is_named_with_its_hours_and_the_total_is_no_zero(sample: Sample) -> None:
    run = sample().plan(demeter=1).end(3600).price("demeter", None).price("rank", 1.0)
    run.worker("demeter-0", 0, 3600).worker("rank-0", 0, 1800)
    assert build(run.path).cost_usd is None
    assert money(run) == [
        "Cost: not known: no price known for pool demeter: set `price:` in the target",
        "  demeter: 1.00 paid worker-hours, 4.00 core-hours",
        "  rank: 0.50 paid worker-hours, 2.00 core-hours, $0.50 (a table of 2026-01-01)",
    ]


def test_what_is_free_says_so_but_what_nobody_bills_is_no_news(sample: Sample) -> None:
    free = sample("run-a").end(60).price("a", 0.0, source="price in the manifest: core_hour 0").paid("a", 60, 0.0)
    here = sample("run-b").end(60).price("a", 0.0, source="this machine").paid("a", 60, 0.0)
    assert money(free) == ["Cost: $0.00 metered (price in the manifest: core_hour 0)"]
    assert money(here) == []
    assert json.loads(render_json(build(here.path)))["cost_usd"] == 0


def test_less_than_a_cent_is_not_shown_as_nothing(sample: Sample) -> None:
    assert money(sample().end(60).price("a", 0.36).paid("a", 12, 0.0012))[0] == "Cost: $0.0012 metered"


def test_a_run_that_was_only_estimated_says_that_it_was_not_metered(sample: Sample) -> None:
    assert money(planned(sample().plan(a=1), usd=2.0).end(60)) == ["Cost: not metered; estimated $2.00"]


def test_a_run_whose_records_say_nothing_of_money_has_no_such_line(sample: Sample) -> None:
    assert money(sample().plan(a=1).worker("a-0", 0, 60).end(60)) == []


def test_the_json_form_has_every_figure(sample: Sample, tmp_path: Path) -> None:
    run = planned(sample().plan(demeter=2), usd=0.5, source="a table").end(7200)
    run.price("demeter", 0.36).paid("demeter", 7200, 0.72)
    content = json.loads(render_json(build(run.path)))
    assert content["cost_usd"] == 0.72
    assert content["cost"] == {
        "usd": 0.72,
        "final": True,
        "estimated": {"usd": 0.5, "low": None, "high": None, "source": "a table"},
        "pools": [
            {
                "tag": "demeter",
                "workers": 1,
                "paid_s": 7200.0,
                "core_s": 28800.0,
                "usd": 0.72,
                "source": "a table of 2026-01-01",
            }
        ],
    }
