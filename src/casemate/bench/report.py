"""The figures as a table on a terminal and as a page with bars."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence

from casemate.bench.figures import Figure, Row, Skipped
from casemate.cli.style import Style

HEAD = ("", "MEDIAN", "P95", "RATIO", "BAR")


def lines(rows: Sequence[Row], machine: Mapping[str, object], style: Style) -> Iterator[str]:
    """The report for people."""
    yield style.paint("; ".join(f"{key}: {value}" for key, value in machine.items()), "dim")
    section = ""
    cells = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    yield style.paint(_line(HEAD, widths), "bold")
    for row, cell in zip(rows, cells[1:], strict=True):
        if row.section != section:
            section = row.section
            yield style.paint(section, "bold")
        line = _line(cell, widths)
        if isinstance(row, Skipped):
            yield style.paint(line, "dim")
        elif row.bars:
            yield style.paint(line, "green" if all(bar.met for bar in row.bars) else "yellow")
        else:
            yield line


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first = cells[0].ljust(widths[0])
    numbers = [cell.rjust(width) for cell, width in zip(cells[1:4], widths[1:4], strict=True)]
    return "  ".join((first, *numbers, cells[4])).rstrip()


def _cells(row: Row) -> tuple[str, str, str, str, str]:
    if isinstance(row, Skipped):
        return f"  {row.name}", "-", "-", "", row.reason
    ratio = f"{row.ratio:.2f}x" if row.ratio is not None else ""
    if row.ratio_kind == "speed":
        ratio += " speed"
    bars = ", ".join(f"{bar.text}: {'met' if bar.met else 'NOT MET'}" for bar in row.bars)
    p95 = quantity(row.p95, row) if row.rounds > 1 else ""
    return f"  {row.name}", quantity(row.median, row), p95, ratio, bars or row.note


def quantity(value: float, row: Figure) -> str:
    """A value with a unit that suits its size."""
    if row.unit == "bytes":
        return f"{value / 1024:.0f} KiB"
    if row.unit == "count":
        return f"{value:.0f}"
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.2f} ms"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100% } td, th { padding: .2rem .6rem; text-align: left }
td.number { text-align: right; white-space: nowrap } th { border-bottom: 1px solid #8888 }
.plot { width: 30% } .plot div { background: #4a7; height: .8rem; border-right: 2px solid #286 }
.missed { color: #b40 } .met { color: #283 } :root { color-scheme: light dark }
"""


def page(rows: Sequence[Row], machine: Mapping[str, object]) -> str:
    """The report as an HTML page that needs nothing else; a bar is as long as the median."""
    parts = ["<!doctype html><meta charset=utf-8><title>casemate bench</title>"]
    parts += [f"<style>{STYLE}</style><h1>casemate bench</h1><p>"]
    parts += [html.escape("; ".join(f"{key}: {value}" for key, value in machine.items()))]
    for section in dict.fromkeys(row.section for row in rows):
        parts.append(f"<h2>{html.escape(section)}</h2><table><tr>")
        parts += [f"<th>{heading}" for heading in ("", "", "median", "p95", "ratio", "bar")]
        own = [row for row in rows if row.section == section]
        longest = max(
            (row.median for row in own if isinstance(row, Figure) and row.unit == "s"), default=0
        )
        parts += [_page_row(row, longest) for row in own]
        parts.append("</table>")
    return "\n".join(parts) + "\n"


def _page_row(row: Row, longest: float) -> str:
    name, middle, p95, ratio, bar = (html.escape(cell.strip()) for cell in _cells(row))
    plot, verdict = "", ""
    if isinstance(row, Figure):
        if row.unit == "s" and longest:
            plot = f"<div style='width:{max(0.5, 100 * row.median / longest):.1f}%'></div>"
        if row.bars:
            verdict = "met" if all(bar.met for bar in row.bars) else "missed"
    numbers = "".join(f"<td class=number>{cell}" for cell in (middle, p95, ratio))
    return f"<tr><td>{name}<td class=plot>{plot}{numbers}<td class='{verdict}'>{bar}"
