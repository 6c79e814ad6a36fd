"""What lies at a path: the value that changes compare and that transactions check and restore."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass, replace
from typing import Literal

from casemate.workspace import beneath

EntryKind = Literal["absent", "file", "symlink", "directory", "special"]

PROBE = 8192
"""Bytes at the beginning of a file in which a NUL makes it binary, as git has it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """The state of one path. Sizes are bytes, times nanoseconds since the epoch."""

    kind: EntryKind
    mode: int = 0
    """Permission bits, 07777."""
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""
    """Hexadecimal SHA-256 of a file's content; "" where it was not taken."""
    target: bytes = b""
    """Of a symbolic link."""
    ctime_ns: int = 0
    device: int = 0
    inode: int = 0
    links: int = 0
    user: int = -1
    group: int = -1
    binary: bool = False

    @property
    def exists(self) -> bool:
        """False for an absent entry."""
        return self.kind != "absent"

    def same_content(self, other: Entry) -> bool:
        """Whether both are the same kind with the same content; modes are not looked at.

        Without a digest on either side two files are the same only if they are one inode with
        equal size and modification time.
        """
        if self.kind != other.kind:
            return False
        if self.kind == "file":
            if self.digest and other.digest:
                return self.digest == other.digest
            return self.inode != 0 and self.identity == other.identity
        return self.target == other.target

    @property
    def identity(self) -> tuple[int, int, int]:
        """What stays when a file is only moved: (inode, size, modification time)."""
        return self.inode, self.size, self.mtime_ns


ABSENT = Entry("absent")


def observe(root: int, path: bytes, *, digest: bool = True) -> Entry:
    """The entry at `path` beneath `root`; with `digest` the content of a file is read.

    A file that may not be read has no digest. Raises `OSError` where the path cannot be looked
    at, as EXDEV beneath a mount point.
    """
    found = beneath.status(root, path)
    if found is None:
        return ABSENT
    entry = from_status(found)
    if entry.kind == "symlink":
        with beneath.open_parent(root, path) as (directory, name):
            return replace(entry, target=os.readlink(name, dir_fd=directory))
    return read_digest(root, path, entry) if digest and entry.kind == "file" else entry


def read_digest(root: int, path: bytes, entry: Entry) -> Entry:
    """`entry`, a file, with the digest of what is there now."""
    try:
        descriptor = beneath.open_file(root, path)
    except PermissionError:
        return entry
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            # It is no longer the file it was a moment ago.
            return observe(root, path, digest=False)
        raise
    try:
        sha256, binary = digest_descriptor(descriptor)
        return replace(from_status(os.fstat(descriptor)), digest=sha256, binary=binary)
    finally:
        os.close(descriptor)


def digest_descriptor(descriptor: int) -> tuple[str, bool]:
    """Hexadecimal SHA-256 of an open regular file, and whether it is binary."""
    probe = os.pread(descriptor, PROBE, 0)
    if len(probe) < PROBE:
        return hashlib.sha256(probe).hexdigest(), b"\0" in probe
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest(), b"\0" in probe


def from_status(found: os.stat_result) -> Entry:
    """An entry from stat(2), without digest and target."""
    kind: EntryKind = "special"
    if stat.S_ISREG(found.st_mode):
        kind = "file"
    elif stat.S_ISDIR(found.st_mode):
        kind = "directory"
    elif stat.S_ISLNK(found.st_mode):
        kind = "symlink"
    return Entry(
        kind,
        mode=stat.S_IMODE(found.st_mode),
        size=0 if kind == "directory" else found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
        device=found.st_dev,
        inode=found.st_ino,
        links=found.st_nlink,
        user=found.st_uid,
        group=found.st_gid,
    )


def same_mode(one: Entry, other: Entry) -> bool:
    """Whether the permissions agree; a directory inherits setgid, so there it does not count."""
    mask = 0o1777 if one.kind == "directory" else 0o7777
    return one.mode & mask == other.mode & mask


def mode_for(now: Entry, wanted: Entry) -> int:
    """The mode to set, with the setgid bit that a directory inherited."""
    return wanted.mode | (now.mode & 0o2000 if now.kind == "directory" else 0)
