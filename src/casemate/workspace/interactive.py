"""Going through the changes one by one with a person at a terminal.

Changes that matter beyond the project are asked about separately, each with the sentence that
says why, and "all" never includes them.
"""

from __future__ import annotations

import os
import termios
from collections.abc import Iterable, Iterator
from typing import Protocol, Self

from casemate.errors import UsageError
from casemate.workspace import diff, flags, names
from casemate.workspace.changes import Change
from casemate.workspace.review import Review
from casemate.workspace.selection import Selection

ANSWER_MAX = 64
"""Bytes read for one answer."""

HELP = """\
  y - apply this change
  n - leave it in the session for later
  a - apply it and all others that are not flagged
  d - leave it and all that follow
  v - show it again
  q - stop; nothing is applied
"""


class Dialogue(Protocol):
    """Where questions go and answers come from."""

    def write(self, text: str) -> None:
        """Show text, which is already safe for a terminal."""

    def ask(self, question: str) -> str:
        """The answer without its newline; "" at the end of input."""


class Terminal:
    """The controlling terminal, whatever standard input is. Raises `UsageError` without one."""

    def __init__(self) -> None:
        try:
            self._descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                "an interactive review needs a terminal",
                hint="name the paths to apply, or apply everything with `casemate apply --yes`",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def write(self, text: str) -> None:
        """Show text."""
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]

    def ask(self, question: str) -> str:
        """Ask; what was typed before the question was there does not count."""
        termios.tcflush(self._descriptor, termios.TCIFLUSH)
        self.write(question)
        answer = os.read(self._descriptor, ANSWER_MAX)
        if not answer:
            self.write("\n")
        return answer.decode("utf-8", "replace").strip()


def choose(review: Review, dialogue: Dialogue, *, color: bool = True) -> Selection | None:
    """Ask about every change; the selection to apply, or None if the person stopped or took none.

    Unflagged changes come first. Accepting a flagged one names it, accepting a conflict forces it.
    """
    groups = list(_groups(review.changes))
    plain = [group for group in groups if not _flagged(group)]
    flagged = [group for group in groups if _flagged(group)]
    accepted: list[Change] = []
    everything = False
    for number, group in enumerate([*plain, *flagged], 1):
        sensitive = _flagged(group)
        if everything and not sensitive:
            accepted += group
            continue
        show(review, group, dialogue, color=color)
        place = f"({number}/{len(groups)})"
        question = f"{place} apply this {'FLAGGED ' if sensitive else ''}change [y,n,a,d,v,q,?]? "
        while (answer := _answer(dialogue, question)) == "v":
            show(review, group, dialogue, color=color)
        if answer == "q":
            return None
        if answer == "d":
            break
        if answer in ("y", "a"):
            accepted += group
        everything = everything or answer == "a"
    for change in review.changes:
        if change.flags & flags.NEVER_APPLIED:
            why = ", ".join(flags.explain(f) for f in sorted(change.flags & flags.NEVER_APPLIED))
            dialogue.write(f"not applied: {change.name}: {why}\n")
    if not accepted:
        return None
    force = tuple(change.key for change in accepted if flags.CONFLICT in change.flags)
    return Selection(exact=tuple(change.key for change in accepted), force=force)


def show(review: Review, group: list[Change], dialogue: Dialogue, *, color: bool) -> None:
    """Show a group of changes as one: a change, or a deleted directory with what it held."""
    first, *inside = group
    if inside:
        dialogue.write(f"{diff.headline(review, first)} with the {len(inside)} entries in it:\n")
        for change in inside[:20]:
            dialogue.write(f"  {names.display(change.path)}\n")
        if len(inside) > 20:
            dialogue.write(f"  ... and {len(inside) - 20} more\n")
        return
    for line in diff.render(review, group, color=color):
        dialogue.write(line + "\n")


def _answer(dialogue: Dialogue, question: str) -> str:
    """One of y, n, a, d, v and q; the end of input counts as q."""
    while True:
        answer = dialogue.ask(question).lower()
        if not answer:
            return "q"
        if answer in ("y", "n", "a", "d", "v", "q"):
            return answer
        dialogue.write(HELP)


def _flagged(group: list[Change]) -> bool:
    return any(change.flags & flags.ASKED for change in group)


def _groups(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """What is asked about at once: an unflagged deleted directory goes with all it held.

    New directories are not asked about: they come with what is in them, and an empty one alone
    is its own question.
    """
    listed = [change for change in changes if not change.flags & flags.NEVER_APPLIED]
    filled = {(change.root, above) for change in listed for above in names.ancestors(change.path)}
    position = 0
    while position < len(listed):
        change = listed[position]
        position += 1
        if change.kind == "directory-added" and change.key in filled and not _flagged([change]):
            continue
        group = [change]
        if change.kind == "directory-deleted":
            end = position
            while end < len(listed) and _held_by(listed[end], change):
                end += 1
            if not _flagged(listed[position:end]) and not _flagged(group):
                group += listed[position:end]
                position = end
        yield group


def _held_by(change: Change, directory: Change) -> bool:
    gone = change.kind in ("deleted", "directory-deleted")
    return gone and change.root == directory.root and names.is_beneath(change.path, directory.path)
