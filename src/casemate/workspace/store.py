"""The sessions of a user, below one state directory: listing, finding, setting aside, pruning.

A session's directory holds `session.json`, `changes`, `result.json` (see `create`), and, once
used, `state.json` (discarded or applied, and when), `review.json` (what lay on the host at the
first review), `apply.journal` (a transaction under way) and `undo/<number>/` (pre-images).
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import Any, Literal

from casemate.errors import UsageError, WorkspaceError
from casemate.policy.model import Origin, Pattern
from casemate.workspace import archive, durable

SessionState = Literal["running", "open", "applied", "discarded", "incomplete", "damaged"]
"""running: the archive is still being written. open: has changes that were not applied.
incomplete: the writer died. damaged: the archive or what describes it makes no sense."""

Decision = Literal["open", "applied", "discarded"]

DISCARDED_FOR = 7 * 24 * 3600.0
"""Seconds a discarded or applied session stays recoverable unless told otherwise."""

_ID = re.compile(r"[0-9]{8}-[0-9]{6}-[a-z0-9]{4}")
_REMOVED = ".removed-"
_END = archive.RECORD.size + 1


@dataclass(frozen=True, slots=True)
class SessionRoot:
    """A project root of a session."""

    index: int
    path: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What is known of a session. Times are seconds since the epoch, `size` bytes."""

    id: str
    directory: str
    state: SessionState
    command: tuple[str, ...] = ()
    started_ns: int = 0
    ended: float | None = None
    exit_status: int | None = None
    roots: tuple[SessionRoot, ...] = ()
    tier: str = ""
    sources: tuple[str, ...] = ()
    hide: tuple[Pattern, ...] = ()
    protect: tuple[Pattern, ...] = ()
    guarantees: tuple[Any, ...] = ()
    size: int = 0
    changed: float = 0.0
    """When it was applied or discarded; 0 if neither."""
    problem: str = ""
    """Why it is damaged."""

    @property
    def started(self) -> float:
        """When it started, in seconds since the epoch."""
        return self.started_ns / 1e9

    @property
    def project(self) -> str:
        """The main project root."""
        return self.roots[0].path if self.roots else ""

    @property
    def archive_path(self) -> str:
        """The change archive."""
        return f"{self.directory}/changes"


