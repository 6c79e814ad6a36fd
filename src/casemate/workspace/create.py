"""Opening a session's directory, on the start-up path of `casemate run`.

Nothing here imports more than os, time and fcntl, nor waits for the disk. Layout of a session,
below `<state>/sessions/<id>/`: `session.json` (what began), `changes` (the archive, locked as
long as anyone may still write it), `result.json` (how it ended). `store` reads them.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from casemate.errors import WorkspaceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from casemate.policy.model import Pattern

_CLOCK_REALTIME_COARSE = 5
"""linux/time.h; the clock from which inode times are taken."""

_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW

_FULL = (errno.ENOSPC, errno.EDQUOT)

_HEADER_SIZE = 24
_RECORD_SIZE = 24
_DIRECTORY = 2
_END = 255


class NewSession:
    """A session just opened. `archive` is the descriptor for the supervisor to write changes to.

    The archive is locked through its open file description (flock(2)), which whoever receives the
    descriptor shares: the session counts as running until the last holder is gone.
    """

    __slots__ = ("archive", "directory", "id", "roots", "started_ns")

    def __init__(
        self,
        id: str,
        directory: str,
        archive: int,
        started_ns: int,
        roots: Sequence[tuple[int, str, str]],
    ) -> None:
        self.id = id
        self.directory = directory
        self.archive = archive
        self.started_ns = started_ns
        self.roots = roots


def create(
    state: str,
    *,
    command: Iterable[str],
    roots: Sequence[tuple[int, str, str]],
    tier: str,
    sources: Iterable[str] = (),
    hide: str = "[]",
    protect: str = "[]",
    guarantees: str = "[]",
) -> NewSession:
    """Open a session below the state directory. Call it before the project is mounted.

    `roots` are (index, absolute path, mode); `hide` and `protect` are what `encode_patterns`
    gives (a compiled policy keeps them), `guarantees` any JSON list. Raises `WorkspaceError`
    where the state directory cannot be written.
    """
    started_ns = time.clock_gettime_ns(_CLOCK_REALTIME_COARSE)
    try:
        id, directory = _make_directory(state)
        archive = os.open(f"{directory}/changes", _NEW_FILE, 0o600)
        # Waits only for a listing that looks at the new file this very moment.
        fcntl.flock(archive, fcntl.LOCK_EX)
        rows = ",".join(f"[{index},{quote(path)},{quote(mode)}]" for index, path, mode in roots)
        text = (
            f'{{"version":1,"id":"{id}","started_ns":{started_ns},"tier":{quote(tier)},'
            f'"command":[{",".join(map(quote, command))}],"roots":[{rows}],'
            f'"sources":[{",".join(map(quote, sources))}],'
            f'"hide":{hide},"protect":{protect},"guarantees":{guarantees}}}\n'
        )
        _write(f"{directory}/session.json", text)
    except OSError as error:
        raise _unwritable(state, error) from error
    return NewSession(id, directory, archive, started_ns, roots)


def finish(session: NewSession, *, exit_status: int | None) -> bool:
    """Close a session after its archive was saved; False if it left no change and is gone.

    `exit_status` is that of the command, None where it never started. Closes the descriptor.
    """
    try:
        if is_empty(session.archive, session.roots):
            for name in ("session.json", "changes"):
                os.unlink(f"{session.directory}/{name}")
            os.rmdir(session.directory)
            return False
        status = "null" if exit_status is None else str(int(exit_status))
        ended_ns = time.time_ns()
        temporary = f"{session.directory}/.result.json"
        try:
            _write(temporary, f'{{"exit_status":{status},"ended_ns":{ended_ns}}}\n')
            os.rename(temporary, f"{session.directory}/result.json")
        except OSError as error:
            if error.errno not in _FULL:
                raise
            # The caller has the status; what the changes need of the disk matters more.
            os.unlink(temporary)
        return True
    except OSError as error:
        raise _unwritable(session.directory, error) from error
    finally:
        os.close(session.archive)


def abandon(session: NewSession) -> None:
    """Remove a session that never began."""
    try:
        for name in ("session.json", "changes"):
            os.unlink(f"{session.directory}/{name}")
        os.rmdir(session.directory)
    except OSError:
        # What is left behind is listed as damaged and can be pruned; the error that brought us
        # here matters more.
        pass
    finally:
        os.close(session.archive)


def is_empty(archive: int, roots: Iterable[tuple[int, str, str]]) -> bool:
    """Whether the archive is complete and holds no change.

    Records of the root directories themselves do not count where the modes are as they were.
    """
    size = os.fstat(archive).st_size
    if size > _HEADER_SIZE + 257 * (_RECORD_SIZE + 1):
        return False
    data = os.pread(archive, size, 0)
    if data[:16] != b"casemate-change\n":
        return False
    modes = {index: path for index, path, _ in roots}
    for start in range(_HEADER_SIZE, size, _RECORD_SIZE + 1):
        record = data[start : start + _RECORD_SIZE + 1]
        if len(record) != _RECORD_SIZE + 1 or record[4:8] + record[24:] != b"\1\0\0\0.":
            return False
        if record[0] == _END:
            return start + len(record) == size
        mode = int.from_bytes(record[2:4], "little")
        path = modes.get(record[1])
        if record[0] != _DIRECTORY or path is None or os.stat(path).st_mode & 0o7777 != mode:
            return False
    return False


def is_interrupted(state: str, project: str) -> bool:
    """Whether an apply or undo on this project root was cut off and waits for recovery."""
    try:
        found = os.stat(project)
        return os.stat(f"{state}/roots/{found.st_dev}-{found.st_ino}").st_size > 0
    except OSError:
        return False


def encode_patterns(patterns: Iterable[Pattern]) -> str:
    """Patterns as the JSON that `create` takes."""
    rows = []
    for pattern in patterns:
        origin = pattern.origin
        rows.append(
            f'{{"text":{quote(pattern.text)},"segments":[{",".join(map(quote, pattern.segments))}],'
            f'"negated":{_truth(pattern.negated)},"directory_only":{_truth(pattern.directory_only)},'
            f'"origin":[{quote(origin.source)},{origin.line},{quote(origin.key)}]}}'
        )
    return f"[{','.join(rows)}]"


def quote(text: str) -> str:
    """`text` as a JSON string in ASCII; surrogate escapes of odd bytes survive. Source: RFC 8259."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    pieces = []
    for character in text:
        point = ord(character)
        if 0x20 <= point < 0x7F and character not in '"\\':
            pieces.append(character)
        elif point < 0x10000:
            pieces.append(f"\\u{point:04x}")
        else:
            point -= 0x10000
            pieces.append(f"\\u{0xD800 + (point >> 10):04x}\\u{0xDC00 + (point & 0x3FF):04x}")
    return f'"{"".join(pieces)}"'


def _make_directory(state: str) -> tuple[str, str]:
    """A new session directory: sortable by start, readable, short."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    made = False
    while True:
        tail = "".join([_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(4)])
        id = f"{stamp}-{tail}"
        directory = f"{state}/sessions/{id}"
        try:
            os.mkdir(directory, 0o700)
            return id, directory
        except FileExistsError:
            continue
        except FileNotFoundError:
            if made:
                raise
            os.makedirs(f"{state}/sessions", 0o700, exist_ok=True)
            os.chmod(state, 0o700)
            made = True


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, _NEW_FILE, 0o600)
    try:
        data = text.encode("ascii")
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _unwritable(place: str, error: OSError) -> WorkspaceError:
    return WorkspaceError(
        f"cannot keep the session in {place!r}: {error.strerror}",
        code="state",
        hint="casemate needs a writable state directory with free space; "
        "XDG_STATE_HOME chooses another",
    )
