"""Paid worker time: overlapping, lost and repeated workers, and minimum bills."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable.pricing import Meter, Rate
from scalable.telemetry.cost import read_costs
from scalable.telemetry.recorder import Recorder

HOUR = 3600.0
NOON = 1_779_271_200.0
CENT_A_SECOND = Rate(0.01)


def added(name: str, at: float, **more: object) -> dict[str, object]:
    return {"event": "worker_added", "at": at, "worker": name, "tag": name.rpartition("-")[0], **more}


def removed(name: str, at: float, reason: str = "closed") -> dict[str, object]:
    return {"event": "worker_removed", "at": at, "worker": name, "tag": name.rpartition("-")[0], "reason": reason}


def test_workers_that_overlap_are_paid_each() -> None:
    meter = Meter({"a": CENT_A_SECOND})
    meter.worker_started("a", "a-0", NOON)
    meter.worker_started("a", "a-1", NOON + 10)
    meter.worker_ended("a", "a-0", NOON + 30)
    assert meter.paid_s("a", NOON + 40) == pytest.approx(30 + 30)
    assert meter.spent_usd(NOON + 40) == pytest.approx(0.60)
    assert meter.spent_usd(NOON + 50) == pytest.approx(0.70)


def test_the_minimum_is_paid_at_once_and_only_once() -> None:
    meter = Meter({"a": Rate(0.01, min_bill_s=60)})
    meter.worker_started("a", "a-0", NOON)
    assert meter.spent_usd(NOON) == pytest.approx(0.60)
    assert meter.spent_usd(NOON + 59) == pytest.approx(0.60)
    assert meter.spent_usd(NOON + 61) == pytest.approx(0.61)
    meter.worker_ended("a", "a-0", NOON + 90)
    meter.worker_started("a", "a-1", NOON + 100)
    meter.worker_ended("a", "a-1", NOON + 101)
    assert meter.spent_usd(NOON + HOUR) == pytest.approx(0.90 + 0.60)


def test_a_lost_worker_is_paid_until_it_was_lost() -> None:
    meter = Meter({"a": CENT_A_SECOND})
    for record in (added("a-0", NOON), removed("a-0", NOON + 20, "lost"), added("a-1", NOON + 25)):
        meter.take(record)
    assert meter.paid_s("a", NOON + 30) == pytest.approx(25)
    assert meter.totals(NOON + 30)[0].workers == 2


def test_a_worker_that_comes_back_was_paid_for_meanwhile_and_pays_the_minimum_once() -> None:
    meter = Meter({"a": Rate(0.01, min_bill_s=60)})
    for record in (added("a-0", NOON), removed("a-0", NOON + 10, "lost"), added("a-0", NOON + 12)):
        meter.take(record)
    assert meter.paid_s("a", NOON + 20) == pytest.approx(60)
    meter.take(removed("a-0", NOON + 100))
    (total,) = meter.totals(NOON + 200)
    assert (total.workers, total.paid_s) == (1, pytest.approx(100))


def test_the_boot_is_paid_where_the_rate_says_so_and_a_wait_in_a_queue_is_not() -> None:
    cloud, queue = Meter({"a": Rate(0.01, boot_paid=True)}), Meter({"a": CENT_A_SECOND})
    for meter in (cloud, queue):
        meter.take(added("a-0", NOON + 100, startup_s=90.0))
    assert cloud.paid_s("a", NOON + 110) == pytest.approx(100)
    assert queue.paid_s("a", NOON + 110) == pytest.approx(10)


def test_a_job_is_paid_since_its_start_where_that_is_recorded() -> None:
    meter = Meter({"a": CENT_A_SECOND})
    meter.take(added("a-0", NOON + 100, startup_s=90.0, paid_from=NOON + 80))
    assert meter.paid_s("a", NOON + 110) == pytest.approx(30)


@pytest.mark.parametrize("pool", ["a", "a@cloud"])
def test_an_enlarged_pool_costs_what_its_pool_does_and_its_memory_besides(pool: str) -> None:
    machine, memory = Meter({pool: CENT_A_SECOND}), Meter({pool: Rate(0.01, usd_per_gb_h=7.2)})
    for meter in (machine, memory):
        meter.take(added(f"{pool}+512-0", NOON))
    assert machine.spent_usd(NOON + 10) == pytest.approx(0.10)
    assert memory.spent_usd(NOON + 10) == pytest.approx(0.10 + 10 * 0.5 * 7.2 / 3600)
    assert memory.totals(NOON + 10)[0].usd == pytest.approx(0.11)


def test_what_has_no_price_is_named_and_the_rest_is_counted() -> None:
    meter = Meter({"a": CENT_A_SECOND})
    meter.worker_started("a", "a-0", NOON)
    assert meter.unpriced == ()
    meter.worker_started("b", "b-0", NOON)
    assert meter.spent_usd(NOON + 1) == pytest.approx(0.01)
    assert meter.unpriced == ("b",)
    assert meter.paid_s("b", NOON + 1) == 1
    assert [(one.tag, one.usd) for one in meter.totals(NOON + 1)] == [("a", pytest.approx(0.01)), ("b", None)]


def test_before_any_worker_nothing_is_spent() -> None:
    assert Meter({}).spent_usd(NOON) == 0
    assert Meter({}).paid_s("a", NOON) == 0


def test_records_that_repeat_or_lack_something_change_nothing() -> None:
    meter = Meter({"a": CENT_A_SECOND})
    for record in (
        added("a-0", NOON),
        added("a-0", NOON + 5),
        removed("a-7", NOON + 6),
        {"event": "worker_added", "at": NOON},
        {"event": "worker_added", "worker": "a-1"},
    ):
        meter.take(record)
    assert meter.paid_s("a", NOON + 10) == 10


spans = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), max_size=30)


@given(spans, st.integers(0, 90), st.lists(st.integers(0, 1000), max_size=5))
def test_at_any_moment_it_is_the_sum_over_the_workers(
    workers: list[tuple[int, int]], minimum: int, looks: list[int]
) -> None:
    meter = Meter({"a": Rate(1.0, float(minimum))})
    events = [(come, 0, index) for index, (come, _) in enumerate(workers)]
    events += [(come + stay, 1, index) for index, (come, stay) in enumerate(workers)]
    events += [(look, 2, 0) for look in looks]
    for at, kind, index in sorted(events):
        if kind == 0:
            meter.worker_started("a", f"a-{index}", NOON + at)
        elif kind == 1:
            meter.worker_ended("a", f"a-{index}", NOON + at)
        else:
            there = ((come, min(come + stay, at)) for come, stay in workers if come <= at)
            expected = sum(max(until - come, minimum) for come, until in there)
            assert meter.spent_usd(NOON + at) == pytest.approx(expected, abs=1e-3)


def test_a_question_costs_the_same_for_many_workers() -> None:
    meter = Meter({"a": Rate(0.01, 60)})
    for index in range(20_000):
        meter.worker_started("a", f"a-{index}", NOON + index / 1000)
    meter.spent_usd(NOON + HOUR)
    before = perf_counter()
    for tick in range(1000):
        meter.spent_usd(NOON + HOUR + tick)
    assert perf_counter() - before < 0.2


def test_its_records_are_read_back(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    meter = Meter({"a": Rate(0.01, 60, "a table", boot_paid=True, usd_per_gb_h=0.5)})
    meter.record_prices(recorder, {"a": 4, "b": 1})
    meter.worker_started("a", "a-0", NOON)
    meter.worker_ended("a", "a-0", NOON + 100)
    meter.record_totals(recorder)
    recorder.finish("completed", {})
    costs = read_costs(tmp_path / "run")
    price = costs.prices["a"]
    assert (price.usd_per_s, price.min_bill_s, price.source) == (0.01, 60, "a table")
    assert (price.boot_paid, price.usd_per_gb_h, price.cpus) == (True, 0.5, 4)
    assert costs.prices["b"].usd_per_s is None
    assert (costs.paid["a"].paid_s, costs.paid["a"].usd) == (100, 1.0)
    lines = (tmp_path / "run" / "cost.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["price", "price", "paid"]


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    price = '{"event":"price","tag":"a","usd_per_s":0.5}\n'
    (tmp_path / "cost.jsonl").write_text(price + 'what?\n{"event":"price"}\n{"event":"price","tag":"b","usd_')
    assert list(read_costs(tmp_path).prices) == ["a"]
