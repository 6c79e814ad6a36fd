"""The changes of a session as a unified diff, in the dialect of git-diff(1), fit for a terminal.

Made here from bytes: nothing of the repository's configuration, no filter and no program has a
say. Every name and line is escaped. What matches a `hide` pattern is never shown as text: a diff
may go to whoever must not see it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from casemate.sdk.changes import warnings
from casemate.sdk.myers import CONTEXT, Edit, edits, hunks
from casemate.workspace import beneath, flags, names
from casemate.workspace.changes import LARGE, Change
from casemate.workspace.entry import Entry
from casemate.workspace.review import Review

WARNING = "! "
"""How a line begins that is not part of the diff but of the review."""

_UNSHOWN = frozenset((flags.HIDDEN, flags.BINARY, flags.LARGE, flags.OVERSIZED, flags.SPECIAL))


@dataclass(frozen=True, slots=True)
class Texts:
    """Both sides of a change as lines, newlines included; a side that is no file has none."""

    old: list[bytes]
    new: list[bytes]


def render(review: Review, changes: Iterable[Change]) -> Iterator[str]:
    """The diff of some changes of a review, line by line, without newlines."""
    for change in changes:
        yield from _header(review, change)
        for sentence in warnings(change):
            yield f"{WARNING}{sentence}"
        yield from _body(review, change)


def texts(review: Review, change: Change) -> Texts | None:
    """What is compared; None where nothing can be shown as text. Raises `OSError`."""
    if change.flags & _UNSHOWN or "file" not in (change.before.kind, change.after.kind):
        return None
    old = new = b""
    if change.before.kind == "file":
        old = _host_content(review, change)
    if change.after.kind == "file" and change.record is not None:
        new = review.archive.open_content(change.record).read(LARGE + 1)
    elif change.after.kind == "file":
        new = old
    if max(len(old), len(new)) > LARGE or b"\0" in old + new:
        return None
    return Texts(old.splitlines(keepends=True), new.splitlines(keepends=True))


def counts(review: Review, change: Change) -> tuple[int, int] | None:
    """Lines added and removed; None for what is not compared as text."""
    try:
        both = texts(review, change)
    except OSError:
        return None
    if both is None:
        return None
    found = edits(both.old, both.new)
    added = sum(edit.new_end - edit.new_start for edit in found)
    return added, sum(edit.old_end - edit.old_start for edit in found)


def shown_path(review: Review, change: Change) -> str:
    """The path for people: as the project has it, or absolute where there are several roots."""
    if len(review.roots) < 2:
        return change.name
    return names.display(os.path.join(os.fsencode(review.roots[change.root].path), change.path))


def _host_content(review: Review, change: Change) -> bytes:
    descriptor = beneath.open_file(
        review.roots[change.root].descriptor, change.source or change.path
    )
    with open(descriptor, "rb") as file:
        return file.read(LARGE + 1)


def _header(review: Review, change: Change) -> Iterator[str]:
    path = shown_path(review, change)
    source = names.display(change.source) if change.source else path
    yield f"diff {source} {path}"
    before, after = change.before, change.after
    if change.kind == "renamed":
        yield f"rename from {source}"
        yield f"rename to {path}"
    if not before.exists:
        yield f"new {after.kind} mode {after.mode:04o}"
    elif not after.exists:
        yield f"deleted {before.kind} mode {before.mode:04o}"
    elif before.kind != after.kind:
        yield f"was {before.kind}, is {after.kind}"
    elif before.kind != "symlink" and before.mode != after.mode:
        yield f"old mode {before.mode:04o}"
        yield f"new mode {after.mode:04o}"


def _body(review: Review, change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if flags.HIDDEN in change.flags:
        yield "content not shown"
        return
    for sign, entry in (("-", before), ("+", after)):
        if entry.kind == "symlink":
            yield f"{sign}link to {names.display(entry.target)}"
    if "file" not in (before.kind, after.kind) or (
        before.kind == after.kind and before.same_content(after)
    ):
        return
    try:
        both = texts(review, change)
    except OSError as problem:
        yield f"content not shown: {problem.strerror}"
        return
    if both is None:
        for sign, entry in (("-", before), ("+", after)):
            if entry.kind == "file":
                yield f"{sign}{_digest(entry)}"
        return
    if both.old or both.new:
        yield "--- " + (f"a/{_name(change, old=True)}" if before.kind == "file" else "/dev/null")
        yield "+++ " + (f"b/{_name(change, old=False)}" if after.kind == "file" else "/dev/null")
    for hunk in hunks(edits(both.old, both.new)):
        yield from _hunk(both, hunk)


def _name(change: Change, *, old: bool) -> str:
    return names.display(change.source if old and change.source else change.path)


def _digest(entry: Entry) -> str:
    digest = f"sha256 {entry.digest}" if entry.digest else "not read"
    return f"{entry.size} bytes, {digest}"


def _hunk(both: Texts, hunk: list[Edit]) -> Iterator[str]:
    first, last = hunk[0], hunk[-1]
    lead = min(CONTEXT, first.old_start)
    trail = min(CONTEXT, len(both.old) - last.old_end)
    old_start, old_end = first.old_start - lead, last.old_end + trail
    new_start, new_end = first.new_start - lead, last.new_end + trail
    yield f"@@ -{_range(old_start, old_end)} +{_range(new_start, new_end)} @@"
    at = old_start
    for edit in hunk:
        yield from _lines(" ", both.old[at : edit.old_start])
        yield from _lines("-", both.old[edit.old_start : edit.old_end])
        yield from _lines("+", both.new[edit.new_start : edit.new_end])
        at = edit.old_end
    yield from _lines(" ", both.old[at:old_end])


def _range(start: int, end: int) -> str:
    count = end - start
    first = start + 1 if count else start
    return f"{first}" if count == 1 else f"{first},{count}"


def _lines(sign: str, lines: list[bytes]) -> Iterator[str]:
    for line in lines:
        yield sign + names.display_line(line.removesuffix(b"\n"))
        if not line.endswith(b"\n"):
            yield "\\ No newline at end of file"
