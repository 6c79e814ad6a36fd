"""Where a secret's value comes from, read by the user's own program when a session starts.

On the start-up path: the environment and files need no further import.
"""

from __future__ import annotations

import os

from casemate.errors import UsageError

COMMAND_SECONDS = 30
SIZE_MAX = 64 << 10


class MissingError(UsageError):
    """There is no value where one was looked for."""


def read(name: str, source: str) -> bytes:
    """The value of the secret `name`. `source` is `env:NAME`, `file:PATH`, `command:WORDS` or
    `keyring:SERVICE/USER`; "" is the variable of the secret's own name.

    Raises `MissingError` where there is none, `UsageError` where it cannot be used.
    """
    kind, _, place = source.partition(":")
    if not source or kind == "env":
        return _variable(name, place or name)
    if kind == "file":
        return _file(name, place)
    if kind == "command":
        import shlex

        return _command(name, shlex.split(place))
    if kind == "keyring":
        service, _, user = place.rpartition("/")
        return _command(name, ["secret-tool", "lookup", "service", service, "username", user])
    raise UsageError(f"the secret {name}: {kind} is not a source in this release")


def _variable(name: str, variable: str) -> bytes:
    value = os.environb.get(os.fsencode(variable), b"")
    if not value:
        raise MissingError(
            f"the secret {name} has no value: the variable {variable} is not set",
            hint=f"export {variable}=..., or give another secrets.{name}.source",
        )
    return value


def _file(name: str, path: str) -> bytes:
    place = os.path.expanduser(path)
    try:
        with open(place, "rb") as file:
            value = file.read(SIZE_MAX + 1)
    except OSError as error:
        kind = MissingError if isinstance(error, FileNotFoundError) else UsageError
        raise kind(f"the secret {name} cannot be read: {place}: {error.strerror}") from error
    return _line(name, value, place)


def _command(name: str, words: list[str]) -> bytes:
    import subprocess

    if not words:
        raise UsageError(f"the secret {name}: its source names no command")
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = getattr(error, "strerror", None) or f"no answer in {COMMAND_SECONDS} s"
        raise UsageError(f"the secret {name} cannot be read: {words[0]}: {reason}") from error
    if done.returncode != 0:
        raise MissingError(
            f"the secret {name} cannot be read: {words[0]} ended with status {done.returncode}"
        )
    return _line(name, done.stdout, words[0])


def _line(name: str, value: bytes, place: str) -> bytes:
    value = value.strip(b"\r\n")
    if not value or len(value) > SIZE_MAX:
        raise UsageError(f"the secret {name} has no value that can be used: {place}")
    return value
