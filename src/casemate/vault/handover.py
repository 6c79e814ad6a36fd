"""The secrets of a session, from where they are kept to the vault. On the start-up path.

The values are in this process from the moment they are read until they are in a sealed memory
file; the sandbox gets the placeholders.
"""

from __future__ import annotations

import fcntl
import os

from casemate.vault.placeholder import placeholder
from casemate.vault.protocol import pack_entry
from casemate.vault.sources import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Described = tuple[str, str, str, str, str, bool, tuple[str, ...], tuple[tuple[str, str], ...]]
    """Name, source, variable, form, form name, own only, hosts, files: a `Secret` that a cached
    launch can hold."""

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


def hand_over(secrets: Sequence[Described]) -> Handover:
    """Reads the secrets and makes their placeholders. Raises `UsageError`."""
    entries = []
    variables = []
    known: dict[str, bytes] = {}
    for name, source, variable, form, form_name, own_only, hosts, _ in secrets:
        value = read(name, source)
        fake = placeholder(name, value)
        known[name] = fake
        variables.append(((variable or name).encode(), fake))
        entries.append(pack_entry(name, value, fake, form, form_name, own_only, hosts))
    files = [(path, filled(content, known)) for secret in secrets for path, content in secret[7]]
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
