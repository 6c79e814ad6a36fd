"""What the vault's process gives up before it is handed a secret. Linux.

Sources: prctl(2), mlockall(2), seccomp(2), linux/filter.h.
"""

from __future__ import annotations

import ctypes
import os
import resource

from casemate.errors import SandboxError

PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 4, 38, 22
MODE_FILTER = 2
MCL_CURRENT_AND_FUTURE = 3
ALLOW, ERRNO_EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_NUMBER, _ARCHITECTURE = 0, 4

# What a single-threaded interpreter needs to serve a socket: no file, process, or other socket can
# be opened, nothing traced, nothing executed.
CALLS = {
    "x86_64": (
        0xC000003E,
        {
            "read": 0, "write": 1, "close": 3, "fstat": 5, "poll": 7, "lseek": 8, "mmap": 9,
            "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15,
            "pread64": 17, "sched_yield": 24, "mremap": 25, "madvise": 28, "getpid": 39,
            "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "exit": 60, "fcntl": 72,
            "gettimeofday": 96, "sigaltstack": 131, "gettid": 186, "futex": 202,
            "restart_syscall": 219, "clock_gettime": 228, "exit_group": 231, "newfstatat": 262,
            "getrandom": 318,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "fcntl": 25, "close": 57, "lseek": 62, "read": 63, "write": 64, "pread64": 67,
            "ppoll": 73, "newfstatat": 79, "fstat": 80, "exit": 93, "exit_group": 94, "futex": 98,
            "clock_gettime": 113, "sched_yield": 124, "restart_syscall": 128, "sigaltstack": 132,
            "rt_sigaction": 134, "rt_sigprocmask": 135, "rt_sigreturn": 139, "gettimeofday": 169,
            "getpid": 172, "gettid": 178, "sendto": 206, "recvfrom": 207, "sendmsg": 211,
            "recvmsg": 212, "brk": 214, "munmap": 215, "mremap": 216, "mmap": 222, "madvise": 233,
            "getrandom": 278,
        },
    ),
}  # fmt: skip
"""For each architecture its AUDIT_ARCH number and the system calls that stay."""


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def confine(keep: int) -> None:
    """Leaves the process unreadable to its user's other processes and without ways out.

    `keep` is the one descriptor above 2 that stays open. Raises `SandboxError` when the kernel
    refuses a step that the vault's promise rests on; locking memory is done where it is allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    _require(libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0, "PR_SET_DUMPABLE")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.closerange(3, keep)
    os.closerange(keep + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    os.chdir("/")
    # With a limit, later allocations would fail instead of staying unlocked.
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        libc.mlockall(MCL_CURRENT_AND_FUTURE)
    _require(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS")
    code = program(os.uname().machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    done = libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(filter_), 0, 0)
    _require(done == 0, "PR_SET_SECCOMP")


def program(architecture: str) -> bytes:
    """The filter: one comparison for each call that stays. Raises `SandboxError`."""
    if architecture not in CALLS:
        raise SandboxError(f"the vault has no system-call filter for {architecture}")
    audit, calls = CALLS[architecture]
    code = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, audit), (_RETURN, 0, 0, KILL)]
    code += [(_LOAD, 0, 0, _NUMBER)]
    numbers = sorted(calls.values())
    code += [(_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    code += [(_RETURN, 0, 0, ERRNO_EPERM), (_RETURN, 0, 0, ALLOW)]
    return b"".join(
        op.to_bytes(2, "little") + bytes((yes, no)) + value.to_bytes(4, "little")
        for op, yes, no, value in code
    )


def _require(done: bool, what: str) -> None:
    if not done:
        error = os.strerror(ctypes.get_errno())
        raise SandboxError(f"the vault cannot confine itself: {what}: {error}")
