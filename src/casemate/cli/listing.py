"""Changes as short lines: what the summary, `diff --stat` and `apply` show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from casemate.cli.style import Style, count, display
from casemate.sdk import patch
from casemate.sdk.changes import public, warnings
from casemate.workspace import flags
from casemate.workspace.changes import Change, Kind
from casemate.workspace.review import Review

MARKS: dict[Kind, tuple[str, str, str]] = {
    "added": ("A", "green", "added"),
    "directory-added": ("A", "green", "added"),
    "modified": ("M", "yellow", "modified"),
    "mode": ("m", "yellow", "changed in mode"),
    "symlink": ("L", "cyan", "linked"),
    "renamed": ("R", "blue", "renamed"),
    "replaced": ("T", "red", "replaced"),
    "deleted": ("D", "red", "deleted"),
    "directory-deleted": ("D", "red", "deleted"),
}
"""Letter, colour and word of each kind."""

_QUIET = frozenset((flags.BINARY, flags.LARGE))


def totals(changes: Iterable[Change]) -> str:
    """How many of what, as in "2 added, 1 modified"."""
    counted = Counter(MARKS[change.kind][2] for change in changes)
    order = dict.fromkeys(word for _, _, word in MARKS.values())
    return ", ".join(f"{counted[word]} {word}" for word in order if counted[word])


def flagged(change: Change) -> bool:
    """Whether a reviewer should look at it in any case."""
    return bool(change.flags - _QUIET)


def visible(changes: Iterable[Change]) -> list[Change]:
    """The changes without new directories that the files in them show anyway."""
    listed = list(changes)
    parents = set()
    for change in listed:
        parts = change.path.split(b"/")
        parents |= {(change.root, b"/".join(parts[:depth])) for depth in range(1, len(parts))}
    return [
        change
        for change in listed
        if change.kind != "directory-added" or change.key not in parents or flagged(change)
    ]


def lines(
    style: Style, review: Review, changes: Sequence[Change], *, most: int, counted: bool = True
) -> list[str]:
    """A line for each change, those that need a look first where not all fit."""
    shown = visible(changes)
    listed = shown
    if len(shown) > most:
        # A reviewer has to see these; which of the others are left out matters less.
        first = [change for change in shown if flagged(change)][:most]
        rest = [change for change in shown if not flagged(change)][: most - len(first)]
        listed = sorted((*first, *rest), key=lambda change: change.key)
    found = []
    for change in listed:
        found += _line(style, review, change, counted=counted)
    hidden = len(shown) - len(listed)
    if hidden:
        left = sum(map(flagged, shown)) - sum(map(flagged, listed))
        more = f", {left} of them flagged" if left else ""
        found.append(f"  … and {hidden} more{more}")
    return found


def _line(style: Style, review: Review, change: Change, *, counted: bool) -> list[str]:
    mark, colour, _ = MARKS[change.kind]
    path = patch.shown_path(review, change) + ("/" if change.is_directory else "")
    if change.source:
        path = f"{display(change.source)} -> {path}"
    elif change.after.kind == "symlink":
        path = f"{path} -> {display(change.after.target)}"
    numbers = ""
    both = patch.counts(review, change) if counted else None
    if both is not None and any(both):
        added, removed = both
        numbers = "  " + " ".join(
            style.paint(text, hue)
            for text, hue in ((f"+{added}", "green"), (f"-{removed}", "red"))
            if text[1:] != "0"
        )
    room = style.width - 8 - len(numbers)
    shown = style.fit(path, room) if style.terminal else path
    found = [f"  {style.paint(mark, colour)} {shown}{numbers}"]
    if flagged(change):
        for sentence in warnings(change):
            marked = style.wrap(f"! {sentence}", "      ", hanging="        ")
            found += [style.paint(line, "yellow") for line in marked]
    return found


def as_json(review: Review, changes: Iterable[Change]) -> list[dict[str, object]]:
    """The changes as JSON-ready data."""
    roots = {index: root.path for index, root in review.roots.items()}
    return [asdict(change) for change in public(changes, roots)]


def headline(changes: Sequence[Change]) -> str:
    """How much changed, in one line."""
    return f"{count(len(changes), 'change')}: {totals(changes)}"
