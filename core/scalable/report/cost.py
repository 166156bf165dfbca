"""What a run costs: as it wrote down itself, else counted from the workers that came and went."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from scalable.pricing.meter import base_rate, replayed
from scalable.report import queries
from scalable.report.model import CostUse, PoolCost
from scalable.telemetry.cost import PoolPaid, PoolPrice, read_costs
from scalable.telemetry.history import RunHistory
from scalable.telemetry.tables import Tables

__all__ = ["cost_of"]


@dataclass(frozen=True, slots=True)
class _Coming:
    event: str
    at: float
    worker: str
    tag: str | None
    startup_s: float | None
    paid_from: float | None


def cost_of(history: RunHistory, tables: Tables, ended_at: float) -> CostUse | None:
    """Return what a run costs; ``None`` if its records say nothing of money.

    Parameters
    ----------
    history : RunHistory
        The run.
    tables : Tables
        Its records.
    ended_at : float
        Unix seconds up to which workers that are still there are counted.

    Raises
    ------
    ScalableError
        If a file cannot be read.
    """
    costs = read_costs(history.path)
    if not costs.prices and not costs.paid:
        return None if history.estimated is None else CostUse(None, False, history.estimated, ())
    paid = tuple(costs.paid.values()) or _counted(costs.prices.values(), tables, ended_at)
    amounts = [one.usd for one in paid]
    total = None if None in amounts else sum(usd for usd in amounts if usd is not None)
    pools = tuple(_pool(one, base_rate(costs.prices, one.tag)) for one in paid)
    return CostUse(total, bool(costs.paid), history.estimated, pools)


def _counted(prices: Iterable[PoolPrice], tables: Tables, until: float) -> tuple[PoolPaid, ...]:
    meter = replayed(prices)
    for coming in tables.ask(queries.COMINGS, _Coming):
        meter.take(asdict(coming))
    return meter.totals(until)


def _pool(paid: PoolPaid, price: PoolPrice | None) -> PoolCost:
    cpus, source = (1.0, "") if price is None else (price.cpus, price.source)
    return PoolCost(paid.tag, paid.workers, paid.paid_s, paid.paid_s * cpus, paid.usd, source)
