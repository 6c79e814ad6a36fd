"""The secrets of a session, from where they are kept to the vault. On the start-up path.

The values are in this process from the moment they are read until they are in a sealed memory
file; the sandbox gets the placeholders.
"""

from __future__ import annotations

import fcntl
import os

from casemate.vault.placeholder import placeholder
from casemate.vault.protocol import pack_entry
from casemate.vault.sources import MissingError, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_F_ADD_SEALS, _SEALS = 1033, 1 | 2 | 4 | 8


class Handover:
    """What one session needs of its secrets."""

    __slots__ = ("descriptor", "files", "variables")

    def __init__(
        self, descriptor: int, variables: list[tuple[bytes, bytes]], files: list[tuple[str, bytes]]
    ) -> None:
        self.descriptor = descriptor
        """A sealed memory file with the values, for the vault."""
        self.variables = variables
        self.files = files
        """Paths below the home, and contents, both with placeholders only."""


def hand_over(secrets: Sequence[dict[str, Any]]) -> Handover:
    """Reads the secrets and makes their placeholders; each is a `Secret` as a cached launch holds
    it. Raises `UsageError`."""
    entries = []
    variables = []
    templates: list[tuple[str, str]] = []
    known: dict[str, bytes] = {}
    for secret in secrets:
        name = secret["name"]
        try:
            value = read(name, secret["source"])
        except MissingError:
            if secret["optional"]:
                continue
            raise
        fake = placeholder(name, value)
        known[name] = fake
        variables.append(((secret["variable"] or name).encode(), fake))
        form = (secret["form"], secret["form_name"], secret["own_only"], secret["to"])
        entries.append(pack_entry(name, value, fake, *form))
        templates += secret["files"]
    files = [(path, filled(content, known)) for path, content in templates]
    descriptor = os.memfd_create("secrets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(descriptor, b"".join(entries))
    fcntl.fcntl(descriptor, _F_ADD_SEALS, _SEALS)
    return Handover(descriptor, variables, files)


def filled(content: str, placeholders: dict[str, bytes]) -> bytes:
    """A file's content with `${NAME}` replaced by the placeholder of that name."""
    data = os.fsencode(content)
    for name, fake in placeholders.items():
        data = data.replace(b"${" + name.encode() + b"}", fake)
    return data
