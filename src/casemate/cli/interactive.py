"""`casemate apply --interactive`: change by change, yes or no.

What is decided about is a unit: one file, link or mode, or one deleted directory with all it held.
New directories are not asked about; they come with what lies in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casemate.cli import listing
from casemate.cli.asking import ask
from casemate.cli.diff import coloured
from casemate.cli.style import Style, count
from casemate.sdk import patch
from casemate.workspace import flags
from casemate.workspace.changes import Change, Key
from casemate.workspace.names import is_beneath
from casemate.workspace.review import Review
from casemate.workspace.selection import ApplyPlan, Selection

HELP = """\
y - apply it
n - leave it with the session
a - apply it and all that follow; flagged ones are still asked about
d - leave it and all that follow
q - stop and apply nothing at all
? - this help"""

SHOWN = 200
"""Lines of one change shown before the question."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one question is about: a change, and those it covers."""

    change: Change
    covered: tuple[Change, ...] = ()


def units(changes: Sequence[Change]) -> list[Unit]:
    """What to ask about, in order."""
    deleted = [change for change in changes if change.kind == "directory-deleted"]
    tops = [
        change
        for change in deleted
        if not any(_inside(change, other) for other in deleted if other.key != change.key)
    ]
    found = []
    for change in listing.visible(changes):
        if any(_inside(change, top) for top in tops if top.key != change.key):
            continue
        covered: tuple[Change, ...] = ()
        if change in tops:
            covered = tuple(c for c in changes if c.key != change.key and _inside(c, change))
        found.append(Unit(change, covered))
    return found


def _inside(change: Change, directory: Change) -> bool:
    return change.root == directory.root and is_beneath(change.path, directory.path)


def decide(style: Style, review: Review, plan: ApplyPlan, selection: Selection) -> Selection | None:
    """What the person wants of a plan, as a selection; None if nothing."""
    nameable = [held.change for held in plan.held if held.nameable]
    asked = units(sorted((*plan.chosen, *nameable), key=lambda change: change.key))
    taken: list[Key] = []
    refused: list[Key] = []
    force = list(selection.force)
    rest = ""
    for number, unit in enumerate(asked, 1):
        answer = rest
        if not rest or (rest == "y" and unit.change.flags & flags.ASKED):
            answer = _question(style, review, unit, f"{number}/{len(asked)}")
        if answer == "q":
            return None
        if answer in ("a", "d"):
            rest = answer = "y" if answer == "a" else "n"
        if answer == "y":
            # A yes to a directory names no hidden or protected file in it: those stay, and it too.
            covered = (c.key for c in unit.covered if not c.flags & flags.NAMED_ONLY)
            taken += [unit.change.key, *covered]
            if flags.CONFLICT in unit.change.flags:
                force.append(unit.change.key)
        else:
            refused.append(unit.change.key)
    if not taken:
        return None
    return Selection(paths=tuple(taken), exclude=(*selection.exclude, *refused), force=tuple(force))


def _question(style: Style, review: Review, unit: Unit, place: str) -> str:
    lines = list(patch.render(review, [unit.change]))
    style.print("", *(coloured(style, line) for line in lines[:SHOWN]))
    if len(lines) > SHOWN:
        style.print(f"… {count(len(lines) - SHOWN, 'line')} more: casemate diff")
    if unit.covered:
        style.print(f"with all it held: {listing.totals(unit.covered)}")
    conflict = flags.CONFLICT in unit.change.flags
    question = "Take the session's version?" if conflict else "Apply this?"
    while True:
        answer = ask(f"({place}) {question}", "nyadq?")
        if answer != "?":
            return answer
        style.print(HELP)
