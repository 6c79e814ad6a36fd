"""`casemate sessions`: what runs left behind, and what became of it."""

from __future__ import annotations

import sys
import time

from casemate.cli.log import prune
from casemate.cli.options import parse
from casemate.cli.selecting import project_at, store_here
from casemate.cli.style import Style, age, command_line, count, display, print_json, size
from casemate.errors import UsageError
from casemate.workspace.store import Session, Store

COLOURS = {
    "running": "cyan",
    "open": "yellow",
    "incomplete": "red",
    "damaged": "red",
    "applied": "green",
    "discarded": "dim",
}


JOURNALS_KEPT = 30 * 86400.0
"""Seconds after which `--prune` deletes the journal of a session's network."""


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("sessions", arguments)
    store = store_here()
    asked = [name for name in ("recover", "remove", "prune") if getattr(parsed, name)]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]} exclude each other")
    if parsed.recover:
        return _say(store, store.recover(store.find(parsed.recover).id), "recovered", parsed.json)
    if parsed.remove:
        session = store.find(parsed.remove)
        store.remove(session.id)
        return _say(store, session, "removed", parsed.json)
    if parsed.prune:
        removed = store.prune()
        prune(f"{store.state}/journals", JOURNALS_KEPT)
        if parsed.json:
            print_json({"removed": list(removed)})
        else:
            Style(sys.stdout).print(f"removed {count(len(removed), 'session')}", *removed)
        return 0
    listed = store.sessions(project_at(parsed.directory) if parsed.here else "")
    if parsed.ids:
        Style(sys.stdout).print(*(session.id for session in listed))
    elif parsed.json:
        print_json([as_json(session) for session in listed])
    else:
        _table(Style(sys.stdout), listed)
    return 0


def _say(store: Store, session: Session, done: str, as_json: bool) -> int:
    if as_json:
        print_json({"session": session.id, "done": done})
    else:
        Style(sys.stdout).print(f"{done} {session.id}")
    return 0


def _table(style: Style, listed: tuple[Session, ...]) -> None:
    if not listed:
        style.print("no sessions")
        return
    now = time.time()
    rows = [("SESSION", "STATE", "STARTED", "EXIT", "SIZE", "PROJECT", "COMMAND")]
    for session in listed:
        status = "-" if session.exit_status is None else str(session.exit_status)
        command = session.problem or command_line(session.command)
        rows.append(
            (
                session.id,
                session.state,
                age(now - session.started) if session.started else "-",
                status,
                size(session.size),
                display(session.project) if session.project else "-",
                command,
            )
        )
    lines = style.table(rows)
    style.print(lines[0])
    for session, line in zip(listed, lines[1:], strict=True):
        # Painted after the columns were aligned, so that the codes do not count.
        before, _, after = line.partition(session.state)
        style.print(before + style.paint(session.state, COLOURS[session.state]) + after)


def as_json(session: Session) -> dict[str, object]:
    """A session as JSON-ready data. Times are seconds since the epoch, sizes bytes."""
    return {
        "session": session.id,
        "state": session.state,
        "command": list(session.command),
        "started": session.started,
        "ended": session.ended,
        "exit_status": session.exit_status,
        "roots": [{"path": root.path, "mode": root.mode} for root in session.roots],
        "tier": session.tier,
        "size": session.size,
        "problem": session.problem,
    }
