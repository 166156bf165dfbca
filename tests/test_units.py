"""Sizes and durations are read as users mean them, and what is printed reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalable.units import format_bytes, format_duration, parse_bytes, parse_duration


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2K", 2 * 2**10), ("2M", 2 * 2**20), ("32G", 32 * 2**30), ("1T", 2**40), ("1P", 2**50),
        ("2kB", 2000), ("500MB", 500_000_000), ("2GB", 2_000_000_000), ("1TB", 10**12),
        ("2KiB", 2048), ("1.5GiB", 3 * 2**29), ("1.5G", 3 * 2**29), (" 4 G ", 4 * 2**30), ("8g", 8 * 2**30),
        ("12", 12), (12, 12), ("0", 0), (".5K", 512), ("7B", 7),
    ],
)  # fmt: skip
def test_a_size_is_binary_unless_its_unit_ends_in_b(text: str | int, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "G", "8X", "8GG", "-1G", -1, True, "1e3", "1,5G", "٣G", "8 G B", "Infinity"])
def test_what_is_no_size_is_refused(text: str | int) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@given(st.integers(0, 2**62))
def test_a_size_that_is_printed_reads_back(size: int) -> None:
    assert parse_bytes(format_bytes(size)) == size


@given(st.integers(1, 1023), st.sampled_from("KMGT"))
def test_a_size_in_one_unit_is_printed_in_it(number: int, unit: str) -> None:
    assert format_bytes(parse_bytes(f"{number}{unit}")) == f"{number}{unit}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90), (1.5, 1.5), ("90", 90), ("90s", 90), ("1h30m", 5400), ("1h 30m", 5400), ("2h", 7200), ("5min", 300),
        ("1d", 86400), ("1.5h", 5400), ("02:00:00", 7200), ("100:00:00", 360_000), ("1-02:00:00", 93_600),
        ("1-02:00", 93_600), ("30:00", 1800), (0, 0),
    ],
)  # fmt: skip
def test_a_duration_is_read_as_schedulers_and_people_write_it(text: str | float, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "soon", "1h30x", "-1", -1, True, float("inf"), float("nan"), "1:60", "1:00:60", "1:2:3:4", "m", "٣s"]
)
def test_what_is_no_duration_is_refused(text: str | float) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)


@given(st.integers(0, 40), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_all_ways_to_write_a_duration_agree(days: int, hours: int, minutes: int, seconds: int) -> None:
    total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    assert parse_duration(f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}") == total
    assert parse_duration(f"{days}d{hours}h{minutes}m{seconds}s") == total
    assert parse_duration(f"{days * 24 + hours}:{minutes:02d}:{seconds:02d}") == total
    assert parse_duration(total) == parse_duration(str(total)) == total


@given(st.floats(60, 1e8))
def test_a_duration_that_is_printed_reads_back_to_the_second(seconds: float) -> None:
    assert abs(parse_duration(format_duration(seconds)) - seconds) <= 0.5


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0123, "12ms"), (0.5, "0.5s"), (12.44, "12.4s"), (59.96, "1m00s"), (3725, "1h02m05s"), (0, "0ms")],
)
def test_a_duration_is_printed_for_people(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
