"""What a run left, told on standard error when it has ended; and `--apply`."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from casemate.cli import listing
from casemate.cli.network_summary import network_lines
from casemate.cli.style import Style, command_line, count, display
from casemate.errors import CasemateError
from casemate.sdk.result import REASONS
from casemate.supervisor.protocol import EXIT_NOT_STARTED, EXIT_SIGNAL, Exit
from casemate.workspace.review import Applied, Review, open_review
from casemate.workspace.store import Store

if TYPE_CHECKING:
    from casemate.cli.run import Options
    from casemate.tiers.linux.session import Saved, Session
    from casemate.workspace.create import NewSession

LINES = 20
"""Changes listed; `casemate diff` shows the others."""


def summarise(
    options: Options,
    launch: dict[str, Any],
    record: NewSession,
    ended: Exit,
    session: Session,
    saved: Saved,
    network: dict[str, Any] | None = None,
) -> int:
    """Tells how a run ended and what it left; applies it if asked to. Returns the exit status."""
    summary = Summary(options, launch, record, ended, session, saved, network)
    with ExitStack() as stack:
        summary.look(stack)
        if "apply" in options.flags and ended.status == 0:
            summary.apply()
        if "json" in options.flags:
            sys.stderr.write(json.dumps(summary.as_json()) + "\n")
        else:
            style = Style(sys.stderr)
            style.print(*summary.lines(style))
    failed = summary.problem is not None or saved.errno
    return ended.status or (125 if failed else 0)


class Summary:
    """Everything there is to tell about one run."""

    def __init__(
        self,
        options: Options,
        launch: dict[str, Any],
        record: NewSession,
        ended: Exit,
        session: Session,
        saved: Saved,
        network: dict[str, Any] | None,
    ) -> None:
        self.options = options
        self.launch = launch
        self.id = record.id
        self.kept = os.path.isdir(record.directory)
        self.ended = ended
        self.session = session
        self.saved = saved
        self.network = network
        self.review: Review | None = None
        self.applied: Applied | None = None
        self.problem: CasemateError | None = None

    @property
    def quiet(self) -> bool:
        """Whether only what went wrong is to be told."""
        return "quiet" in self.options.flags

    def look(self, stack: ExitStack) -> None:
        """Compares what was left with the project."""
        if not self.kept or self.saved.errno:
            return
        try:
            review = open_review(Store(self.launch["state"]), self.id)
        except CasemateError as problem:
            self.problem = problem
            return
        self.review = stack.enter_context(review)
        self.changes = review.changes

    def apply(self) -> None:
        """Applies everything that may be applied without being named."""
        if self.review is None:
            return
        try:
            self.applied = self.review.apply()
        except CasemateError as problem:
            self.problem = problem

    def lines(self, style: Style) -> list[str]:
        """The summary for people."""
        lines = [*self._failures(style), *self._limits(style)]
        if not self.quiet:
            lines += self._policy(style)
            lines += network_lines(self.network, style)
            lines += self._changes(style)
            lines += self._guarantees(style)
        if self.problem is not None:
            lines += self.problem.as_text().splitlines()
        if not self.quiet:
            lines += self._next(style)
        return lines

    def _failures(self, style: Style) -> list[str]:
        lines = []
        if self.ended.kind == EXIT_NOT_STARTED:
            program = self.options.command[0]
            reason = os.strerror(self.ended.value)
            lines.append(style.paint(f"casemate: cannot run {display(program)}: {reason}", "red"))
            lines += [f"  hint: {hint}" for hint in why_not_started(self.ended.value, program)]
        if self.saved.errno:
            reason = os.strerror(self.saved.errno)
            lines.append(style.paint(f"casemate: the changes are not saved yet: {reason}", "red"))
            lines += style.wrap(
                "a process of the session keeps them in memory and tries again every second for "
                f"ten minutes; free some space, then `casemate diff {self.id}`",
                "  hint: ",
                hanging="  ",
            )
        return lines

    def _limits(self, style: Style) -> list[str]:
        lines = [style.paint(f"casemate: {text}", "yellow") for _, text in self.session.notices]
        if self.ended.reason in REASONS and not self.session.notices:
            name = REASONS[self.ended.reason]
            lines.append(style.paint(f"casemate: ended by its {name} limit", "yellow"))
        return lines

    def _policy(self, style: Style) -> list[str]:
        lines = []
        for text, remedy in self.launch.get("notices", ()):
            lines.append(style.paint(f"casemate: {text}", "yellow"))
            if remedy:
                lines.append(f"  to allow it: {remedy}")
        return lines

    def _changes(self, style: Style) -> list[str]:
        if self.review is None:
            return [] if self.saved.errno else ["casemate: no changes"]
        head = f"casemate: {listing.headline(self.changes)}"
        return [
            style.paint(head, "bold"),
            *listing.lines(style, self.review, self.changes, most=LINES),
        ]

    def _guarantees(self, style: Style) -> list[str]:
        """The guarantees that do not hold in full, by name; the others only by number."""
        table = self.launch["guarantees"]
        hard = sum(strength == "hard" for _, strength, _, _ in table)
        lines = [f"guarantees: {hard} hard"]
        if self.session.hidden_paths:
            lines[0] += f"; {count(self.session.hidden_paths, 'path')} hidden"
        for name, strength, by, note in table:
            if strength != "hard":
                reason = f"{by} ({note})" if note else by
                lines += style.wrap(f"{strength}: {name}: {reason}", "  ", hanging="    ")
        return lines

    def _next(self, style: Style) -> list[str]:
        if self.applied is not None:
            lines = [style.paint(f"applied {count(len(self.applied.changes), 'change')}", "green")]
            lines += [
                f"  held back: {held.change.name}: {held.reason}" for held in self.applied.held
            ]
            if self.applied.changes:
                lines.append(f"take it back with: casemate undo {self.id}")
            if self.applied.held:
                lines.append(f"look at the rest with: casemate diff {self.id}")
            return lines
        if not self.kept or self.saved.errno:
            return []
        lines = []
        if "apply" in self.options.flags and self.ended.status:
            lines.append("not applied: the command did not succeed")
        return [
            *lines,
            f"review:  casemate diff {self.id}",
            f"apply:   casemate apply {self.id}",
            f"discard: casemate discard {self.id}",
        ]

    def as_json(self) -> dict[str, object]:
        """The summary for programs."""
        ended, review = self.ended, self.review
        found: dict[str, object] = {
            "session": self.id if self.kept else None,
            "command": self.options.command,
            "exit_status": ended.status,
            "signal": ended.value if ended.kind == EXIT_SIGNAL else None,
            "limit": REASONS.get(ended.reason, ""),
            "started": ended.kind != EXIT_NOT_STARTED,
            "usage": {
                "user": ended.user_us / 1e6,
                "system": ended.system_us / 1e6,
                "wall": ended.wall_us / 1e6,
                "peak_memory": ended.peak_memory,
            },
            "tier": self.launch["tier"],
            "project": self.launch["project"],
            "changes": listing.as_json(review, self.changes) if review else [],
            "hidden_paths": self.session.hidden_paths,
            "notices": [text for _, text in self.session.notices],
            "policy_notices": [
                {"message": text, "allow": remedy}
                for text, remedy in self.launch.get("notices", ())
            ],
            "guarantees": [
                {"name": name, "strength": strength, "by": by, "note": note}
                for name, strength, by, note in self.launch["guarantees"]
            ],
            "saved": self.saved.errno == 0,
            "network": self.network,
        }
        if ended.kind == EXIT_NOT_STARTED:
            found["error"] = os.strerror(ended.value)
        if self.saved.errno:
            found["save_error"] = os.strerror(self.saved.errno)
        if self.applied is not None and review is not None:
            found["applied"] = listing.as_json(review, self.applied.changes)
            found["held"] = [
                {"name": held.change.name, "reason": held.reason} for held in self.applied.held
            ]
        if self.problem is not None:
            found |= self.problem.as_json()
        return found


def why_not_started(number: int, program: str) -> list[str]:
    """What may be behind a command that could not be started, and the way on."""
    outside = shutil.which(program)
    if number == errno.ENOENT and outside and "/" not in program:
        place = display(outside)
        return [
            f"it is {place} here, which is not shown inside: `casemate why {place}`",
            f"to allow it: --set {command_line([f'files.read=[{json.dumps(outside)}]'])}",
        ]
    if number == errno.ENOENT and not outside:
        return ["there is no such program on this machine either"]
    if number == errno.ENOENT:
        return ["the interpreter in its first line may be missing inside"]
    if number == errno.EACCES:
        return ["is it executable, and not hidden? `casemate why PATH` says what it is inside"]
    return []
