"""File verbs as commands: every access to a file of the sandbox is made by a process inside it.

So all its rules hold, and no path that came out of a sandbox is ever opened on the host. Each
function gives a `Call`: what to run, and how to read its answer. The programs are those of POSIX
(and find, stat with the options that GNU and busybox share), looked for in system directories
only, which nothing inside can write.
"""

from __future__ import annotations

import os
import signal
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from casemate.errors import SandboxError
from casemate.sdk.result import Result, last_line

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin:/usr/sbin:/sbin:/run/current-system/sw/bin",
    "LC_ALL": "C",
}
TIMEOUT = 60.0
"""Seconds one file verb may take: a fifo would keep it waiting for ever."""

EntryType = Literal["file", "directory", "symlink", "other"]
Path = str | os.PathLike[str]
T = TypeVar("T")

CODES = {
    "No such file or directory": "not-found",
    "Directory nonexistent": "not-found",
    "Permission denied": "permission-denied",
    "Operation not permitted": "permission-denied",
    "Read-only file system": "permission-denied",
    "Is a directory": "is-a-directory",
    "Not a directory": "not-a-directory",
    "File exists": "exists",
    "No space left on device": "no-space",
    "Disk quota exceeded": "no-space",
    "File too large": "no-space",
}
"""What strerror(3) says, and the code of the error that is raised for it."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """One entry of a directory inside the sandbox. What it says came from inside."""

    name: str
    path: str
    type: EntryType
    size: int
    """Bytes."""
    mode: int
    """Permission bits."""
    modified: int
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A command to run inside, what it reads, and how its result answers the question."""

    argv: tuple[str, ...]
    answer: Callable[[Result], T]
    input: bytes = b""


def script(text: str, *arguments: str) -> tuple[str, ...]:
    """A command line for the shell."""
    return ("/bin/sh", "-c", text, "sh", *arguments)


def read(path: str) -> Call[bytes]:
    """The content of a file."""

    def answer(result: Result) -> bytes:
        _require(result, "read", path)
        return result.stdout_bytes

    return Call(("cat", "--", path), answer)


def write(path: str, data: bytes) -> Call[None]:
    """Writes a file; directories that lack are made, what was there is replaced."""
    return _plain(script('mkdir -p -- "${1%/*}/" && exec cat >"$1"', path), "write", path, data)


def exists(path: str) -> Call[bool]:
    """Whether there is anything at the path; a link counts, wherever it leads."""

    def answer(result: Result) -> bool:
        if result.exit_code not in (0, 1):
            _require(result, "look at", path)
        return result.exit_code == 0

    return Call(script('test -e "$1" || test -L "$1"', path), answer)


def remove(path: str) -> Call[None]:
    """Removes a file, or a directory with all it holds."""
    return _plain(("rm", "-r", "--", path), "remove", path)


def rename(old: str, new: str) -> Call[None]:
    """Moves a file or directory to exactly the new path."""
    return _plain(script('test ! -d "$2" || exit 3; exec mv -- "$1" "$2"', old, new), "move", old)


def make_dir(path: str) -> Call[bool]:
    """Makes a directory and those above it; False if it was there."""

    def answer(result: Result) -> bool:
        if result.exit_code == 3:
            return False
        _require(result, "make", path)
        return True

    return Call(script('test -d "$1" && exit 3; exec mkdir -p -- "$1"', path), answer)


# Names, which may hold newlines, go to one stream, each ended by a zero byte; what stat(1) says
# of them, in the same order, to the other.
_LIST = """\
exec find "$1" -mindepth 1 -maxdepth "$2" -print0 \
-exec sh -c 'exec stat -c "%f %s %Y" -- "$@" >&2' sh {} +"""


def entries(path: str, depth: int) -> Call[list[FileInfo]]:
    """What a directory holds, by name; with a depth above 1, what those in it hold too."""
    start = path.rstrip("/") + "/"

    def answer(result: Result) -> list[FileInfo]:
        _require(result, "list", path)
        names = result.stdout_bytes.split(b"\0")[:-1]
        facts = result.stderr_bytes.splitlines()
        if len(names) != len(facts):
            raise SandboxError(f"cannot list {path!r}: it changed meanwhile", code="changed")
        found = [_info(os.fsdecode(name), fact) for name, fact in zip(names, facts, strict=True)]
        return sorted(found, key=lambda entry: entry.path)

    return Call(script(_LIST, start, str(depth)), answer)


def info(path: str) -> Call[FileInfo]:
    """What is at one path; a link is not followed."""

    def answer(result: Result) -> FileInfo:
        _require(result, "look at", path)
        return _info(path, result.stdout_bytes)

    return Call(("stat", "-c", "%f %s %Y", "--", path), answer)


def _info(path: str, fact: bytes) -> FileInfo:
    try:
        mode_text, size, modified = fact.split()
        mode = int(mode_text, 16)
        return FileInfo(
            path.rpartition("/")[2], path, _type(mode), int(size), mode & 0o7777, int(modified)
        )
    except ValueError as problem:
        raise SandboxError(f"cannot look at {path!r}: {last_line(repr(fact))}") from problem


def _type(mode: int) -> EntryType:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "directory"
    return "symlink" if stat.S_ISLNK(mode) else "other"


def _plain(argv: tuple[str, ...], verb: str, path: str, data: bytes = b"") -> Call[None]:
    def answer(result: Result) -> None:
        _require(result, verb, path)

    return Call(argv, answer, data)


def _require(result: Result, verb: str, path: str) -> None:
    """Raises `SandboxError` unless the command did what it was asked to."""
    if result.exit_code == 0 and not result.truncated:
        return
    if result.truncated:
        raise SandboxError(f"cannot {verb} {path!r}: it is larger than the limit", code="too-large")
    if result.timed_out:
        raise SandboxError(f"cannot {verb} {path!r}: it took too long", code="timeout")
    if result.signal == signal.SIGXFSZ:
        # The limit on a single file's size, as large as the whole layer, speaks by a signal.
        raise SandboxError(f"cannot {verb} {path!r}: File too large", code="no-space")
    line = last_line(result.stderr)
    reason = line.rpartition(": ")[2] or result.ending
    raise SandboxError(f"cannot {verb} {path!r}: {reason}", code=CODES.get(reason, "sandbox"))
