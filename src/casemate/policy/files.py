"""Reading one policy file without being led elsewhere."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from casemate.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Content:
    """What a file held, and who could have written it."""

    data: bytes
    owner: int
    mode: int


def read_regular(path: str, size_max: int, *, follow: bool = False) -> Content | None:
    """The content of a regular file of at most `size_max` bytes, or None if there is none.

    A symbolic link is followed only if asked. Raises `PolicyError` for anything else.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise PolicyError(
                "is a symbolic link, which is not followed here", path=path
            ) from error
        raise PolicyError(f"cannot be read: {error.strerror}", path=path) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise PolicyError("is not a regular file", path=path)
        data = os.read(descriptor, size_max + 1)
    finally:
        os.close(descriptor)
    if len(data) > size_max:
        raise PolicyError(f"is larger than {size_max} bytes", path=path)
    return Content(data, status.st_uid, status.st_mode)