class Store:
    """The sessions below `state`, the state directory."""

    def __init__(self, state: str) -> None:
        self.state = os.path.abspath(state)
        self.directory = f"{self.state}/sessions"

    def sessions(self, project: str = "") -> tuple[Session, ...]:
        """All sessions, or those of one project, newest first; foreign files are passed over."""
        try:
            found = sorted(filter(_ID.fullmatch, os.listdir(self.directory)), reverse=True)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise _unusable(self.directory, error) from error
        sessions = (self._load(id) for id in found if os.path.isdir(f"{self.directory}/{id}"))
        wanted = os.path.realpath(project) if project else ""
        return tuple(s for s in sessions if not wanted or wanted in (r.path for r in s.roots))

    def load(self, id: str) -> Session:
        """The session with exactly this id."""
        if not _ID.fullmatch(id) or not os.path.isdir(f"{self.directory}/{id}"):
            raise UsageError(
                f"there is no session {id!r}", hint="`casemate sessions` lists them all"
            )
        return self._load(id)

    def find(self, prefix: str = "", *, project: str = "") -> Session:
        """The session whose id begins with (or, as people do, ends with) `prefix`.

        Without one, the newest session of `project` that waits for a decision, else its newest.
        Raises `UsageError` where there is none or several.
        """
        if prefix:
            everything = self.sessions()
            matching = [s for s in everything if s.id.startswith(prefix)]
            matching = matching or [s for s in everything if s.id.endswith(prefix)]
            if len(matching) == 1:
                return matching[0]
            if matching:
                several = ", ".join(session.id for session in matching[:5])
                raise UsageError(f"{prefix!r} names {len(matching)} sessions: {several}")
            raise UsageError(
                f"there is no session {prefix!r}", hint="`casemate sessions` lists them all"
            )
        candidates = self.sessions(project)
        for session in candidates:
            if session.state in ("open", "incomplete"):
                return session
        if candidates:
            return candidates[0]
        raise UsageError(
            f"there is no session of {project or 'any project'}",
            hint="a session is kept when the command left changes in overlay mode",
        )

    def discard(self, id: str) -> Session:
        """Set a session aside. It stays recoverable until it is pruned."""
        self._require_rest(self.load(id), "discarded")
        self.mark(id, "discarded")
        return self.load(id)

    def recover(self, id: str) -> Session:
        """Take a discarded session back."""
        session = self.load(id)
        if session.state != "discarded":
            raise UsageError(f"session {id} is {session.state}, not discarded")
        self.mark(id, "open")
        return self.load(id)

    def remove(self, id: str) -> None:
        """Delete a session with its changes and pre-images, for good."""
        self._require_rest(self.load(id), "removed")
        try:
            doomed = f"{self.directory}/{_REMOVED}{id}"
            os.rename(f"{self.directory}/{id}", doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            raise _unusable(self.directory, error) from error

    def prune(self, older_than: float = DISCARDED_FOR) -> tuple[str, ...]:
        """Remove what was applied or discarded more than `older_than` seconds ago.

        So is what holds nothing at all, left by a start that failed. Sessions with changes that
        wait for a decision always stay. Gives the ids removed.
        """
        removed = []
        now = time.time()
        for session in self.sessions():
            since = session.changed
            if session.size == 0 and session.state in ("damaged", "incomplete"):
                since = os.stat(session.directory).st_mtime
            elif session.state not in ("applied", "discarded"):
                continue
            if now - since > older_than:
                self.remove(session.id)
                removed.append(session.id)
        self._sweep()
        return tuple(removed)

    def mark(self, id: str, state: Decision) -> None:
        """Record the decision about a session."""
        try:
            mark(f"{self.directory}/{id}", state)
        except OSError as error:
            raise _unusable(self.directory, error) from error

    def _sweep(self) -> None:
        """Finish removals that were cut off."""
        if os.path.isdir(self.directory):
            for name in os.listdir(self.directory):
                if name.startswith(_REMOVED):
                    shutil.rmtree(f"{self.directory}/{name}", ignore_errors=True)

    def _require_rest(self, session: Session, verb: str) -> None:
        if session.state == "running":
            raise WorkspaceError(
                f"session {session.id} is still running and cannot be {verb}", code="running"
            )
        if os.path.exists(f"{session.directory}/apply.journal"):
            raise WorkspaceError(
                f"session {session.id} has an interrupted apply and cannot be {verb} before "
                "that is recovered",
                code="interrupted",
                hint="any casemate command in the project recovers it",
            )

    def _load(self, id: str) -> Session:
        directory = f"{self.directory}/{id}"
        try:
            known = _parse(durable.read_json(f"{directory}/session.json"))
        except (OSError, ValueError, KeyError, TypeError) as error:
            known = {"problem": f"session.json cannot be read: {error}"}
        exit_status, ended = _result(directory)
        state, changed = _marked(directory)
        archive_state, size, problem = _archive_state(directory)
        problem = known.pop("problem", "") or problem
        if archive_state == "running":
            state = "running"
        elif problem:
            state = "damaged"
        return Session(
            id=id,
            directory=directory,
            state=state or archive_state,
            exit_status=exit_status,
            ended=ended,
            size=size,
            changed=changed,
            problem=problem,
            **known,
        )


def mark(directory: str, state: Decision) -> None:
    """Record the decision about the session in `directory`. Raises `OSError`."""
    durable.write_json(f"{directory}/state.json", {"state": state, "at": time.time()})


def _parse(value: Any) -> dict[str, Any]:
    if value["version"] != 1:
        raise ValueError(f"version {value['version']} is not known")
    roots = tuple(SessionRoot(int(i), str(p), str(m)) for i, p, m in value["roots"])
    return {
        "started_ns": int(value["started_ns"]),
        "command": tuple(map(str, value["command"])),
        "roots": roots,
        "tier": str(value["tier"]),
        "sources": tuple(map(str, value["sources"])),
        "hide": tuple(map(_pattern, value["hide"])),
        "protect": tuple(map(_pattern, value["protect"])),
        "guarantees": tuple(value["guarantees"]),
    }


def _pattern(value: Any) -> Pattern:
    source, line, key = value["origin"]
    return Pattern(
        text=str(value["text"]),
        segments=tuple(map(str, value["segments"])),
        negated=bool(value["negated"]),
        directory_only=bool(value["directory_only"]),
        origin=Origin(str(source), int(line), str(key)),
    )


def _result(directory: str) -> tuple[int | None, float | None]:
    try:
        value = durable.read_json(f"{directory}/result.json")
        return value["exit_status"], value["ended_ns"] / 1e9
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def _marked(directory: str) -> tuple[SessionState | None, float]:
    """The decision on record, None where there is none or it was taken back."""
    try:
        value = durable.read_json(f"{directory}/state.json")
        state = value["state"]
        return (state, float(value["at"])) if state in ("applied", "discarded") else (None, 0.0)
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0.0


def _archive_state(directory: str) -> tuple[SessionState, int, str]:
    """What the archive's lock, beginning and end say: (state, bytes, problem)."""
    try:
        descriptor = os.open(f"{directory}/changes", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        return "damaged", 0, f"the change archive cannot be opened: {error.strerror}"
    try:
        size = os.fstat(descriptor).st_size
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return "running", size, ""
        start = os.pread(descriptor, archive.HEADER.size, 0)
        end = os.pread(descriptor, _END, max(0, size - _END))
    finally:
        os.close(descriptor)
    if not archive.MAGIC.startswith(start[: len(archive.MAGIC)]):
        return "damaged", size, "the change archive does not begin as one"
    ended = len(end) == _END and size >= archive.HEADER.size + _END
    if ended and end[0] == archive.END and end[4:8] + end[-1:] == b"\1\0\0\0.":
        return "open", size, ""
    return "incomplete", size, ""


def _unusable(place: str, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"the state directory {place!r} cannot be used: {error.strerror}", code="state"
    )
