"""Trust in project policies, by path and SHA-256 of the content.

A policy that lies in a workspace may have been written by what runs there, so it counts only when
the user has said of exactly these bytes, at exactly this path, that they are good. The store is
one JSON file in the state directory, which no sandbox sees.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

from casemate.errors import CasemateError, UsageError
from casemate.policy.reader import SIZE_MAX

_NAME = "trust.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One trusted content. `since` is seconds since the epoch."""

    path: str
    sha256: str
    since: int


class TrustStore:
    """The store in a state directory; made when first written."""

    def __init__(self, state: str) -> None:
        self.path = os.path.join(state, _NAME)
        self._state = state

    def entries(self) -> tuple[Entry, ...]:
        """Everything trusted, by path. Raises `CasemateError` for a store that is not sound."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise self._unsound(str(error)) from error
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                raise self._unsound("others can write it")
            data = file.read()
        try:
            found = [Entry(e["path"], e["sha256"], e["since"]) for e in json.loads(data)["trusted"]]
        except (ValueError, KeyError, TypeError) as error:
            raise self._unsound("it is damaged") from error
        return tuple(sorted(found, key=lambda entry: entry.path))

    def trusts(self, path: str, content: bytes) -> bool:
        """Whether these bytes at this absolute path are trusted."""
        digest = hashlib.sha256(content).hexdigest()
        return any(entry.path == path and entry.sha256 == digest for entry in self.entries())

    def trust(self, path: str) -> Entry:
        """Trust what the file holds now; what was trusted at this path before no longer is."""
        path, content = _read(path)
        entry = Entry(path, hashlib.sha256(content).hexdigest(), int(time.time()))
        with self._locked():
            others = [known for known in self.entries() if known.path != path]
            self._write([*others, entry])
        return entry

    def revoke(self, path: str) -> bool:
        """Take trust back; whether there was any. The file itself need not exist."""
        path = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
        with self._locked():
            known = self.entries()
            kept = [entry for entry in known if entry.path != path]
            if len(kept) != len(known):
                self._write(kept)
        return len(kept) != len(known)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._state, mode=0o700, exist_ok=True)
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, entries: list[Entry]) -> None:
        listed = [{"path": e.path, "sha256": e.sha256, "since": e.since} for e in entries]
        text = json.dumps({"version": 1, "trusted": listed}, indent=1) + "\n"
        temporary = f"{self.path}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(descriptor, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(descriptor)
            os.replace(temporary, self.path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def _unsound(self, problem: str) -> CasemateError:
        return CasemateError(
            f"the trust store {self.path} cannot be used: {problem}",
            hint="remove it and trust your projects again with `casemate trust`",
        )


def _read(path: str) -> tuple[str, bytes]:
    """The absolute path, links in its directory resolved, and the content of a regular file."""
    path = os.path.join(os.path.realpath(os.path.dirname(path) or "."), os.path.basename(path))
    from casemate.policy.files import read_regular

    content = read_regular(path, SIZE_MAX)
    if content is None:
        raise UsageError(f"there is no file {path}", hint="`casemate init` writes a policy")
    return path, content.data
