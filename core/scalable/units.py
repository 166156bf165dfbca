"""Sizes and durations: parsed once, printed once.

Bare ``K``, ``M``, ``G``, ``T`` are binary, as users of Slurm and Kubernetes
mean them; ``kB``, ``MB``, ``GB``, ``TB`` are decimal; ``KiB`` and so on binary.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal

__all__ = ["format_bytes", "format_duration", "parse_bytes", "parse_duration"]

_BINARY = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "P": 2**50}
_DECIMAL = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15}
_FACTORS = _BINARY | _DECIMAL | {f"{unit}IB": size for unit, size in _BINARY.items() if unit}
_SIZE = re.compile(r"(?P<number>\d+(?:\.\d*)?|\.\d+)\s*(?P<unit>[a-zA-Z]*)", re.ASCII)

_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<head>\d+):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}))?", re.ASCII)
_WORDS = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)d)?\s*(?:(?P<h>\d+(?:\.\d+)?)h)?\s*"
    r"(?:(?P<m>\d+(?:\.\d+)?)m(?:in)?)?\s*(?:(?P<s>\d+(?:\.\d+)?)s?)?",
    re.ASCII,
)


def parse_bytes(value: str | int) -> int:
    """Return a size in bytes.

    Parameters
    ----------
    value : str or int
        ``"32G"``, ``"500MB"``, ``"1.5GiB"``, or a number of bytes.

    Raises
    ------
    ValueError
        If it is not a size, or is negative.

    Examples
    --------
    >>> parse_bytes("2G"), parse_bytes("2GB"), parse_bytes("2GiB")
    (2147483648, 2000000000, 2147483648)
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a size")
    if isinstance(value, int):
        if value < 0:
            raise ValueError(f"a size cannot be negative: {value}")
        return value
    match = _SIZE.fullmatch(value.strip())
    factor = _FACTORS.get(match["unit"].upper()) if match else None
    if match is None or factor is None:
        raise ValueError(f"{value!r} is not a size; write it like 512M, 32G or 500MB")
    return int(Decimal(match["number"]) * factor)


def format_bytes(size: int) -> str:
    """Return a size as text that :func:`parse_bytes` reads back to the same number.

    Examples
    --------
    >>> format_bytes(2**30), format_bytes(3 * 2**29), format_bytes(2_000_000_000)
    ('1G', '1536M', '2GB')
    """
    units = _BINARY | {"GB": 10**9, "MB": 10**6}
    exact = [f"{size // factor}{unit}" for unit, factor in units.items() if size and size % factor == 0]
    return min(exact or [str(size)], key=len)


def parse_duration(value: str | float) -> float:
    """Return a duration in seconds.

    Parameters
    ----------
    value : str or float
        ``90``, ``"90s"``, ``"1h30m"``, ``"02:00:00"``, ``"1-02:00:00"``, or,
        as in Slurm, ``"30:00"`` for thirty minutes.

    Raises
    ------
    ValueError
        If it is not a duration, or is negative or not finite.

    Examples
    --------
    >>> parse_duration("02:00:00"), parse_duration("1h30m"), parse_duration("1-00:00:00")
    (7200.0, 5400.0, 86400.0)
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is not a duration")
    if isinstance(value, int | float):
        if value < 0 or not math.isfinite(value):
            raise ValueError(f"{value!r} is not a duration")
        return float(value)
    text = value.strip().lower()
    if match := _CLOCK.fullmatch(text):
        return _clock_seconds(match)
    words = _WORDS.fullmatch(text)
    if words is None or not text:
        raise ValueError(f"{value!r} is not a duration; write it like 90s, 1h30m or 02:00:00")
    factors = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
    return sum(float(words[unit]) * factor for unit, factor in factors.items() if words[unit])


def _clock_seconds(match: re.Match[str]) -> float:
    head, minutes, seconds = int(match["head"]), int(match["minutes"]), match["seconds"]
    days = int(match["days"] or 0)
    if minutes > 59 or int(seconds or 0) > 59:
        raise ValueError(f"{match[0]!r} is not a duration: minutes and seconds end at 59")
    if seconds is not None:
        return days * 86_400.0 + head * 3_600.0 + minutes * 60.0 + int(seconds)
    if match["days"] is not None:
        return days * 86_400.0 + head * 3_600.0 + minutes * 60.0
    return head * 60.0 + minutes


def format_duration(seconds: float) -> str:
    """Return a duration for people.

    Examples
    --------
    >>> format_duration(12.44), format_duration(3725), format_duration(0.0123)
    ('12.4s', '1h02m05s', '12ms')
    """
    if seconds < 0.1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m{rest:02d}s" if hours else f"{minutes}m{rest:02d}s"
