"""Readers for `[secrets.NAME]`: where a credential comes from, where it goes, in which form."""

from __future__ import annotations

import json
import os
import re
from typing import cast

from casemate.policy.model import CredentialFile, Secret, SecretForm
from casemate.policy.values import (
    RESERVED_VARIABLES,
    VARIABLE,
    Place,
    Reader,
    each,
    expect,
    fields,
    flag,
    hosts,
    text_of,
)

_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII)
SOURCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:[^\0]+|keyring:[^/\0]+/[^\0]+", re.ASCII)


def secrets(value: object, place: Place) -> tuple[Secret, ...] | None:
    """`[secrets.NAME]` tables."""
    table = expect(value, dict, place)
    if table is None:
        return None
    read = (_secret(name, item, place.at(name)) for name, item in table.items())
    return tuple(secret for secret in read if secret is not None)


def _secret(name: str, value: object, place: Place) -> Secret | None:
    table = expect(value, dict, place)
    if table is None:
        return None
    if not VARIABLE.fullmatch(name):
        place.note(f'"{name}" cannot be a variable that holds the placeholder')
        return None
    found = fields(table, place, _READERS)
    to = found.get("to")
    if not isinstance(to, tuple) or not to:
        if "to" not in table or to == ():
            place.note("a secret needs the hosts it belongs to", 'to = ["api.example.com"]')
        return None
    form, form_name = cast("tuple[SecretForm, str]", found.get("as", ("bearer", "")))
    return Secret(
        name=name,
        to=to,
        form=form,
        form_name=form_name,
        source=str(found.get("source", "")),
        environment=str(found.get("environment", "")),
        files=cast("tuple[CredentialFile, ...]", found.get("files", ())),
        own_only=bool(found.get("own_only", False)),
        optional=bool(found.get("optional", False)),
        origin=place.origin,
    )


def _form(value: object, place: Place) -> tuple[SecretForm, str] | None:
    text = expect(value, str, place)
    if text is None:
        return None
    kind, colon, name = text.partition(":")
    if kind in ("header", "query", "body") and _FIELD_NAME.fullmatch(name):
        return kind, name  # type: ignore[return-value]
    if kind in ("bearer", "basic", "sigv4") and not colon:
        return kind, ""  # type: ignore[return-value]
    forms = ("bearer", "basic", "header:NAME", "query:NAME", "body:NAME", "sigv4")
    place.note(f'"{text}" is not a form of secret', "known: " + ", ".join(forms))
    return None


def _source(value: object, place: Place) -> str | None:
    text = expect(value, str, place)
    if text is None:
        return None
    command = _command(text) if text.startswith("command:") else None
    if command is None and not SOURCE.fullmatch(text):
        known = 'env:NAME, file:PATH, keyring:SERVICE/USER, command:["PROGRAM", "ARGUMENT"]'
        place.note(f'"{text}" is not a source', f"known: {known}")
        return None
    path = text.removeprefix("file:").partition("#")[0]
    if text.startswith("file:") and not path.startswith(("/", "~/")):
        if not place.base:
            place.note(f'"{text}" is relative', "a preset names absolute paths or ones under ~")
            return None
        return "file:" + os.path.join(place.base, text.removeprefix("file:"))
    return text


def _command(text: str) -> list[str] | None:
    """The words of `command:[...]`, or None when that is not an array of texts in JSON."""
    try:
        words = json.loads(text.removeprefix("command:"))
    except (ValueError, RecursionError):
        return None
    whole = isinstance(words, list) and words and all(isinstance(word, str) for word in words)
    return words if whole and words[0] and "\0" not in "".join(words) else None


def _variable(value: object, place: Place) -> str | None:
    text = expect(value, str, place)
    if text is not None and (not VARIABLE.fullmatch(text) or text in RESERVED_VARIABLES):
        place.note(f'"{text}" cannot be a variable that holds the placeholder')
        return None
    return text


def _files(value: object, place: Place) -> tuple[CredentialFile, ...] | None:
    return each(value, place, _file)


def _file(value: object, place: Place) -> CredentialFile | None:
    if isinstance(value, dict):
        readers: dict[str, Reader] = {"path": text_of, "content": text_of, "copy": text_of}
        table = {key: str(text) for key, text in fields(value, place, readers).items()}
    else:
        text = expect(value, str, place)
        table = {} if text is None else {"path": text}
    if not table:
        return None
    path = table.get("path") or table.get("copy", "")
    for text in (path, table.get("copy", "~/x")):
        parts = text.split("/")
        if not text.startswith("~/") or ".." in parts or "" in parts[1:] or "\0" in text:
            place.note(f'"{text}" is not a file below the home', 'as in "~/.netrc"')
            return None
    if "content" in table and "copy" in table:
        place.note("a file has either content or copy")
        return None
    return CredentialFile(path, table.get("content", ""), table.get("copy", ""))


_READERS: dict[str, Reader] = {
    "to": hosts,
    "as": _form,
    "source": _source,
    "environment": _variable,
    "files": _files,
    "own_only": flag,
    "optional": flag,
}
