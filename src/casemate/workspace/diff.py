"""Changes for people (coloured text, statistics) and for programs (JSON).

Names and contents come from a sandbox: nothing but printable characters reaches the terminal.
"""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from casemate.workspace import beneath, flags, names, unified
from casemate.workspace.changes import LARGE, Change
from casemate.workspace.entry import Entry
from casemate.workspace.review import Review

LINES_MAX = 4000
"""Lines of difference shown for one file."""

_RESET, _BOLD, _RED, _GREEN, _YELLOW, _CYAN = (
    f"\x1b[{code}m" for code in ("0", "1", "31", "32", "33", "36")
)

_VERBS = {
    "added": "added",
    "modified": "modified",
    "deleted": "deleted",
    "mode": "mode changed",
    "symlink": "link",
    "renamed": "renamed",
    "replaced": "replaced",
    "directory-added": "directory added",
    "directory-deleted": "directory deleted",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """Old and new lines of a text file, and what differs between them."""

    old: list[bytes]
    new: list[bytes]
    blocks: list[unified.Block]

    @property
    def added(self) -> int:
        """Number of lines that are new."""
        return sum(block.new_end - block.new_start for block in self.blocks)

    @property
    def removed(self) -> int:
        """Number of lines that are gone."""
        return sum(block.old_end - block.old_start for block in self.blocks)


def wants_color(stream: TextIO = sys.stdout) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR or TERM=dumb says otherwise."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def difference(
    review: Review, change: Change, work: unified.Work | None = None
) -> Difference | None:
    """The line difference of a change, None where it has no text to show.

    That is: neither side is a file, or it is binary, large, hidden or oversized. `work` bounds
    what many calls may cost together.
    """
    shown = {flags.BINARY, flags.LARGE, flags.HIDDEN, flags.OVERSIZED, flags.UNREACHABLE}
    if change.flags & shown or "file" not in (change.before.kind, change.after.kind):
        return None
    if change.before.size > LARGE or (change.before.kind == "file" and change.before.binary):
        return None
    if change.kind in ("mode", "renamed"):
        return None
    old = _old_content(review, change)
    if b"\0" in old[:8192]:
        return None
    new = b""
    if change.after.kind == "file" and change.record is not None:
        new = review.archive.open_content(change.record).read(LARGE)
    before, after = unified.split_lines(old), unified.split_lines(new)
    return Difference(before, after, unified.blocks(before, after, work))


def render(review: Review, changes: Iterable[Change], *, color: bool = False) -> Iterator[str]:
    """The changes as lines of text for a person, flags explained."""
    paint = _Paint(color)
    work = unified.Work()
    for change in changes:
        yield paint.bold(headline(review, change))
        for flag in sorted(change.flags - {flags.BINARY, flags.LARGE}):
            yield paint.yellow(f"  ! {flag}: {reason(change, flag)}")
        yield from _details(change)
        found = difference(review, change, work)
        if found is not None:
            yield from _lines(found, paint)


def headline(review: Review, change: Change) -> str:
    """One line that says what happens to which path."""
    text = f"{_VERBS[change.kind]}: {_place(review, change.root, change.path)}"
    if change.kind == "renamed":
        old = _place(review, change.root, change.source)
        text = f"renamed: {old} -> {_place(review, change.root, change.path)} (same content)"
    if change.after.kind == "symlink":
        text += f" -> {names.display(change.after.target)}"
    if change.kind == "replaced":
        text += f" ({change.before.kind} becomes {change.after.kind})"
    return text


def reason(change: Change, flag: str) -> str:
    """The sentence that explains a flag of a change."""
    if flag == flags.RUNS_ON_HOST:
        return flags.runs_on_host(change.path) or flags.runs_on_host(change.source)
    return flags.explain(flag)


def statistics(
    review: Review, changes: Iterable[Change], *, color: bool = False, width: int = 40
) -> Iterator[str]:
    """A line for each change with its lines added and removed, and a total."""
    paint = _Paint(color)
    rows = []
    added = removed = 0
    work = unified.Work()
    for change in changes:
        name = _place(review, change.root, change.path)
        found = difference(review, change, work)
        if found is None:
            rows.append((name, _size_text(change), 0, 0))
            continue
        added, removed = added + found.added, removed + found.removed
        rows.append((name, str(found.added + found.removed), found.added, found.removed))
    most = max((plus + minus for _, _, plus, minus in rows), default=0)
    widest = min(60, max((len(name) for name, _, _, _ in rows), default=0))
    for name, text, plus, minus in rows:
        scale = min(1.0, width / most) if most else 1.0
        bars = paint.green("+" * round(plus * scale)) + paint.red("-" * round(minus * scale))
        shown = name if len(name) <= widest else "..." + name[3 - widest :]
        yield f" {shown:<{widest}} | {text} {bars}".rstrip()
    yield f" {len(rows)} changed, {added} lines added, {removed} lines removed"


