"""What a run's ``cost.jsonl`` says: the price of each pool when it began, what was paid when it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from scalable.errors import ScalableError

__all__ = ["FILE", "Costs", "PoolPaid", "PoolPrice", "read_costs"]

FILE: Final = "cost"
"""The records' file, as :meth:`scalable.telemetry.recorder.Recorder.append` calls it."""


@dataclass(frozen=True, slots=True)
class PoolPrice:
    """What the workers of a pool cost.

    Attributes
    ----------
    tag : str
        The pool.
    usd_per_s : float or None
        US dollars of a worker-second; ``None`` if no price is known.
    min_bill_s : float
        Seconds that each worker is paid for at the least.
    boot_paid : bool
        Whether a worker is paid for since it was asked for, and not only since it is up.
    usd_per_gb_h : float
        US dollars of an hour of 2**30 bytes of memory; 0 where memory does not change the price.
    cpus : float
        Cores of a worker.
    source : str
        Where the price is from, and of which date.
    """

    tag: str
    usd_per_s: FiniteFloat | None = None
    min_bill_s: FiniteFloat = 0.0
    boot_paid: bool = False
    usd_per_gb_h: FiniteFloat = 0.0
    cpus: FiniteFloat = 1.0
    source: str = ""

    def record(self, at: float) -> dict[str, Any]:
        """Return the line that says so; ``at`` in unix seconds."""
        return {"event": "price", "at": at, **asdict(self)}


@dataclass(frozen=True, slots=True)
class PoolPaid:
    """What was paid for the workers of a pool.

    Attributes
    ----------
    tag : str
        The pool.
    workers : int
        How many there were.
    paid_s : float
        Worker-seconds that are paid for.
    usd : float or None
        US dollars; ``None`` if no price is known.
    """

    tag: str
    workers: int
    paid_s: FiniteFloat
    usd: FiniteFloat | None = None

    def record(self, at: float) -> dict[str, Any]:
        """Return the line that says so; ``at`` in unix seconds."""
        return {"event": "paid", "at": at, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Costs:
    """What a run's records say of money, by pool; ``paid`` is empty while the run goes on, and after a kill."""

    prices: Mapping[str, PoolPrice]
    paid: Mapping[str, PoolPaid]


@dataclass(frozen=True, slots=True)
class _Event:
    event: str


_EVENT: Final = TypeAdapter(_Event)
_PRICE: Final = TypeAdapter(PoolPrice)
_PAID: Final = TypeAdapter(PoolPaid)


def read_costs(run_dir: Path) -> Costs:
    """Return what a run's records say of money.

    Parameters
    ----------
    run_dir : Path
        The run's directory; without ``cost.jsonl``, as runs of older versions are, it says nothing.

    Raises
    ------
    ScalableError
        If the file is there and cannot be read. A line that cannot be understood, such as one
        that a kill tore, is left out.
    """
    path = run_dir / f"{FILE}.jsonl"
    prices: dict[str, PoolPrice] = {}
    paid: dict[str, PoolPaid] = {}
    try:
        lines = path.read_bytes().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return Costs(prices, paid)
    except OSError as error:
        raise ScalableError(f"cannot read {path}: {error.strerror}") from error
    for line in lines:
        try:
            event = _EVENT.validate_json(line).event
            if event == "price":
                price = _PRICE.validate_json(line)
                prices[price.tag] = price
            elif event == "paid":
                bill = _PAID.validate_json(line)
                paid[bill.tag] = bill
        except ValidationError:
            continue
    return Costs(prices, paid)
