"""The packaged prices: exact cents, consistent with themselves, and a clear word where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from scalable.pricing import NoPrice, Rate, ec2_rate, fargate_rate, gce_rate
from scalable.pricing.tables import Table, _content, tables

# What every size has of a `large`; families whose sizes differ in more than that are left out.
LARGE = {"nano": 1 / 16, "micro": 1 / 8, "small": 1 / 4, "medium": 1 / 2, "large": 1, "xlarge": 2}
LINEAR = ("t3", "m5", "m6i", "m7i", "c5", "c6i", "c7i", "r5", "r6i", "r7i", "p3")


def of(service: str) -> Iterator[Table]:
    return (one for one in tables() if one.service == service)


def numbers(value: object) -> Iterator[float]:
    if isinstance(value, dict):
        for one in value.values():
            yield from numbers(one)
    else:
        assert isinstance(value, int | float)
        yield value


def cents(rate: Rate | NoPrice, seconds: float) -> float:
    assert isinstance(rate, Rate), rate
    return round(100 * rate.usd(seconds), 6)


@pytest.mark.parametrize(
    ("rate", "seconds", "expected"),
    [
        (ec2_rate("m5.large", "us-east-1"), 3600, 9.6),
        (ec2_rate("c5.18xlarge", "us-west-2"), 1800, 153.0),
        (ec2_rate("m5.2xlarge", "eu-central-1"), 7200, 92.0),
        (fargate_rate(1024, 4096, "us-east-1"), 3600, 5.826),
        (fargate_rate(256, 512, "eu-central-1"), 3600, 1.4195),
        (gce_rate("n2-standard-4", "us-central1"), 3600, 19.4236),
        (gce_rate("n1-standard-1", "us-central1"), 3600, 4.749975),
        (gce_rate("e2-medium", "us-east1"), 3600, 3.350571),
        (gce_rate("c2-standard-4", "us-central1"), 3600, 20.8808),
    ],
)
def test_a_worker_costs_what_the_published_price_makes_it(
    rate: Rate | NoPrice, seconds: float, expected: float
) -> None:
    assert cents(rate, seconds) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "rate",
    [
        ec2_rate("m5.large", "us-east-1"),
        fargate_rate(1024, 4096, "us-east-1"),
        gce_rate("e2-medium", "us-east1"),
    ],
)
def test_a_cloud_bills_a_minute_at_the_least_and_the_boot_too(rate: Rate | NoPrice) -> None:
    assert cents(rate, 1) == cents(rate, 60)
    assert cents(rate, 61) > cents(rate, 60)
    assert isinstance(rate, Rate)
    assert rate.boot_paid


def test_a_rate_names_its_page_its_region_and_its_day() -> None:
    rate = ec2_rate("m5.large", "us-east-1")
    assert isinstance(rate, Rate)
    assert rate.source == (
        "Amazon EC2 On-Demand Pricing, Linux, m5.large in us-east-1, 2026-07-20 "
        "(https://aws.amazon.com/ec2/pricing/on-demand/)"
    )


@pytest.mark.parametrize(
    ("rate", "words", "option"),
    [
        (ec2_rate("m9.large", "us-east-1"), ("m9.large", "us-east-1", "2026-07-20"), "instance_type"),
        (ec2_rate("m5.9xlarge", "us-east-1"), ("m5.9xlarge",), "instance_type"),
        (ec2_rate("m5.large", "mars-north-1"), ("mars-north-1", "2026-07-20", "us-east-1"), "region"),
        (fargate_rate(1024, 2048, "mars-north-1"), ("Fargate", "mars-north-1"), "region"),
        (gce_rate("n2-standard-3", "us-central1"), ("n2-standard-3", "us-central1"), "machine_type"),
        (gce_rate("n2-custom-4-8192", "us-central1"), ("n2-custom-4-8192",), "machine_type"),
        (gce_rate("e2-medium", "mars1"), ("mars1",), "zone"),
    ],
)
def test_what_is_not_listed_has_no_price_and_it_says_what_is_missing(
    rate: Rate | NoPrice, words: tuple[str, ...], option: str
) -> None:
    assert isinstance(rate, NoPrice)
    assert rate.option == option
    for word in words:
        assert word in rate.reason


def test_every_table_says_where_its_prices_are_from_and_of_which_day() -> None:
    for table in tables():
        assert table.url.startswith(("https://aws.amazon.com/", "https://cloud.google.com/"))
        assert table.source
        assert table.currency == "USD"
        assert table.min_bill_s == 60
        for day in table.regions.values():
            assert date(2021, 1, 1) <= date.fromisoformat(day) <= date(2026, 12, 31)


def test_every_price_is_more_than_nothing_and_no_machine_costs_a_fortune() -> None:
    for table in tables():
        for number in numbers({name: one for name, one in table.prices.items() if name != "c2"}):
            assert 0 < number < 100


def test_no_region_has_two_prices() -> None:
    regions = [(table.service, region) for table in tables() for region in table.regions]
    assert len(regions) == len(set(regions))


def test_the_sizes_of_an_ec2_family_cost_in_proportion() -> None:
    for table in of("ec2"):
        for name, hourly in table.prices.items():
            family, _, size = name.partition(".")
            if family in LINEAR:
                times = LARGE.get(size) or 2 * int(size.removesuffix("xlarge"))
                base = table.prices.get(f"{family}.large", table.prices.get(f"{family}.2xlarge", 0) / 4)
                assert hourly == pytest.approx(base * times, rel=1e-3), name


def test_memory_is_cheaper_than_processors_everywhere() -> None:
    for table in (*of("gce"), *of("fargate")):
        families = table.prices.values() if table.service == "gce" else [table.prices]
        for one in families:
            assert one["gb_hour"] < one["vcpu_hour"]


def test_every_compute_engine_type_has_the_vcpus_that_its_name_says_and_a_price() -> None:
    for name, (vcpus, gigabytes) in _content()["gce_machines"].items():
        size = name.rpartition("-")[2]
        assert not size.isdecimal() or int(size) == vcpus
        assert 0.5 <= gigabytes / vcpus <= 8
        for table in of("gce"):
            assert isinstance(gce_rate(name, next(iter(table.regions))), Rate)
