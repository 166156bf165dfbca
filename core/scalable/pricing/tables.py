"""List prices of clouds, as they were on a day: packaged with their source, never asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from scalable.pricing.rate import GIB, NoPrice, Rate

__all__ = ["PRICES", "Service", "Table", "ec2_rate", "fargate_rate", "gce_rate", "tables"]

PRICES = Path(__file__).with_name("prices.json")
"""The tables as they are shipped.

``regions`` has the day on which the prices are known to have held there. ``ec2``: US dollars of
an hour of a machine. ``fargate``: of an hour of a vCPU and of 2**30 bytes. ``gce``: the same by
family; c2 has one shape only, whose memory is in the price of the vCPUs. ``gce_machines``: vCPUs
and gigabytes (2**30 bytes) of each predefined type.
"""

Service = Literal["ec2", "fargate", "gce"]


@dataclass(frozen=True, slots=True)
class Table:
    """Prices of one service in regions where they are the same.

    Attributes
    ----------
    service : str
        ``ec2``, ``fargate`` or ``gce``.
    source, url : str
        The page where the prices are published.
    currency : str
        ``USD``.
    min_bill_s : float
        Seconds that are paid for at the least.
    regions : mapping of str to str
        Region to the day, as ``YYYY-MM-DD``, for which the prices stand.
    prices : mapping
        As :data:`PRICES` says.
    """

    service: Service
    source: str
    url: str
    currency: str
    min_bill_s: float
    regions: Mapping[str, str]
    prices: Mapping[str, Any]

    def rate(self, region: str, hourly: float, what: str, usd_per_gb_h: float = 0.0) -> Rate:
        """Return a rate that says where it is from."""
        source = f"{self.source}, {what} in {region}, {self.regions[region]} ({self.url})"
        return Rate(hourly / 3600, self.min_bill_s, source, boot_paid=True, usd_per_gb_h=usd_per_gb_h)


@cache
def _content() -> Mapping[str, Any]:
    content: dict[str, Any] = json.loads(PRICES.read_text(encoding="utf-8"))
    return content


@cache
def tables() -> tuple[Table, ...]:
    """Return all tables."""
    return tuple(Table(**one) for one in _content()["tables"])


def ec2_rate(instance_type: str, region: str) -> Rate | NoPrice:
    """Return what an EC2 machine with Linux costs on demand.

    Parameters
    ----------
    instance_type : str
        Such as ``'m5.large'``.
    region : str
        Such as ``'us-east-1'``.

    Examples
    --------
    >>> round(ec2_rate("m5.large", "us-east-1").usd(3600), 6)
    0.096
    """
    table = _table("ec2", region)
    if isinstance(table, NoPrice):
        return table
    hourly = table.prices.get(instance_type)
    if hourly is None:
        return _unlisted(table, instance_type, region, "instance_type")
    return table.rate(region, hourly, instance_type)


def fargate_rate(cpu_units: int, memory_mib: int, region: str) -> Rate | NoPrice:
    """Return what a Fargate task with Linux on x86 costs on demand.

    Parameters
    ----------
    cpu_units : int
        1024 are one vCPU.
    memory_mib : int
        MiB.
    region : str
        Such as ``'us-east-1'``.
    """
    table = _table("fargate", region)
    if isinstance(table, NoPrice):
        return table
    vcpu, gigabyte = table.prices["vcpu_hour"], table.prices["gb_hour"]
    vcpus, gigabytes = cpu_units / 1024, memory_mib * 2**20 / GIB
    what = f"{vcpus:g} vCPU and {gigabytes:g} GB"
    return table.rate(region, vcpus * vcpu + gigabytes * gigabyte, what, usd_per_gb_h=gigabyte)


def gce_rate(machine_type: str, region: str) -> Rate | NoPrice:
    """Return what a Compute Engine machine of a predefined type costs on demand.

    Parameters
    ----------
    machine_type : str
        Such as ``'n2-standard-4'``.
    region : str
        Such as ``'us-central1'``.
    """
    table = _table("gce", region)
    if isinstance(table, NoPrice):
        return table
    size = _content()["gce_machines"].get(machine_type)
    family = table.prices.get(machine_type.partition("-")[0])
    if size is None or family is None:
        return _unlisted(table, machine_type, region, "machine_type")
    vcpus, gigabytes = size
    return table.rate(region, vcpus * family["vcpu_hour"] + gigabytes * family["gb_hour"], machine_type)


def _table(service: Service, region: str) -> Table | NoPrice:
    of_service = [one for one in tables() if one.service == service]
    for table in of_service:
        if region in table.regions:
            return table
    regions = ", ".join(sorted(_regions(of_service)))
    date = max(day for one in of_service for day in one.regions.values())
    return NoPrice(
        f"the table of {of_service[0].source} ({date}) has no region {region}; it has {regions}",
        "zone" if service == "gce" else "region",
    )


def _regions(found: list[Table]) -> Iterator[str]:
    for one in found:
        yield from one.regions


def _unlisted(table: Table, what: str, region: str, option: str) -> NoPrice:
    return NoPrice(f"the table of {table.source} for {region} ({table.regions[region]}) has no {what}", option)
