"""`casemate undo`: what was applied from a session is taken back out of the project."""

from __future__ import annotations

import os
import sys

from casemate.cli.asking import agreed, can_ask
from casemate.cli.options import parse
from casemate.cli.selecting import project_at, store_here
from casemate.cli.style import Style, count, display, print_json
from casemate.errors import UsageError
from casemate.workspace.changes import Key
from casemate.workspace.names import to_text
from casemate.workspace.store import Session, Store
from casemate.workspace.undo import applied_transactions, undo


def main(arguments: list[str]) -> int:
    """Runs the verb; 1 if the person said no."""
    parsed = parse("undo", arguments)
    store = store_here()
    session = _choose(store, parsed.session, parsed.directory)
    force = tuple(_key(session, path) for path in parsed.force)
    style = Style(sys.stdout)
    if not parsed.yes and not parsed.json and can_ask():
        waiting = applied_transactions(session.directory)
        number = len(waiting[-1].steps) if waiting else 0
        if number and not agreed(f"Take {count(number, 'change')} of {session.id} back?"):
            return 1
    undone = undo(store, session.id, force=force)
    if parsed.json:
        paths = [{"root": root, "path": to_text(path)} for root, path in undone.paths]
        print_json({"session": session.id, "undone": paths})
        return 0
    style.print(f"took back {count(len(undone.paths), 'change')} of {session.id}")
    style.print(*(f"  {display(path)}" for _, path in undone.paths[:20]))
    if len(undone.paths) > 20:
        style.print(f"  … and {len(undone.paths) - 20} more")
    style.print(f"the session has them still: casemate diff {session.id}")
    return 0


def _choose(store: Store, wanted: str | None, directory: str | None) -> Session:
    if wanted:
        return store.find(wanted)
    project = project_at(directory)
    for session in store.sessions(project):
        if applied_transactions(session.directory):
            return session
    raise UsageError(
        f"nothing was applied to {display(project)} that could be taken back",
        hint="`casemate sessions` lists what there is",
    )


def _key(session: Session, path: str) -> Key:
    full = os.path.abspath(path)
    for root in session.roots:
        relative = os.path.relpath(full, root.path)
        if relative != ".." and not relative.startswith("../"):
            return root.index, os.fsencode(relative)
    raise UsageError(f"{display(path)} is in no project root of session {session.id}")
