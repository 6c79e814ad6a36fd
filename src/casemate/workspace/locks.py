"""Project roots opened and locked, so that no two transactions on one root interleave."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from casemate.errors import WorkspaceError
from casemate.workspace import beneath

WAIT = 10.0
"""Seconds to wait for another transaction on the same root."""


@dataclass(frozen=True, slots=True)
class Root:
    """A project root: its index in the session, its path, and a descriptor of it."""

    index: int
    path: str
    descriptor: int

    @property
    def identity(self) -> tuple[int, int]:
        """(device, inode)."""
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino


@contextmanager
def open_roots(paths: Iterable[tuple[int, str]]) -> Iterator[dict[int, Root]]:
    """The roots (index, path) open, by index. Raises `WorkspaceError` for one that is gone."""
    with ExitStack() as stack:
        roots = {}
        for index, path in paths:
            try:
                descriptor = beneath.open_root(path)
            except OSError as error:
                raise WorkspaceError(
                    f"the project root {path!r} cannot be opened: {error.strerror}",
                    code="root",
                ) from error
            stack.callback(os.close, descriptor)
            roots[index] = Root(index, path, descriptor)
        yield roots


@contextmanager
def locked(state: str, roots: Iterable[Root], *, session: str) -> Iterator[None]:
    """Hold the lock of every root; while held, its file names the session at work.

    The files are `<state>/roots/<device>-<inode>`; a name left in one after a crash is what
    `create.is_interrupted` looks for. Raises `WorkspaceError` after `WAIT` seconds.
    """
    identities = sorted({root.identity for root in roots})
    with ExitStack() as stack:
        files = []
        try:
            os.makedirs(f"{state}/roots", 0o700, exist_ok=True)
            for device, inode in identities:
                path = f"{state}/roots/{device}-{inode}"
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
                descriptor = os.open(path, flags, 0o600)
                stack.callback(os.close, descriptor)
                _lock(descriptor)
                files.append(descriptor)
            for descriptor in files:
                os.pwrite(descriptor, session.encode(), 0)
                os.fsync(descriptor)
        except OSError as error:
            raise WorkspaceError(
                f"cannot lock the project in {state!r}: {error.strerror}", code="state"
            ) from error
        try:
            yield
        finally:
            if not os.path.exists(f"{state}/sessions/{session}/apply.journal"):
                for descriptor in files:
                    os.ftruncate(descriptor, 0)


def clear_marks(state: str) -> None:
    """Empty every lock file that nobody holds: what a crash left beside the transaction itself."""
    try:
        found = os.listdir(f"{state}/roots")
    except OSError:
        return
    for name in found:
        with suppress(OSError):
            descriptor = os.open(f"{state}/roots/{name}", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                session = os.pread(descriptor, 100, 0).decode("ascii", "replace")
                if session and not os.path.exists(f"{state}/sessions/{session}/apply.journal"):
                    os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = os.pread(descriptor, 100, 0).decode("ascii", "replace")
                raise WorkspaceError(
                    f"another casemate is applying changes to this project (session {holder})",
                    code="locked",
                    hint="try again when it is done",
                ) from None
            time.sleep(0.02)
