"""`casemate diff`: what a session changed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from casemate.cli import listing
from casemate.cli.options import parse
from casemate.cli.pager import paged
from casemate.cli.selecting import choose, locate_all, store_here
from casemate.cli.style import Style, command_line, count, print_json, wants_colour
from casemate.sdk import patch
from casemate.workspace.changes import Change, Key
from casemate.workspace.names import is_beneath
from casemate.workspace.review import Review, open_review

EVERYTHING = 1 << 31

COLOURS = {
    "diff ": ("bold",),
    "--- ": ("bold",),
    "+++ ": ("bold",),
    "@@ ": ("cyan",),
    patch.WARNING: ("yellow",),
    "+": ("green",),
    "-": ("red",),
}
"""By how a line begins; the first that fits counts."""


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("diff", arguments)
    store = store_here()
    session, paths = choose(store, parsed.items, parsed.directory)
    incomplete = session.state == "incomplete"
    with open_review(store, session.id, incomplete=incomplete) as review:
        changes = reached(review.changes, locate_all(review, paths, parsed.directory))
        if parsed.json:
            print_json(
                {
                    "session": session.id,
                    "state": session.state,
                    "complete": review.complete,
                    "changes": listing.as_json(review, changes),
                }
            )
            return 0
        with paged(not parsed.no_pager) as stream:
            style = Style(stream, colour=wants_colour(sys.stdout.isatty()))
            style.print(*introduction(style, review, changes))
            if parsed.stat:
                style.print(*listing.lines(style, review, changes, most=EVERYTHING))
            else:
                for line in patch.render(review, changes):
                    style.print(coloured(style, line))
    return 0


def introduction(style: Style, review: Review, changes: Sequence[Change]) -> list[str]:
    """What is being shown."""
    session = review.session
    if not changes:
        return [f"session {session.id} has no changes that wait"]
    head = f"session {session.id}: {command_line(session.command)}"
    lines = [style.paint(head, "bold"), listing.headline(changes)]
    if not review.complete:
        lines.append(
            style.paint("it was killed while it was saved: what came later is missing", "red")
        )
    marked = sum(map(listing.flagged, changes))
    if marked:
        lines.append(style.paint(f"{count(marked, 'change')} to look at, marked with !", "yellow"))
    return [*lines, ""]


def coloured(style: Style, line: str) -> str:
    """One line of a diff."""
    for beginning, names in COLOURS.items():
        if line.startswith(beginning):
            return style.paint(line, *names)
    return line


def reached(changes: Sequence[Change], keys: Sequence[Key]) -> tuple[Change, ...]:
    """The changes at or beneath some paths; all of them without one."""
    if not keys:
        return tuple(changes)
    return tuple(
        change
        for change in changes
        if any(
            change.root == root
            and (
                is_beneath(change.path, path) or (change.source and is_beneath(change.source, path))
            )
            for root, path in keys
        )
    )
