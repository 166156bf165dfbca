"""What a worker costs, and why that may not be known."""

from __future__ import annotations

from dataclasses import dataclass

from scalable.spec import PriceRates, ResourceRequest

__all__ = ["GIB", "NOT_PAID", "NoPrice", "Rate", "user_rate"]

GIB = 2**30
"""Bytes of a gigabyte as clouds bill it, and as manifests mean ``G``."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a worker of one pool costs.

    Attributes
    ----------
    usd_per_s : float
        US dollars of a worker-second; 0 where nothing is paid.
    min_bill_s : float
        Seconds that each worker is paid for at the least.
    source : str
        Where the price is from, and of which date.
    boot_paid : bool
        Whether a worker is paid for since it was asked for, and not only since it is up.
    usd_per_gb_h : float
        US dollars of an hour of 2**30 bytes of memory that are in the price; 0 where the
        size of the memory does not change it.

    Examples
    --------
    >>> hourly = Rate(usd_per_s=0.36 / 3600, min_bill_s=60)
    >>> round(hourly.usd(1800), 4), round(hourly.usd(1), 4)
    (0.18, 0.006)
    """

    usd_per_s: float
    min_bill_s: float = 0.0
    source: str = ""
    boot_paid: bool = False
    usd_per_gb_h: float = 0.0

    def paid_s(self, there_s: float) -> float:
        """Return the seconds that are paid for a worker that was there for ``there_s`` seconds."""
        return max(there_s, self.min_bill_s)

    def usd(self, there_s: float) -> float:
        """Return the US dollars of a worker that was there for ``there_s`` seconds."""
        return self.usd_per_s * self.paid_s(there_s)


NOT_PAID = Rate(0.0, source="this machine")
"""The rate of workers for which nobody sends a bill."""


@dataclass(frozen=True, slots=True)
class NoPrice:
    """Why no price is known.

    Attributes
    ----------
    reason : str
        What is not known, such as the type and the region, and the date of the table.
    option : str
        Option of the target that it hangs on; empty if on none.
    """

    reason: str
    option: str = ""


def user_rate(price: PriceRates, resources: ResourceRequest, *, boot_paid: bool = False) -> Rate | NoPrice:
    """Return what a worker costs as the manifest says.

    Parameters
    ----------
    price : PriceRates
        The target's rates; what a worker costs is their sum.
    resources : ResourceRequest
        What one worker is given.
    boot_paid : bool
        Whether a worker is paid for since it was asked for.

    Examples
    --------
    >>> user_rate(PriceRates(core_hour_usd=0.02), ResourceRequest(cpus=4)).usd(3600)
    0.08
    """
    if price.gb_hour_usd is not None and resources.memory_bytes is None:
        return NoPrice("`gb_hour` needs the component's `memory`, which it does not say", "price")
    amounts = {
        "core_hour": (price.core_hour_usd, resources.cpus),
        "gb_hour": (price.gb_hour_usd, (resources.memory_bytes or 0) / GIB),
        "gpu_hour": (price.gpu_hour_usd, resources.gpus),
        "worker_hour": (price.worker_hour_usd, 1),
    }
    given = {name: usd for name, (usd, _) in amounts.items() if usd is not None}
    hourly = sum(usd * amount for usd, amount in amounts.values() if usd is not None)
    source = f"price in the manifest: {', '.join(f'{name} {usd:g}' for name, usd in given.items())}"
    return Rate(hourly / 3600, price.minimum_s, source, boot_paid, price.gb_hour_usd or 0.0)
