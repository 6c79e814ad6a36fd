"""The sandbox's /etc as one directory on disk: made once, mounted read-only at every start.

Dozens of small files and directories cost half a millisecond to make each time; a mount costs
twenty microseconds. The directory is named by its content and never changed, so sessions that use
it and later plans that need another one do not meet.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence

from casemate.plan.model import Bind, Directory, Evidence, File, Mask, Step, Symlink

ETC = "/etc"
REASON = "the sandbox's own"


def with_prepared_etc(
    steps: tuple[Step, ...], store: str
) -> tuple[tuple[Step, ...], tuple[Evidence, ...]]:
    """The steps with /etc as one mount of a directory below `store`, and what they now rest on.

    The steps as they were where the store cannot be written.
    """
    made = [s for s in steps if _below(s) and isinstance(s, File | Directory | Symlink)]
    mounted = [s for s in steps if _below(s) and isinstance(s, Bind | Mask)]
    if any(_below(s) and s not in made and s not in mounted for s in steps) or not made:
        return steps, ()
    path = os.path.join(store, _digest(made, mounted))
    try:
        if not os.path.isdir(path):
            _build(path, made, mounted)
    except OSError:
        return steps, ()
    result: list[Step] = []
    for step in steps:
        if step in made:
            continue
        if step in mounted and not any(s.target == ETC for s in result):
            result.append(Bind(path, ETC, False, REASON))
        result.append(step)
    if not mounted:
        result.insert(0, Bind(path, ETC, False, REASON))
    status = os.lstat(path)
    fact = (status.st_mode & 0o170000, status.st_dev, status.st_ino, status.st_uid)
    return tuple(result), (Evidence(path, fact, content=False),)


def _below(step: Step) -> bool:
    return step.target.startswith(ETC + "/")


def _digest(made: Sequence[Step], mounted: Sequence[Step]) -> str:
    text = repr([made, [(step.target, _is_directory(step)) for step in mounted]])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _is_directory(step: Step) -> bool:
    return os.path.isdir(step.source) if isinstance(step, Bind) else os.path.isdir(step.target)


def _build(path: str, made: Sequence[Step], mounted: Sequence[Step]) -> None:
    """Makes the directory beside its place and renames it there, so that it is never half made."""
    temporary = f"{path}.{os.getpid()}"
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    try:
        os.mkdir(temporary, 0o755)
        for step in made:
            place = temporary + step.target.removeprefix(ETC)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            if isinstance(step, Symlink):
                os.symlink(step.destination, place)
            elif isinstance(step, Directory):
                os.makedirs(place, exist_ok=True)
            elif isinstance(step, File):
                _write(place, step.content, step.mode)
        for step in mounted:
            place = temporary + step.target.removeprefix(ETC)
            os.makedirs(place if _is_directory(step) else os.path.dirname(place), exist_ok=True)
            if not _is_directory(step) and not os.path.lexists(place):
                _write(place, b"", 0o444)
        _open_up(temporary)
        os.rename(temporary, path)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        # Another run may have made the same one meanwhile.
        if not os.path.isdir(path):
            raise


def _write(path: str, content: bytes, mode: int) -> None:
    with open(path, "xb") as file:
        file.write(content)
    os.chmod(path, mode)


def _open_up(path: str) -> None:
    """Whatever the user's umask, the sandbox's identity must be able to read it all."""
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o755)
