"""New content prepared beside the project, with the metadata it will have in its place."""

from __future__ import annotations

import errno
import os
import stat
import time
from dataclasses import replace
from typing import Protocol

from casemate.errors import WorkspaceError
from casemate.workspace import beneath, names
from casemate.workspace.archive import Archive, Record
from casemate.workspace.entry import Entry, digest_descriptor, from_status

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 1 << 20
_NOT_COPIED = ("security.capability", "trusted.", "security.ima", "security.evm")
"""Extended attributes that a new content must not take over: privileges, and bookkeeping."""


class Source(Protocol):
    """Where the content of a new file comes from."""

    def stage(self, directory: int, slot: str) -> bool:
        """Make the file `slot` with the content in the open `directory`.

        True if it is an inode that already has its metadata. Raises `OSError`.
        """


class ArchiveSource:
    """A file of a change archive. Holes stay holes."""

    def __init__(self, opened: Archive, record: Record) -> None:
        self._archive = opened
        self._record = record

    def stage(self, directory: int, slot: str) -> bool:
        descriptor = os.open(slot, _NEW, 0o600, dir_fd=directory)
        try:
            os.ftruncate(descriptor, self._record.size)
            for offset, block in self._archive.blocks(self._record):
                _write_all(descriptor, block, offset)
        finally:
            os.close(descriptor)
        return False


class PreimageSource:
    """A file kept when it was displaced: linked where possible, so that it is the same inode."""

    def __init__(self, directory: str, slot: str) -> None:
        self._path = f"{directory}/{slot}"

    def stage(self, directory: int, slot: str) -> bool:
        try:
            os.link(self._path, slot, dst_dir_fd=directory, follow_symlinks=False)
            return True
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, *beneath.UNSUPPORTED):
                raise
        source = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            copy_file(source, directory, slot)
        finally:
            os.close(source)
        return False


def copy_file(source: int, directory: int, slot: str) -> None:
    """Copy the open regular file with its mode, times, attributes and, as root, owner."""
    descriptor = os.open(slot, _NEW, 0o600, dir_fd=directory)
    try:
        status = os.fstat(source)
        os.ftruncate(descriptor, status.st_size)
        for start, end in _data(source, status.st_size):
            offset = start
            while offset < end:
                block = os.pread(source, min(_BLOCK, end - offset), offset)
                if not block:
                    break
                _write_all(descriptor, block, offset)
                offset += len(block)
        _copy_attributes(source, descriptor)
        _own(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        os.utime(descriptor, ns=(status.st_atime_ns, status.st_mtime_ns))
    finally:
        os.close(descriptor)


def stage_file(
    root: int, path: bytes, before: Entry, after: Entry, source: Source, directory: int, slot: str
) -> Entry:
    """Stage the regular file that will replace `before` at `path`, and give its entry.

    Owner, group, ACL and other extended attributes are those of the file replaced; a new file
    takes owner (as root), group (in a setgid directory) and default ACL from its directory. Mode
    and modification time are those of `after`, the time at most now. Raises `WorkspaceError`
    where the content is not the one that was reviewed.
    """
    complete = source.stage(directory, slot)
    descriptor = os.open(slot, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        if not complete:
            _take_over(root, path, before, after, descriptor)
            os.fchmod(descriptor, after.mode & 0o7777)
            modified = min(after.mtime_ns, time.time_ns())
            os.utime(descriptor, ns=(modified, modified))
        digest, _ = digest_descriptor(descriptor)
        staged = replace(from_status(os.fstat(descriptor)), digest=digest)
        # A file deleted along with its directory was not digested; size and time are then known.
        same = (staged.size, staged.mtime_ns) == (after.size, after.mtime_ns)
        if digest != after.digest if after.digest else not same:
            raise WorkspaceError(
                f"the content kept for {names.display(path)} is not the one reviewed",
                code="damaged",
            )
        return staged
    finally:
        os.close(descriptor)


def stage_symlink(after: Entry, directory: int, slot: str) -> Entry:
    """Stage a symbolic link, and give its entry."""
    os.symlink(after.target, os.fsencode(slot), dir_fd=directory)
    status = os.stat(slot, dir_fd=directory, follow_symlinks=False)
    return replace(from_status(status), target=after.target)


def keep_preimage(root: int, path: bytes, entry: Entry, directory: int, slot: str) -> None:
    """Copy what lies at `path` into the open `directory` before it is displaced."""
    if entry.kind == "symlink":
        os.symlink(entry.target, os.fsencode(slot), dir_fd=directory)
        return
    source = beneath.open_file(root, path)
    try:
        copy_file(source, directory, slot)
    finally:
        os.close(source)


def give_owner(parent: int, descriptor: int) -> None:
    """As root, give a new directory to the owner of the one that holds it."""
    above = os.fstat(parent)
    if os.geteuid() == 0 and os.fstat(descriptor).st_uid != above.st_uid:
        group = os.fstat(descriptor).st_gid if above.st_mode & stat.S_ISGID else above.st_gid
        os.fchown(descriptor, above.st_uid, group)


def _take_over(root: int, path: bytes, before: Entry, after: Entry, descriptor: int) -> None:
    """Owner and extended attributes from the file replaced, or else from the directory."""
    if before.kind == "file":
        try:
            old = beneath.open_file(root, path)
        except PermissionError:
            return
        try:
            _copy_attributes(old, descriptor)
            _own(descriptor, before.user, before.group)
        finally:
            os.close(old)
        return
    above = path.rpartition(b"/")[0]
    while True:
        status = beneath.status(root, above or b".")
        if status is not None or not above:
            break
        above = above.rpartition(b"/")[0]
    if status is None or not stat.S_ISDIR(status.st_mode):
        return
    if os.geteuid() == 0:
        _own(descriptor, status.st_uid, status.st_gid)
    elif status.st_mode & stat.S_ISGID:
        _own(descriptor, -1, status.st_gid)
    try:
        parent = beneath.open_directory(root, above or b".")
    except OSError:
        return
    try:
        default = os.getxattr(parent, "system.posix_acl_default")
        os.setxattr(descriptor, "system.posix_acl_access", default)
    except OSError:
        pass
    finally:
        os.close(parent)


def _own(descriptor: int, user: int, group: int) -> None:
    """Set owner and group as far as this user may: root both, others a group they are in."""
    if os.geteuid() == 0:
        os.fchown(descriptor, user, group)
    elif group != os.fstat(descriptor).st_gid:
        try:
            os.fchown(descriptor, -1, group)
        except PermissionError:
            pass


def _copy_attributes(source: int, target: int) -> None:
    try:
        listed = os.listxattr(source)
    except OSError:
        return
    for name in listed:
        if not name.startswith(_NOT_COPIED):
            try:
                os.setxattr(target, name, os.getxattr(source, name))
            except OSError:
                pass


def _data(descriptor: int, size: int) -> list[tuple[int, int]]:
    """(start, end) of the runs of data of a sparse file. Source: lseek(2), SEEK_DATA."""
    runs = []
    position = 0
    while position < size:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            return [(0, size)]
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        runs.append((start, position))
    return runs


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)
