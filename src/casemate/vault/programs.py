"""Secrets from programs: a command of the user's, or the keyring of the desktop."""

from __future__ import annotations

import json
import shutil
import subprocess

from casemate.errors import UsageError
from casemate.vault.placeholder import LONGEST
from casemate.vault.sources import COMMAND_TIMEOUT


def from_command(name: str, words: str) -> bytes | None:
    """What a command prints; `words` is a JSON array, run without a shell. Raises `UsageError`."""
    return _output(name, json.loads(words))


def from_keyring(name: str, service: str, user: str) -> bytes | None:
    """An entry of the Secret Service, or of whatever store the `keyring` program knows.

    None for no entry. Raises `UsageError`.
    """
    if shutil.which("secret-tool"):
        command = ["secret-tool", "lookup", "service", service, "username", user]
    elif shutil.which("keyring"):
        command = ["keyring", "get", service, user]
    else:
        raise UsageError(
            f"the secret {name}: neither secret-tool nor keyring is installed",
            hint="install libsecret-tools, or the Python package keyring",
        )
    return _output(name, command, empty_on_failure=True)


def _output(name: str, command: list[str], *, empty_on_failure: bool = False) -> bytes | None:
    try:
        run = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise UsageError(
            f"the secret {name}: {command[0]} took longer than {COMMAND_TIMEOUT} s"
        ) from error
    except OSError as error:
        raise UsageError(f"the secret {name}: {command[0]}: {error.strerror}") from error
    if run.returncode:
        if empty_on_failure:
            return None
        raise UsageError(f"the secret {name}: {command[0]} ended with status {run.returncode}")
    return run.stdout[: LONGEST + 1] or None
