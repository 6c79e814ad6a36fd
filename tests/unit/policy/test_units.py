"""Sizes and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import PolicyError
from casemate.policy.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GiB", 2 << 30), ("1.5 MB", 1_500_000), ("10kB", 10_000), ("200_000B", 200_000)],
)
def test_sizes(text: str, size: int) -> None:
    """Decimal and binary units are told apart."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "hint"),
    [("2G", "2GiB"), ("2gb", "2GiB"), ("5", "units"), ("-1MB", "512MiB"), ("1e9TB", "512MiB")]
    + [("MB", "512MiB"), ("9" * 40 + "TB", ""), ("１MB", "512MiB")],
)
def test_wrong_sizes(text: str, hint: str) -> None:
    """An ambiguous or impossible size is refused with the right spelling."""
    with pytest.raises(PolicyError) as caught:
        parse_size(text)

    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("2h", 7200), ("1h30m", 5400), ("250ms", 0.25), ("1d", 86400)],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations add up their parts."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "2 hours", "h", "-1s", "1h 30m"])
def test_wrong_durations(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(PolicyError):
        parse_duration(text)


@given(st.integers(0, 1 << 60))
def test_sizes_read_back(size: int) -> None:
    """`format_size` is exact."""
    assert parse_size(format_size(size)) == size


@given(st.integers(0, 10**10))
def test_durations_read_back(milliseconds: int) -> None:
    """`format_duration` is exact to the millisecond."""
    assert round(parse_duration(format_duration(milliseconds / 1000)) * 1000) == milliseconds
