"""Tries out in a child process what the kernel allows this user: the only honest way to know.

A user namespace may be granted and then hold no capability (an AppArmor profile does that), a
mount may be refused though its kind is listed in /proc/filesystems. So each step is really made,
in a child that ends with it, and the first errno that comes back is the answer.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 1 << 14, 1 << 18
"""sched.h and sys/mount.h"""

SYS_LANDLOCK_CREATE_RULESET = 444
SYS_SECCOMP = {"x86_64": 317, "aarch64": 277}
SECCOMP_GET_ACTION_AVAIL = 2
SECCOMP_RET_KILL_PROCESS = 0x80000000


class Refused(Exception):
    """A step of a trial failed: which one, and the errno."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(f"{step}: {os.strerror(number)}")
        self.step = step
        self.number = number


def attempt(action: Callable[[], None]) -> Refused | None:
    """Runs `action` in a child process; what it was refused, or None."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        # Nothing of the parent's may run here but the action: no handlers, no buffers.
        try:
            os.close(reader)
            said = b""
            try:
                action()
            except Refused as refused:
                said = f"{refused.number} {refused.step}".encode()
            except OSError as problem:
                said = f"{problem.errno} {problem.filename or ''}".encode()
            os.write(writer, said or b"0 ")
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    number, _, step = said.decode().partition(" ")
    if not number:
        # Killed: a filter of the container above does that instead of refusing.
        return Refused("the trial was killed", errno.EPERM)
    return Refused(step, int(number)) if int(number) else None


def user_namespace() -> Refused | None:
    """A user namespace with a first mount in it."""
    return attempt(_enter)


def network_namespace() -> Refused | None:
    """A network namespace inside a user namespace."""

    def action() -> None:
        _enter()
        _unshare(CLONE_NEWNET, "create a network namespace")

    return attempt(action)


def overlay() -> Refused | None:
    """A copy-on-write layer on tmpfs inside a user namespace."""

    def action() -> None:
        _enter()
        for name in ("lower", "upper", "work", "merged"):
            os.mkdir(f"/tmp/{name}")
        options = b"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr"
        _mount(b"overlay", b"/tmp/merged", options, "mount an overlay")

    return attempt(action)


def process_list() -> Refused | None:
    """A /proc of one's own in a PID namespace. Where the one outside is masked, the kernel refuses
    (mount_too_revealing in fs/namespace.c)."""

    def action() -> None:
        _enter()
        _unshare(CLONE_NEWPID, "create a PID namespace")
        os.mkdir("/tmp/proc")
        inner = attempt(lambda: _mount(b"proc", b"/tmp/proc", b"", "mount /proc"))
        if inner is not None:
            raise inner

    return attempt(action)


def landlock_version() -> int:
    """The Landlock ABI of the kernel; 0 if it has none or it is switched off. landlock(7)"""
    found: int = _libc().syscall(SYS_LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    return max(found, 0)


def seccomp_filters() -> bool:
    """Whether filters can end a process. seccomp(2)"""
    number = SYS_SECCOMP.get(os.uname().machine)
    if number is None:
        return False
    action = ctypes.c_uint32(SECCOMP_RET_KILL_PROCESS)
    result: int = _libc().syscall(number, SECCOMP_GET_ACTION_AVAIL, 0, ctypes.byref(action))
    return result == 0


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _enter() -> None:
    """User and mount namespace, identity mapped, a tmpfs on /tmp that goes with the process."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(CLONE_NEWUSER | CLONE_NEWNS, "create a user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        except OSError as problem:
            raise Refused(f"write {name}", problem.errno or errno.EIO) from problem
    _mount(None, b"/", None, "make mounts private", MS_REC | MS_PRIVATE)
    _mount(b"tmpfs", b"/tmp", b"size=1m", "mount a tmpfs")


def _unshare(flags: int, step: str) -> None:
    if _libc().unshare(flags):
        raise Refused(step, ctypes.get_errno())


def _mount(
    kind: bytes | None,
    target: bytes,
    options: bytes | None,
    step: str,
    flags: int = MS_NOSUID | MS_NODEV | MS_NOEXEC,
) -> None:
    if _libc().mount(b"none", target, kind, ctypes.c_ulong(flags), options):
        raise Refused(step, ctypes.get_errno())
