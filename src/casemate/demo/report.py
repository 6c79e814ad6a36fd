"""The demonstration in words: a table, a diff, a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from casemate.demo.attempts import Outcome
from casemate.demo.play import Result, Row
from casemate.workspace.names import display_line

RED, GREEN, YELLOW, CYAN, BOLD, DIM, PLAIN = "31", "32", "33", "36", "1", "2", ""
DIFF_LINES, PATHS = 120, 20
"""How many lines of the diff, and how many paths of a kind, are shown."""

HEADINGS = ("ATTEMPT", "WITHOUT CASEMATE", "INSIDE", "REFUSED BY")


class Paint:
    """Colours text, or leaves it as it is."""

    def __init__(self, colours: bool) -> None:
        self.colours = colours

    def __call__(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colours and colour else text


def lines(result: Result, paint: Paint) -> Iterator[str]:
    """The whole report."""
    yield from _work(result, paint)
    yield ""
    yield from table(result.rows, paint)
    yield ""
    yield from _edit(result, paint)
    yield ""
    yield from verdict(result, paint)


def _work(result: Result, paint: Paint) -> Iterator[str]:
    yield paint("Work", BOLD)
    for path in result.edited:
        yield f"  edited  {display_line(path.encode())}"
    if result.problem:
        yield paint(f"  no edit: {display_line(result.problem.encode())}", RED)
    tests = result.tests
    if tests is None:
        yield "  tests   none found in this project"
        return
    ended = [line for line in tests.text.splitlines() if line.strip()]
    if tests.status == 0:
        shown = ended[-2:] if result.project.own else ended[-1:]
        summary = ", ".join(shown) if shown else "passed"
        yield f"  tests   {result.project.tests_name}: {display_line(summary.encode())}"
        return
    yield paint(f"  tests   {result.project.tests_name}: exit status {tests.status}", RED)
    for line in ended[-8:]:
        yield paint(f"          {display_line(line.encode())}", DIM)


def table(rows: list[Row], paint: Paint) -> Iterator[str]:
    """The attempts, one a line, with a line before each group."""
    cells = [(r.attempt.title, _without(r), _inside(r.inside), r.wall) for r in rows]
    widths = [max(map(len, column)) for column in zip(HEADINGS, *cells, strict=True)]
    yield paint("  ".join(h.ljust(w) for h, w in zip(HEADINGS, widths, strict=True)).rstrip(), BOLD)
    group = ""
    for row, cell in zip(rows, cells, strict=True):
        if row.attempt.group != group:
            group = row.attempt.group
            yield paint(group, DIM)
        padded = [text.ljust(width) for text, width in zip(cell, widths, strict=True)]
        danger = YELLOW if row.without.succeeded else PLAIN
        colours = (PLAIN, danger, GREEN if row.held else f"{BOLD};{RED}", DIM)
        painted = (paint(text, colour) for text, colour in zip(padded, colours, strict=True))
        yield "  ".join(painted).rstrip()


def _without(row: Row) -> str:
    if row.without.succeeded is False and row.attempt.closed_here:
        return f"refused here too: {row.without.detail}"
    return _outcome(row.without)


def _inside(outcome: Outcome) -> str:
    return "SUCCEEDED" if outcome.succeeded else _outcome(outcome)


def _outcome(outcome: Outcome) -> str:
    detail = display_line(outcome.detail.encode())
    if outcome.succeeded is None:
        return f"NOT SHOWN: {detail[:40]}"
    return f"refused: {detail}" if outcome.errno else detail


def _edit(result: Result, paint: Paint) -> Iterator[str]:
    yield paint("The edit, as reviewed", BOLD)
    for line in _first(result.diff, DIFF_LINES):
        colour = {"+": GREEN, "-": RED, "@": CYAN}.get(line[:1], PLAIN)
        yield "  " + paint(line, BOLD if line.startswith(("+++", "---")) else colour)
    yield ""
    yield paint(f"Applied {len(result.applied)}", BOLD)
    for path in _first(result.applied, PATHS):
        yield "  " + paint(path, GREEN)
    yield paint(f"Held back {len(result.held)} until named", BOLD)
    for held in _first([f"{paint(path, YELLOW)}: {reason}" for path, reason in result.held], PATHS):
        yield "  " + held


def _first(found: Sequence[str], count: int) -> Iterator[str]:
    yield from found[:count]
    if len(found) > count:
        yield f"and {len(found) - count} more"


def verdict(result: Result, paint: Paint) -> Iterator[str]:
    """What it comes to, in a line or a few."""
    held = [row for row in result.rows if row.held]
    shown = [row for row in result.rows if row.without.succeeded]
    total = len(result.rows)
    yield f"{len(shown)} of {total} attempts succeeded without casemate, {total - len(held)} inside"
    if result.passed:
        yield paint("Every attempt was refused, and the edit was applied.", GREEN)
        return
    for row in result.rows:
        if row.inside.succeeded:
            yield paint(f"got through: {row.attempt.title}", RED)
        elif not row.held:
            yield paint(f"not shown: {row.attempt.title}", RED)
    if result.tests is not None and result.tests.status != 0:
        yield paint("the project's tests did not pass inside", RED)
    if not result.edit_applied:
        yield paint("the edit was not applied", RED)
