"""One change of a session as a unified diff, fit for a terminal."""

from __future__ import annotations

import difflib

from casemate.workspace import beneath, flags
from casemate.workspace.changes import LARGE, Change
from casemate.workspace.names import display_line
from casemate.workspace.review import Review


def unified(review: Review, change: Change) -> list[str]:
    """The lines of the diff without their newlines; one line for what is not text."""
    if change.is_directory:
        return []
    if change.flags & {flags.BINARY, flags.LARGE, flags.SPECIAL}:
        return [f"{change.kind}: {change.name} ({change.after.size} bytes)"]
    before = _lines(_on_host(review, change)) if change.before.kind == "file" else []
    after: list[bytes] = []
    if change.after.kind == "file" and change.record is not None:
        after = _lines(review.archive.open_content(change.record).read(LARGE))
    old = f"a/{change.name}" if before else "/dev/null"
    new = f"b/{change.name}" if change.after.exists else "/dev/null"
    shown = [display_line(line) for line in before], [display_line(line) for line in after]
    return list(difflib.unified_diff(*shown, old, new, lineterm="", n=2))


def _on_host(review: Review, change: Change) -> bytes:
    root = review.roots[change.root].descriptor
    descriptor = beneath.open_file(root, change.path)
    with open(descriptor, "rb") as file:
        return file.read(LARGE)


def _lines(data: bytes) -> list[bytes]:
    return data.replace(b"\r\n", b"\n").split(b"\n")[: -1 if data.endswith(b"\n") else None]
