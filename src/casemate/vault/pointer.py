"""A value inside a JSON file by its JSON pointer. Source: RFC 6901."""

from __future__ import annotations

import json

from casemate.errors import UsageError


def find_in_json(name: str, path: str, data: bytes, pointer: str) -> bytes | None:
    """The text the pointer leads to; None if nothing is there. Raises `UsageError`."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the secret {name}: {path} is not JSON") from error
    for part in pointer.removeprefix("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and len(key) < 9 and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    if value is None:
        return None
    if not isinstance(value, str):
        raise UsageError(f"the secret {name}: {path}#{pointer} is not a text")
    return value.encode()
