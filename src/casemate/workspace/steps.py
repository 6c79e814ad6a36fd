"""One step of a transaction: checked, taken by one system call, verified.

Each step opens the directory anew, beneath the root and through no link, and works relative to
that descriptor, so that a directory swapped for a link in between changes nothing outside.
"""

from __future__ import annotations

import errno
import os
import stat

from casemate.errors import ConflictError
from casemate.workspace import beneath, names, staging
from casemate.workspace.entry import (
    Entry,
    digest_descriptor,
    from_status,
    mode_for,
    observe,
    same_mode,
)
from casemate.workspace.journal import Step


def execute(step: Step, root: int, place: int) -> None:
    """Take one step. Raises `ConflictError` or `OSError`; the path is then as it was."""
    if step.action == "chmod":
        now = observe(root, step.path, digest=False)
        require(step, now, content=False)
        beneath.change_mode(root, step.path, mode_for(now, step.after))
        return
    with beneath.open_parent(root, step.path) as (parent, name):
        if step.action == "mkdir":
            _make_directory(parent, name, step)
        elif step.action == "rmdir":
            _remove_directory(parent, name, step)
        elif step.action == "place":
            _place(step, parent, name, place)
        else:
            _displace(step, parent, name, place)
        if step.action in ("place", "swap"):
            _verify(step, root, parent, name, place)


def require(step: Step, now: Entry, *, content: bool = True) -> None:
    """Raise `ConflictError` unless `now` is what the step expects to find."""
    before = step.before
    same = before.kind == now.kind
    if before.kind == "file" or step.action == "chmod":
        same = same and same_mode(before, now)
    if not same or (content and not before.same_content(now)):
        raise _conflict(step)


def _place(step: Step, parent: int, name: bytes, place: int) -> None:
    try:
        beneath.place(place, step.slot.encode(), parent, name)
    except FileExistsError:
        raise _conflict(step) from None


def _displace(step: Step, parent: int, name: bytes, place: int) -> None:
    """Move what is at the path into the staging directory, for a `swap` in exchange."""
    slot = step.slot.encode()
    _check_now(step, parent, name)
    if step.action == "take":
        beneath.place(parent, name, place, slot)
    else:
        beneath.exchange(place, slot, parent, name)
    # Whatever came between the check and the move is seen here, and taken back.
    displaced = from_status(os.stat(slot, dir_fd=place, follow_symlinks=False))
    if displaced.identity != step.before.identity:
        if step.action == "take":
            beneath.place(place, slot, parent, name)
        else:
            beneath.exchange(place, slot, parent, name)
        raise _conflict(step)


def _check_now(step: Step, parent: int, name: bytes) -> None:
    """Raise `ConflictError` unless the entry is still the one in the journal, by digest too."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        raise _conflict(step) from None
    now = from_status(status)
    if now.kind != step.before.kind or now.identity != step.before.identity:
        raise _conflict(step)
    if now.kind == "file" and now.mode != step.before.mode:
        raise _conflict(step)
    if now.kind == "file" and step.before.digest:
        descriptor = beneath.open_file(parent, name)
        try:
            digest, _ = digest_descriptor(descriptor)
        finally:
            os.close(descriptor)
        if digest != step.before.digest:
            raise _conflict(step)


def _verify(step: Step, root: int, parent: int, name: bytes, place: int) -> None:
    """The new entry must be found at its path from the root: the directory may have been moved
    away between opening it and the rename."""
    try:
        found = beneath.status(root, step.path)
    except OSError:
        found = None
    if found is not None and found.st_ino == step.after.inode:
        return
    slot = step.slot.encode()
    if step.action == "place":
        beneath.place(parent, name, place, slot)
    else:
        beneath.exchange(place, slot, parent, name)
    raise _conflict(step)


def _make_directory(parent: int, name: bytes, step: Step) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        raise _conflict(step) from None
    descriptor = beneath.open_directory(parent, name)
    try:
        staging.give_owner(parent, descriptor)
        inherited = os.fstat(descriptor).st_mode & stat.S_ISGID
        os.fchmod(descriptor, step.after.mode | inherited)
    finally:
        os.close(descriptor)


def _remove_directory(parent: int, name: bytes, step: Step) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT, errno.ENOTDIR):
            raise _conflict(step) from error
        raise


def _conflict(step: Step) -> ConflictError:
    shown = names.display(step.path)
    return ConflictError(
        f"{shown} changed on this machine a moment ago; nothing was applied",
        paths=(names.to_text(step.path),),
        hint="look at it with `casemate diff` and try again",
    )
