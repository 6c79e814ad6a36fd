"""What an interrupted apply or undo left: finished if it was committed, else rolled back."""

from __future__ import annotations

import os
from dataclasses import dataclass

from casemate.errors import WorkspaceError
from casemate.workspace import journal as journals
from casemate.workspace import rollback
from casemate.workspace.journal import Journal
from casemate.workspace.locks import clear_marks, locked, open_roots


@dataclass(frozen=True, slots=True)
class Recovered:
    """One transaction that was cut off, and what became of it."""

    session: str
    kind: journals.TransactionKind
    finished: bool
    """True: it had been committed and stands. False: it was rolled back."""
    left: tuple[bytes, ...] = ()
    """Paths changed meanwhile and left alone; their pre-images are in the session's `undo`."""


def recover(state: str, project: str = "") -> tuple[Recovered, ...]:
    """Finish or roll back every interrupted transaction (on `project`, if given).

    Call it before anything else looks at the project; it costs one stat(2) per session. Waits for
    a transaction that is still alive. Raises `WorkspaceError` where a project root is gone or
    the system refuses.
    """
    done = []
    try:
        sessions = sorted(os.listdir(f"{state}/sessions"))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise WorkspaceError(
            f"the state directory {state!r} cannot be used: {error.strerror}", code="state"
        ) from error
    for session in sessions:
        directory = f"{state}/sessions/{session}"
        if os.path.exists(f"{directory}/apply.journal"):
            recovered = _recover(state, session, directory, project)
            if recovered is not None:
                done.append(recovered)
    clear_marks(state)
    return tuple(done)


def _recover(state: str, session: str, directory: str, project: str) -> Recovered | None:
    path = f"{directory}/apply.journal"
    try:
        pending = journals.read(path)
    except FileNotFoundError:
        return None
    paths = _root_paths(pending, project)
    if paths is None:
        return None
    with open_roots(paths) as roots:
        for known in pending.roots:
            if roots[known.index].identity != (known.device, known.inode):
                raise WorkspaceError(
                    f"an interrupted {pending.kind} of session {session} cannot be recovered: "
                    f"{known.path!r} is no longer the same directory",
                    code="interrupted",
                    hint="run casemate in the directory where the project is now",
                )
        with locked(state, roots.values(), session=session):
            try:
                # Whoever held the lock until now may have been the one at work.
                pending = journals.read(path)
            except FileNotFoundError:
                return None
            try:
                if rollback.is_committed(directory, pending):
                    rollback.clean(directory, pending, roots)
                    return Recovered(session, pending.kind, finished=True)
                left = rollback.roll_back(directory, pending, roots)
            except OSError as error:
                raise WorkspaceError(
                    f"an interrupted {pending.kind} of session {session} cannot be rolled back "
                    f"yet: {error.strerror}",
                    code="interrupted",
                ) from error
            return Recovered(session, pending.kind, finished=False, left=left)


def _root_paths(pending: Journal, project: str) -> list[tuple[int, str]] | None:
    """Where the roots are now; None if none of them is `project`. A moved project is found by
    its inode."""
    paths = [(root.index, root.path) for root in pending.roots]
    if not project:
        return paths
    try:
        status = os.stat(project)
    except OSError:
        return None
    for position, root in enumerate(pending.roots):
        if (root.device, root.inode) == (status.st_dev, status.st_ino):
            paths[position] = (root.index, project)
            return paths
    return None