def as_json(review: Review, changes: Iterable[Change]) -> list[dict[str, Any]]:
    """The changes as JSON-ready data; digests are SHA-256, sizes bytes, modes octal text."""
    return [_change_json(review, change) for change in changes]


class _Paint:
    """Colours, or nothing of them."""

    def __init__(self, color: bool) -> None:
        self._color = color

    def _paint(self, code: str, text: str) -> str:
        return f"{code}{text}{_RESET}" if self._color and text else text

    def bold(self, text: str) -> str:
        return self._paint(_BOLD, text)

    def red(self, text: str) -> str:
        return self._paint(_RED, text)

    def green(self, text: str) -> str:
        return self._paint(_GREEN, text)

    def yellow(self, text: str) -> str:
        return self._paint(_YELLOW, text)

    def cyan(self, text: str) -> str:
        return self._paint(_CYAN, text)


def _place(review: Review, root: int, path: bytes) -> str:
    """The path within the main root; in a further one with that root's path before it."""
    main = min(review.roots, default=0)
    if root == main or root not in review.roots:
        return names.display(path)
    return names.display(f"{review.roots[root].path}/{names.to_text(path)}")


def _details(change: Change) -> Iterator[str]:
    before, after = change.before, change.after
    if before.exists and after.exists and before.kind == after.kind and before.kind != "symlink":
        if before.mode != after.mode:
            yield f"  mode {before.mode:04o} -> {after.mode:04o}"
    elif after.kind == "file" and after.mode & 0o111:
        yield f"  mode {after.mode:04o}"
    if before.kind == "symlink":
        yield f"  pointed to {names.display(before.target)}"
    if change.flags & {flags.BINARY, flags.LARGE, flags.OVERSIZED}:
        for label, entry in (("old", before), ("new", after)):
            if entry.kind == "file":
                yield f"  {label}: {entry.size} bytes, sha256 {entry.digest or 'not taken'}"


def _lines(found: Difference, paint: _Paint) -> Iterator[str]:
    left = LINES_MAX
    for hunk in unified.hunks(found.blocks, len(found.old), len(found.new)):
        yield paint.cyan(
            f"@@ -{_range(hunk.old_start, hunk.old_end)} +{_range(hunk.new_start, hunk.new_end)} @@"
        )
        position = hunk.old_start
        for block in hunk.blocks:
            pieces = [
                *((" ", line) for line in found.old[position : block.old_start]),
                *(("-", line) for line in found.old[block.old_start : block.old_end]),
                *(("+", line) for line in found.new[block.new_start : block.new_end]),
            ]
            position = block.old_end
            for sign, line in pieces:
                left -= 1
                if left < 0:
                    yield paint.yellow("  ... more lines are not shown")
                    return
                yield from _line(sign, line, paint)
        for line in found.old[position : hunk.old_end]:
            yield from _line(" ", line, paint)


def _line(sign: str, line: bytes, paint: _Paint) -> Iterator[str]:
    text = sign + names.display_line(line.removesuffix(b"\n"))
    yield {"-": paint.red, "+": paint.green}.get(sign, str)(text)
    if not line.endswith(b"\n"):
        yield "\\ No newline at end of file"


def _range(start: int, end: int) -> str:
    """A range as in a unified diff: counted from 1, before an empty range the line above."""
    count = end - start
    first = start + 1 if count else start
    return str(first) if count == 1 else f"{first},{count}"


def _old_content(review: Review, change: Change) -> bytes:
    if change.before.kind != "file":
        return b""
    try:
        descriptor = beneath.open_file(review.roots[change.root].descriptor, change.path)
    except OSError:
        return b""
    with open(descriptor, "rb") as file:
        return file.read(LARGE)


def _size_text(change: Change) -> str:
    sizes = (change.before.size, change.after.size)
    if flags.BINARY in change.flags or flags.LARGE in change.flags:
        return f"binary or large, {sizes[0]} -> {sizes[1]} bytes"
    return _VERBS[change.kind]


def _change_json(review: Review, change: Change) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": change.kind,
        "root": review.roots[change.root].path,
        **_path_json("path", change.path),
        "before": _entry_json(change.before),
        "after": _entry_json(change.after),
        "flags": {flag: reason(change, flag) for flag in sorted(change.flags)},
    }
    if change.source:
        found |= _path_json("renamed_from", change.source)
    return found


def _path_json(key: str, path: bytes) -> dict[str, str]:
    """The path as text; where it is not UTF-8, escaped, and whole in base64 beside it."""
    try:
        return {key: path.decode("utf-8")}
    except UnicodeDecodeError:
        return {key: names.display(path), f"{key}_base64": base64.b64encode(path).decode()}


def _entry_json(entry: Entry) -> dict[str, Any] | None:
    if not entry.exists:
        return None
    found: dict[str, Any] = {"type": entry.kind, "mode": f"{entry.mode:04o}"}
    if entry.kind == "file":
        found |= {"size": entry.size, "sha256": entry.digest or None}
    if entry.kind == "symlink":
        found = {"type": "symlink", **_path_json("target", entry.target)}
    return found
