"""`[secrets.NAME]`: which credentials a sandbox may use without ever holding them."""

from __future__ import annotations

import re
from typing import cast

from casemate.policy.model import Secret, SecretForm
from casemate.policy.values import (
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
_SOURCE = re.compile(
    r"env:[A-Za-z_][A-Za-z0-9_]*|file:.+|command:.+|keyring:.+/.+|vault:[A-Za-z0-9._-]+", re.ASCII
)


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
    readers: dict[str, Reader] = {
        "to": hosts,
        "as": _form,
        "source": _source,
        "variable": _variable_name,
        "optional": flag,
        "own_only": flag,
        "files": _files,
    }
    found = fields(table, place, readers)
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
        variable=str(found.get("variable", "")),
        optional=bool(found.get("optional", False)),
        own_only=bool(found.get("own_only", False)),
        files=cast("tuple[tuple[str, str], ...]", found.get("files", ())),
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
    if text is not None and not _SOURCE.fullmatch(text):
        place.note(
            f'"{text}" is not a source',
            "known: env:NAME, file:PATH, command:WORDS, keyring:SERVICE/USER",
        )
        return None
    return text


def _variable_name(value: object, place: Place) -> str | None:
    text = expect(value, str, place)
    if text is not None and not VARIABLE.fullmatch(text):
        place.note(f'"{text}" is not a variable name', 'as in "API_KEY"')
        return None
    return text


def _files(value: object, place: Place) -> tuple[tuple[str, str], ...] | None:
    def read(item: object, spot: Place) -> tuple[str, str] | None:
        table = fields(item, spot, {"path": text_of, "content": text_of})
        if len(table) < 2:
            spot.note("a file needs its path and content", '{ path = "~/.netrc", content = "..." }')
            return None
        path = str(table["path"])
        if not path.startswith("~/") or ".." in path.split("/") or path.endswith("/"):
            spot.note(f'"{path}" is not a file in the home', 'as in "~/.netrc"')
            return None
        return path, str(table["content"])

    return each(value, place, read)
