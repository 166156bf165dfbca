"""What a worker costs by the rates of the manifest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable.pricing import NoPrice, Rate, user_rate
from scalable.spec import PriceRates, ResourceRequest

WORKER = ResourceRequest(cpus=4, memory_bytes=16 * 2**30, gpus=2)


@pytest.mark.parametrize(
    ("price", "hourly"),
    [
        (PriceRates(core_hour_usd=0.02), 0.08),
        (PriceRates(gb_hour_usd=0.005), 0.08),
        (PriceRates(gpu_hour_usd=1.5), 3.0),
        (PriceRates(worker_hour_usd=0.7), 0.7),
        (PriceRates(core_hour_usd=0.02, gb_hour_usd=0.005, gpu_hour_usd=1.5, worker_hour_usd=0.7), 3.86),
        (PriceRates(core_hour_usd=0.0), 0.0),
    ],
)
def test_a_worker_costs_the_sum_of_its_rates(price: PriceRates, hourly: float) -> None:
    rate = user_rate(price, WORKER)
    assert isinstance(rate, Rate)
    assert rate.usd(3600) == pytest.approx(hourly)


def test_a_gigabyte_is_what_the_manifest_calls_a_g() -> None:
    rate = user_rate(PriceRates(gb_hour_usd=1.0), ResourceRequest(memory_bytes=10**9))
    assert isinstance(rate, Rate)
    assert rate.usd(3600) == pytest.approx(10**9 / 2**30)
    assert rate.usd_per_gb_h == 1.0


def test_the_source_says_which_rates_of_the_manifest_it_is() -> None:
    rate = user_rate(PriceRates(core_hour_usd=0.02, worker_hour_usd=0.0), WORKER)
    assert isinstance(rate, Rate)
    assert rate.source == "price in the manifest: core_hour 0.02, worker_hour 0"


def test_memory_that_is_priced_and_not_said_is_no_zero() -> None:
    rate = user_rate(PriceRates(gb_hour_usd=1.0), ResourceRequest(cpus=1))
    assert isinstance(rate, NoPrice)
    assert "`memory`" in rate.reason


@given(st.floats(0, 1e6), st.floats(0, 1e6))
def test_no_worker_is_paid_for_less_than_the_minimum(there_s: float, minimum_s: float) -> None:
    rate = Rate(0.5, minimum_s)
    assert rate.paid_s(there_s) == max(there_s, minimum_s)
    assert rate.usd(there_s) == 0.5 * rate.paid_s(there_s)


def test_the_minimum_of_the_manifest_counts() -> None:
    rate = user_rate(PriceRates(worker_hour_usd=3.6, minimum_s=60.0), WORKER)
    assert isinstance(rate, Rate)
    assert rate.usd(1) == pytest.approx(0.06)
