"""What a measurement comes to: a figure, and the bar beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Unit = Literal["s", "bytes", "count"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar that a figure should stay below (`most`) or reach (`least`)."""

    text: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One row. Times are seconds, memory bytes; `ratio` is to the row named `against`."""

    section: str
    name: str
    unit: Unit
    median: float
    p95: float
    rounds: int
    against: str = ""
    ratio: float | None = None
    """Median of the ratios of single rounds."""
    ratio_kind: Literal["", "time", "speed"] = ""
    bars: tuple[Bar, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that this machine cannot give, and why."""

    section: str
    name: str
    reason: str


Row = Figure | Skipped


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number, the mean of the two in the middle."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` (0 to 1) of all do not exceed: nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def figure(
    section: str,
    name: str,
    values: Sequence[float],
    *,
    unit: Unit = "s",
    against: tuple[str, Sequence[float]] | None = None,
    kind: Literal["time", "speed"] = "time",
    bars: tuple[Bar, ...] = (),
    note: str = "",
) -> Figure:
    """The figure for the values of all rounds; `against` has the same rounds of another row."""
    ratio = ratio_of(values, against[1], kind) if against else None
    return Figure(
        section=section,
        name=name,
        unit=unit,
        median=median(values),
        p95=percentile(values, 0.95),
        rounds=len(values),
        against=against[0] if against else "",
        ratio=ratio,
        ratio_kind=kind if against else "",
        bars=bars,
        note=note,
    )


def ratio_of(
    values: Sequence[float], others: Sequence[float], kind: Literal["time", "speed"] = "time"
) -> float:
    """The median of the ratios round by round: noise that hits a round hits both sides of it."""
    pairs = zip(values, others, strict=True)
    if kind == "speed":
        return median([other / value for value, other in pairs])
    return median([value / other for value, other in pairs])


def at_most(value: float, most: float, text: str) -> Bar:
    """The bar that a value should not exceed."""
    return Bar(text, value <= most)


def at_least(value: float, least: float, text: str) -> Bar:
    """The bar that a value should reach."""
    return Bar(text, value >= least)


def as_json(row: Row) -> dict[str, object]:
    """A row as JSON-ready data."""
    if isinstance(row, Skipped):
        return {"section": row.section, "name": row.name, "skipped": row.reason}
    fields: dict[str, object] = {
        "section": row.section,
        "name": row.name,
        "unit": row.unit,
        "median": row.median,
        "p95": row.p95,
        "rounds": row.rounds,
    }
    if row.ratio is not None:
        fields |= {"against": row.against, "ratio": row.ratio, "ratio_kind": row.ratio_kind}
    if row.bars:
        fields["bars"] = [{"bar": bar.text, "met": bar.met} for bar in row.bars]
    return fields | ({"note": row.note} if row.note else {})
