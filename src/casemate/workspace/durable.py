"""Files that are there whole or not at all, also after a power cut."""

from __future__ import annotations

import json
import os
from typing import Any


def write(path: str, data: bytes) -> None:
    """Replace the file `path` by `data`: temporary file, fsync, rename, fsync of the directory.

    Raises `OSError`; then the old file is as it was.
    """
    temporary = f"{path}.new"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
    synchronise_directory(os.path.dirname(path))


def write_json(path: str, value: object) -> None:
    """`write` of `value` as JSON in ASCII."""
    write(path, json.dumps(value, separators=(",", ":")).encode("ascii") + b"\n")


def read_json(path: str) -> Any:
    """The value in the file; raises `OSError` or `ValueError`."""
    with open(path, "rb") as file:
        return json.loads(file.read())


def move(old: str, new: str) -> None:
    """rename(2) that has reached the disk on return."""
    os.rename(old, new)
    synchronise_directory(os.path.dirname(new))
    if os.path.dirname(old) != os.path.dirname(new):
        synchronise_directory(os.path.dirname(old))


def synchronise_directory(path: str) -> None:
    """fsync(2) of a directory, so that names made in it stay."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
