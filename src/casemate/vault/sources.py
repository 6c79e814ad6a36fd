"""Reads the values of secrets at launch, in the process of whoever starts it. On the start path.

Values go on in a sealed memory file that only the vault reads. What the run hands around otherwise
is a definition: a dict of plain texts, fit for JSON, without the value.
"""

from __future__ import annotations

import os

from casemate.errors import UsageError
from casemate.vault.placeholder import LONGEST, placeholder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from casemate.policy.model import Secret

COMMAND_TIMEOUT = 60
"""Seconds a command or the keyring may take: it may ask the user for a passphrase."""


class Held:
    """A secret that was read: its definition, its value, its placeholder."""

    __slots__ = ("definition", "placeholder", "value")

    def __init__(self, definition: dict[str, Any], value: bytes, stand_in: bytes) -> None:
        self.definition, self.value, self.placeholder = definition, value, stand_in

    @property
    def name(self) -> str:
        """The name of the secret."""
        return str(self.definition["name"])


def definition(secret: Secret) -> dict[str, Any]:
    """What a launch remembers of a secret, and the broker is told."""
    return {
        "name": secret.name,
        "to": list(secret.to),
        "form": secret.form,
        "form_name": secret.form_name,
        "own_only": secret.own_only,
        "source": secret.source or f"env:{secret.name}",
        "environment": secret.environment or secret.name,
        "files": [[file.path, file.content, file.copy] for file in secret.files],
        "optional": secret.optional,
    }


def read(definitions: Iterable[dict[str, Any]], environment: Mapping[bytes, bytes]) -> list[Held]:
    """Reads every secret and gives it a placeholder. Raises `UsageError` for one that is missing.

    An optional secret that its source does not have is left out.
    """
    held: list[Held] = []
    values: set[bytes] = set()
    for each in definitions:
        value = _value(each, environment)
        if value is None:
            if each.get("optional"):
                continue
            raise _missing(each)
        values.add(value)
        taken = {one.placeholder for one in held} | values
        held.append(Held(each, value, placeholder(each["name"], value, taken)))
    return held


def variables(held: Iterable[Held]) -> list[tuple[bytes, bytes]]:
    """The environment variables inside: each with a placeholder."""
    return [(one.definition["environment"].encode(), one.placeholder) for one in held]


def seal(held: Iterable[Held]) -> int:
    """A memory file with the values, sealed against change; the caller closes it.

    Fields as in the vault's protocol: name, placeholder, value for every secret.
    """
    import fcntl

    descriptor = os.memfd_create("secrets", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        for one in held:
            for field in (one.name.encode(), one.placeholder, one.value):
                os.write(descriptor, len(field).to_bytes(4, "little") + field)
        seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _value(each: Mapping[str, Any], environment: Mapping[bytes, bytes]) -> bytes | None:
    kind, _, place = str(each["source"]).partition(":")
    if kind == "env":
        value = environment.get(place.encode())
    elif kind == "file":
        value = _file(each["name"], place)
    elif kind == "keyring":
        value = _keyring(each["name"], place)
    else:
        value = _command(each["name"], place)
    # An editor or a program ends its line; a key in PEM form has lines of its own.
    if value and value.count(b"\n") == 1 and kind != "env":
        value = value.removesuffix(b"\n").removesuffix(b"\r")
    return value or None


def _file(name: str, place: str) -> bytes | None:
    path, _, pointer = place.partition("#")
    path = os.path.expanduser(path)
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read((1 << 20) + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UsageError(f"the secret {name}: {path}: {error.strerror}") from error
    if not pointer:
        return data[: LONGEST + 1]
    from casemate.vault.pointer import find_in_json

    return find_in_json(name, path, data, pointer)


def _keyring(name: str, place: str) -> bytes | None:
    from casemate.vault.programs import from_keyring

    service, _, user = place.partition("/")
    return from_keyring(name, service, user)


def _command(name: str, place: str) -> bytes | None:
    from casemate.vault.programs import from_command

    return from_command(name, place)


def _missing(each: Mapping[str, Any]) -> UsageError:
    kind, _, place = str(each["source"]).partition(":")
    name = each["name"]
    where = {
        "env": f"the variable {place} is not set",
        "file": f"{place} does not exist or holds nothing there",
        "keyring": f"the keyring has no entry {place}",
    }.get(kind, "the command printed nothing")
    service, _, user = place.partition("/")
    how = {
        "env": f"export {place}=...",
        "file": f"put the secret into {place.partition('#')[0]}",
        "keyring": f"secret-tool store --label={name} service {service} username {user}",
    }.get(kind, f"try the command by hand: {place}")
    return UsageError(
        f"the secret {name} is missing: {where} (source {each['source']})",
        hint=f"{how}; or write optional = true in [secrets.{name}]",
    )
