"""What a run has cost so far: paid worker time, from workers that come and go."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from scalable.pricing.rate import GIB, Rate
from scalable.telemetry.cost import FILE, PoolPaid, PoolPrice
from scalable.telemetry.recorder import Recorder

__all__ = ["Meter", "base_rate", "replayed"]

_T = TypeVar("_T", Rate, PoolPrice)


class _Pool:
    """Paid worker-seconds of one pool.

    Workers that are younger than what is billed at the least count as that old; the others are
    a number and the sum of their starts, so that a question costs nothing for each.
    """

    def __init__(self, min_bill_s: float) -> None:
        self.min_bill_s = min_bill_s
        self.ended_s = 0.0
        self._started: dict[str, float] = {}
        self._ended: dict[str, tuple[float, float]] = {}
        self._young: list[tuple[float, str]] = []
        self._grown: set[str] = set()
        self._grown_starts = 0.0

    @property
    def workers(self) -> int:
        return len(self._started) + len(self._ended)

    def start(self, name: str, at: float) -> None:
        if name in self._started:
            return
        if name in self._ended:
            # A worker that comes back is on the machine that it was on.
            at, paid_s = self._ended.pop(name)
            self.ended_s -= paid_s
        self._started[name] = at
        heapq.heappush(self._young, (at, name))

    def end(self, name: str, at: float) -> None:
        start = self._started.pop(name, None)
        if start is None:
            return
        if name in self._grown:
            self._grown.remove(name)
            self._grown_starts -= start
        paid_s = max(at - start, self.min_bill_s)
        self.ended_s += paid_s
        self._ended[name] = (start, paid_s)

    def paid_s(self, now: float) -> float:
        while self._young and self._young[0][0] + self.min_bill_s <= now:
            start, name = heapq.heappop(self._young)
            if self._started.get(name) == start and name not in self._grown:
                self._grown.add(name)
                self._grown_starts += start
        grown, young = len(self._grown), len(self._started) - len(self._grown)
        return self.ended_s + grown * now - self._grown_starts + young * self.min_bill_s


class Meter:
    """Paid worker time of a run, and what it costs.

    Times are unix seconds. Whoever sees workers come and go says so, or hands over the records
    of ``workers.jsonl`` (:meth:`take`), from which the same can be counted when the run is gone.
    A question costs the same for one worker as for thousands.

    Parameters
    ----------
    rates : mapping of str to Rate
        What a worker of each pool costs; pools without a price are not in it. An enlarged pool
        costs what the pool does that it was made from, and its memory besides where that is
        in the price.

    Examples
    --------
    >>> meter = Meter({"simulate": Rate(0.36 / 3600, min_bill_s=60)})
    >>> meter.worker_started("simulate", "simulate-0", at=0)
    >>> round(meter.spent_usd(now=1800), 4)
    0.18
    >>> meter.worker_ended("simulate", "simulate-0", at=3600)
    >>> round(meter.spent_usd(now=7200), 4), meter.paid_s("simulate", now=7200)
    (0.36, 3600.0)
    """

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self._rates = dict(rates)
        self._pools: dict[str, _Pool] = {}
        # Sums of what lies far in the past would lose the small change.
        self._since: float | None = None

    def worker_started(self, pool: str, name: str, at: float) -> None:
        """Note that a worker is paid for from now on; repeated, it changes nothing."""
        if self._since is None:
            self._since = at
        self._of(pool).start(name, at - self._since)

    def worker_ended(self, pool: str, name: str, at: float) -> None:
        """Note that a worker is not paid for any more; one that is not known changes nothing."""
        if self._since is not None:
            self._of(pool).end(name, at - self._since)

    def take(self, record: Mapping[str, Any]) -> None:
        """Note what a line of ``workers.jsonl`` says: a worker has come, or is gone.

        It is paid for since ``paid_from``, if somebody said so, else since it was asked for where
        its boot is paid, else since it is up.
        """
        name, at = record.get("worker"), record.get("at")
        if name is None or at is None:
            return
        pool = record.get("tag") or name.rpartition("-")[0]
        if record.get("event") == "worker_removed":
            self.worker_ended(pool, name, at)
        elif record.get("event") == "worker_added":
            rate = self._rate(pool)
            boot_s = (record.get("startup_s") or 0.0) if rate is not None and rate.boot_paid else 0.0
            self.worker_started(pool, name, record.get("paid_from") or at - boot_s)

    def paid_s(self, pool: str, now: float) -> float:
        """Return the worker-seconds of a pool that are paid for."""
        found = self._pools.get(pool)
        return 0.0 if found is None or self._since is None else found.paid_s(now - self._since)

    @property
    def unpriced(self) -> tuple[str, ...]:
        """Pools that had workers, and whose price is not known."""
        return tuple(name for name in self._pools if self._rate(name) is None)

    def spent_usd(self, now: float) -> float:
        """Return the US dollars of all pools whose price is known; :attr:`unpriced` are not in it."""
        rates = ((name, self._rate(name)) for name in self._pools)
        return sum(rate.usd_per_s * self.paid_s(name, now) for name, rate in rates if rate is not None)

    def totals(self, now: float) -> tuple[PoolPaid, ...]:
        """Return what was paid for each pool that had workers."""
        return tuple(self._paid(name, pool, now) for name, pool in self._pools.items())

    def _paid(self, name: str, pool: _Pool, now: float) -> PoolPaid:
        rate, paid_s = self._rate(name), self.paid_s(name, now)
        return PoolPaid(name, pool.workers, paid_s, None if rate is None else rate.usd_per_s * paid_s)

    def record_prices(self, recorder: Recorder, cpus: Mapping[str, float]) -> None:
        """Write down what the workers of each pool cost, for those who read the run when it was killed.

        Parameters
        ----------
        recorder : Recorder
            Of the run.
        cpus : mapping of str to float
            Cores of a worker, of every pool that there is, with a price or without.
        """
        for pool, cores in cpus.items():
            recorder.append(FILE, _price_of(pool, self._rate(pool), cores).record(time.time()))

    def record_totals(self, recorder: Recorder) -> None:
        """Write down what was paid; once, when all workers are gone."""
        now = time.time()
        for one in self.totals(now):
            recorder.append(FILE, one.record(now))

    def _rate(self, pool: str) -> Rate | None:
        return base_rate(self._rates, pool)

    def _of(self, pool: str) -> _Pool:
        found = self._pools.get(pool)
        if found is None:
            rate = self._rate(pool)
            found = self._pools[pool] = _Pool(0.0 if rate is None else rate.min_bill_s)
        return found


def base_rate(rates: Mapping[str, _T], pool: str) -> _T | None:
    """Return what is said of a pool, or of the one that it was enlarged from, with the memory that it has besides.

    The name of an enlarged pool ends in ``+`` and how many times 2**20 bytes of memory it has more.
    """
    family, _, mebibytes = pool.partition("+")
    said = rates.get(pool) or rates.get(family)
    if said is None or pool in rates or not said.usd_per_gb_h or not mebibytes.isdecimal():
        return said
    more = int(mebibytes) * 2**20 / GIB * said.usd_per_gb_h / 3600
    return replace(said, usd_per_s=(said.usd_per_s or 0.0) + more)


def _price_of(pool: str, rate: Rate | None, cpus: float) -> PoolPrice:
    """Return a pool's price as it is recorded."""
    if rate is None:
        return PoolPrice(pool, cpus=cpus)
    return PoolPrice(pool, rate.usd_per_s, rate.min_bill_s, rate.boot_paid, rate.usd_per_gb_h, cpus, rate.source)


def replayed(prices: Iterable[PoolPrice]) -> Meter:
    """Return a meter with the recorded prices of a run, to be handed that run's records."""
    return Meter(
        {
            one.tag: Rate(one.usd_per_s, one.min_bill_s, one.source, one.boot_paid, one.usd_per_gb_h)
            for one in prices
            if one.usd_per_s is not None
        }
    )
