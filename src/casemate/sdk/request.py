"""What callers say about a command, checked and in the form the supervisor takes."""

from __future__ import annotations

import difflib
import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from casemate.errors import UsageError
from casemate.supervisor.protocol import Limit

Word = str | bytes | os.PathLike[str] | os.PathLike[bytes]

RESOURCES = {
    "cpu_time": resource.RLIMIT_CPU,
    "file_size": resource.RLIMIT_FSIZE,
    "memory": resource.RLIMIT_DATA,
    "open_files": resource.RLIMIT_NOFILE,
    "stack": resource.RLIMIT_STACK,
}
"""Limits of one command: seconds for `cpu_time`, a number for `open_files`, else bytes.
They hold for each process of the command by itself. Source: getrlimit(2)."""

SHELL = "/bin/sh"
TIMEOUT_MAX = 10 * 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Request:
    """A command to be started."""

    argv: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    directory: bytes
    time_limit_ms: int
    limits: tuple[Limit, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The command as text, for people and for `Result.command`."""
        return tuple(word.decode("utf-8", "surrogateescape") for word in self.argv)


def build(
    command: str | Sequence[Word],
    *,
    environment: Sequence[bytes],
    env: Mapping[str, str] | None,
    directory: str,
    cwd: str | os.PathLike[str] | None,
    timeout: float | None,
    limits: Mapping[str, int] | None,
) -> Request:
    """A request from the arguments of `run`.

    A command given as one string is for the shell. `environment` is what the policy gives every
    command; `env` adds to it. `cwd` is a path inside, relative to `directory`. Raises `UsageError`.
    """
    return Request(
        argv=_argv(command),
        environment=merged(environment, env),
        directory=os.fsencode(os.path.join(directory, os.fspath(cwd)) if cwd else directory),
        time_limit_ms=_milliseconds(timeout),
        limits=_limits(limits),
    )


def _argv(command: str | Sequence[Word]) -> tuple[bytes, ...]:
    words: Sequence[Word] = (SHELL, "-c", command) if isinstance(command, str) else command
    if isinstance(command, bytes) or not words:
        raise UsageError("a command is a list of words, or one string for the shell")
    argv = tuple(os.fsencode(word) for word in words)
    if any(b"\0" in word for word in argv):
        raise UsageError("a word of the command holds a zero byte")
    return argv


def merged(environment: Sequence[bytes], env: Mapping[str, str] | None) -> tuple[bytes, ...]:
    """The environment with the variables of `env` in it. Raises `UsageError` for a bad name."""
    if not env:
        return tuple(environment)
    values = dict(entry.split(b"=", 1) for entry in environment)
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise UsageError(f"{name!r} cannot be set in an environment")
        values[os.fsencode(name)] = os.fsencode(value)
    return tuple(name + b"=" + value for name, value in values.items())


def _milliseconds(timeout: float | None) -> int:
    if timeout is None:
        return 0
    if not 0 < timeout <= TIMEOUT_MAX:
        raise UsageError(f"a timeout is a positive number of seconds, not {timeout}")
    return max(1, round(timeout * 1000))


def _limits(limits: Mapping[str, int] | None) -> tuple[Limit, ...]:
    found = []
    for name, value in (limits or {}).items():
        if name not in RESOURCES:
            near = difflib.get_close_matches(name, RESOURCES, 1)
            known = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(RESOURCES)}"
            raise UsageError(f"{name!r} is not a limit of a command", hint=known)
        if value < 0:
            raise UsageError(f"the limit {name!r} cannot be negative")
        found.append((RESOURCES[name], value, value))
    return tuple(found)
