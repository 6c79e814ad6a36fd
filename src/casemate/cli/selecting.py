"""From what the command line says to a session and the paths in it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from casemate.cli.prepare import find_project, start_directory
from casemate.errors import UsageError
from casemate.policy.locations import locate
from casemate.workspace.changes import Key
from casemate.workspace.review import Review
from casemate.workspace.store import Session, Store

_ID = re.compile(r"[0-9a-z]{4}|[0-9]{8}(-[0-9]{0,6}(-[a-z0-9]{0,4})?)?")
"""A session's id, its beginning from the date on, or its last four characters."""


def store_here() -> Store:
    """The sessions of the user."""
    return Store(locate(os.environ).state)


def project_at(directory: str | None) -> str:
    """The project that `-C DIR`, or the working directory, is in."""
    return find_project(start_directory(directory), locate(os.environ).home)


def choose(
    store: Store, items: Sequence[str], directory: str | None
) -> tuple[Session, tuple[str, ...]]:
    """The session and the paths of `[SESSION] [PATH...]`.

    The first word is a session if it reads like one and there is one, unless a file has that name.
    Raises `UsageError`.
    """
    words = tuple(items)
    if words and _ID.fullmatch(words[0]) and not os.path.lexists(words[0]):
        try:
            return store.find(words[0]), words[1:]
        except UsageError:
            if len(words[0]) > 4:
                raise
    return store.find(project=project_at(directory)), words


def locate_all(review: Review, paths: Sequence[str], directory: str | None) -> tuple[Key, ...]:
    """The places in the session that paths of the command line mean. Raises `UsageError`."""
    base = start_directory(directory) if directory else None
    return tuple(review.locate(path, directory=base) for path in paths)
