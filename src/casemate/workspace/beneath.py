"""Opening and moving things beneath a directory descriptor, never through a symbolic link.

The kernel resolves each path at once with openat2(2): beneath the root, no symbolic link, no
magic link, no other mount. Where it lacks openat2 (before Linux 5.6, or refused by a container's
filter) the path is walked one component at a time with O_NOFOLLOW.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager

_OPENAT2 = 437
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276, "riscv64": 276, "loongarch64": 276}
RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
"""Error numbers of a rename flag that the file system or kernel lacks."""

_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8
_RESOLVE = _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS | _NO_XDEV

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_LOCATE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC

_RETRIES = 32

_libc = ctypes.CDLL(None, use_errno=True)
_renameat2_number = _RENAMEAT2.get(os.uname().machine)
_have_openat2 = True


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_root(path: str) -> int:
    """A descriptor of a project root. The path is the user's own and may hold links."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Open `path` (plain, relative) beneath the directory `root`.

    Raises `OSError`: ELOOP where a component is a symbolic link, EXDEV where one is a mount point
    or the path leaves the root, else as open(2). Never creates. Source: openat2(2).
    """
    global _have_openat2
    if _have_openat2:
        try:
            return _openat2(root, path, flags)
        except OSError as error:
            # Container filters answer EPERM for calls they do not know; so may a file's own
            # permissions, which the walk below then finds again.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            if error.errno == errno.ENOSYS:
                _have_openat2 = False
    return _walk(root, path, flags)


def open_directory(root: int, path: bytes) -> int:
    """A readable descriptor of the directory `path`."""
    return open_beneath(root, path, _DIRECTORY)


def open_file(root: int, path: bytes) -> int:
    """A readable descriptor of the regular file `path`.

    Raises `OSError` with EINVAL for anything else; a fifo or device is never waited for, and is
    looked at before it is opened, since opening some devices has effects.
    """
    located = open_beneath(root, path, _LOCATE)
    try:
        _require_regular(located)
    finally:
        os.close(located)
    descriptor = open_beneath(root, path, _FILE)
    try:
        _require_regular(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def open_parent(root: int, path: bytes) -> Iterator[tuple[int, bytes]]:
    """The directory that holds `path`, open (O_PATH), and the last component of `path`."""
    above, _, name = path.rpartition(b"/")
    descriptor = open_beneath(root, above or b".", _LOCATE | os.O_DIRECTORY)
    try:
        yield descriptor, name
    finally:
        os.close(descriptor)


def status(root: int, path: bytes) -> os.stat_result | None:
    """lstat(2) of `path`, or None where there is nothing that can be reached without a link."""
    try:
        descriptor = open_beneath(root, path, _LOCATE)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return None
        raise
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def change_mode(root: int, path: bytes, mode: int) -> None:
    """chmod(2) of the file or directory `path`; never of what a link points to."""
    descriptor = open_beneath(root, path, _LOCATE)
    try:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        # fchmod(2) refuses O_PATH descriptors; opening for reading could be forbidden by the
        # very mode that is being changed.
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    finally:
        os.close(descriptor)


def rename(old_directory: int, old: bytes, new_directory: int, new: bytes, flags: int = 0) -> None:
    """renameat2(2) between two open directories. Raises `OSError`; EINVAL or ENOSYS where the
    file system or kernel lacks the flag."""
    if not flags:
        os.rename(old, new, src_dir_fd=old_directory, dst_dir_fd=new_directory)
        return
    if _renameat2_number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), old)
    result = _libc.syscall(
        ctypes.c_long(_renameat2_number),
        ctypes.c_int(old_directory),
        ctypes.c_char_p(old),
        ctypes.c_int(new_directory),
        ctypes.c_char_p(new),
        ctypes.c_uint(flags),
    )
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), old, None, new)


def place(old_directory: int, old: bytes, new_directory: int, new: bytes) -> None:
    """Move to a name that must be free: `FileExistsError` if it is not.

    Without RENAME_NOREPLACE a hard link does the same for all but directories.
    """
    try:
        rename(old_directory, old, new_directory, new, RENAME_NOREPLACE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        os.link(old, new, src_dir_fd=old_directory, dst_dir_fd=new_directory, follow_symlinks=False)
        os.unlink(old, dir_fd=old_directory)


def place_directory(parent: int, old: bytes, new: bytes) -> None:
    """The same for a directory within its parent; what is at the name already is left alone.

    Without RENAME_NOREPLACE an empty directory that comes there this very moment is replaced.
    """
    try:
        rename(parent, old, parent, new, RENAME_NOREPLACE)
    except FileExistsError:
        os.rmdir(old, dir_fd=parent)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        rename(parent, old, parent, new)


def exchange(place_directory: int, slot: bytes, directory: int, name: bytes) -> None:
    """Swap the staged entry `slot` with the entry `name`, at once where the kernel can.

    Elsewhere the old entry goes to `aside(slot)`, the new one to its name, the old one to `slot`;
    for a moment there is nothing at the name.
    """
    try:
        rename(place_directory, slot, directory, name, RENAME_EXCHANGE)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        rename(directory, name, place_directory, aside(slot))
        place(place_directory, slot, directory, name)
        rename(place_directory, aside(slot), place_directory, slot)


def aside(slot: bytes) -> bytes:
    """Where `exchange` puts the old entry in between."""
    return slot + b".aside"


def synchronise(descriptor: int) -> None:
    """syncfs(2): everything on the file system of `descriptor` reaches the disk."""
    if _libc.syncfs(ctypes.c_int(descriptor)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def location(descriptor: int) -> tuple[int, int]:
    """(device, mount id): renames work between directories for which these are equal.

    Source: proc_pid_fdinfo(5). Without /proc the mount is taken to be one of a kind.
    """
    device = os.fstat(descriptor).st_dev
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            for line in file:
                if line.startswith(b"mnt_id:"):
                    return device, int(line.split()[1])
    except OSError:
        pass
    return device, -descriptor - 1


def _openat2(root: int, path: bytes, flags: int) -> int:
    how = _OpenHow(flags, 0, _RESOLVE)
    for _ in range(_RETRIES):
        result = int(
            _libc.syscall(
                ctypes.c_long(_OPENAT2),
                ctypes.c_int(root),
                ctypes.c_char_p(path),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
        )
        if result >= 0:
            return result
        number = ctypes.get_errno()
        # EAGAIN: a rename elsewhere raced with the resolution; openat2(2) asks to try again.
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), path)


def _walk(root: int, path: bytes, flags: int) -> int:
    *directories, last = path.split(b"/")
    if b".." in (*directories, last) or path.startswith(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    device = os.fstat(root).st_dev
    current = os.dup(root)
    try:
        for name in (*directories, None):
            if name is None:
                opened = os.open(last, flags | os.O_NOFOLLOW, dir_fd=current)
            else:
                opened = os.open(name, _LOCATE | os.O_DIRECTORY, dir_fd=current)
            os.close(current)
            current = opened
            found = os.fstat(current)
            if found.st_dev != device:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    except OSError as error:
        os.close(current)
        # O_DIRECTORY | O_NOFOLLOW on a link gives ENOTDIR here where openat2 gives ELOOP; both
        # mean that the path cannot be reached.
        raise OSError(error.errno, error.strerror, path) from None
    return current


def _require_regular(descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
