"""The system call filter, as the bytes the kernel takes.

A filter is a classic BPF program over `struct seccomp_data`. It is built here as a tree of
decisions and written out so that every path looks up the call number by binary search and reads
arguments only of the few calls where they matter; for all others the kernel's own cache of
constant answers applies. Sources: seccomp(2), linux/filter.h, linux/seccomp.h, linux/audit.h.
"""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from casemate.errors import PolicyError
from casemate.plan.syscalls import CAPABILITIES, LAST, Architecture, number
from casemate.policy.units import nearest

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
_ERRNO = 0x00050000

_AUDIT_ARCH: dict[Architecture, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_NUMBER, _ARCHITECTURE = 0, 4
"""Offsets in struct seccomp_data."""

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_JUMP, _JUMP_EQUAL, _JUMP_NOT_LESS, _JUMP_ANY = 0x05, 0x15, 0x35, 0x45
_JUMP_MAX = 255

_CLONE_NEW = 0x7E020000
"""Every CLONE_NEW* flag of clone(2); CLONE_NEWTIME exists for clone3 and unshare alone."""

_UNIX, _INET, _INET6, _NETLINK = 1, 2, 10, 16
_STREAM, _DGRAM, _RAW, _SEQPACKET = 1, 2, 3, 5
_TYPE_MASK = 0xF
"""The rest of a socket type are SOCK_NONBLOCK and SOCK_CLOEXEC."""

_TERMINAL_REQUESTS = (0x5412, 0x541C, 0x541D, 0x5423)
"""TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD: typing into a terminal and changing its driver."""

_FILE_TYPE, _CHARACTER_DEVICE, _BLOCK_DEVICE = 0o170000, 0o020000, 0o060000
_SET_ID = 0o6000
_CREATES = 0o100 | 0o20000000
"""O_CREAT and __O_TMPFILE, without which open(2) does not look at its mode."""


@dataclass(frozen=True, slots=True)
class Return:
    """What the filter answers."""

    value: int


@dataclass(frozen=True, slots=True)
class Test:
    """Look at the low 32 bits of an argument: is `argument & mask` one of `values`?

    With no values: is any bit of the mask set? The kernel's own functions take these arguments as
    32-bit integers and never see the upper half, so a filter that compared it could be passed by.
    """

    argument: int
    mask: int
    values: tuple[int, ...]
    then: Decision
    otherwise: Decision


Decision = Return | Test
Instruction = tuple[int, int, int, int]
"""code, jt, jf, k of struct sock_filter."""

_ALLOW = Return(ALLOW)


def _fail(code: int) -> Return:
    return Return(_ERRNO | code)


def compile_filter(
    architecture: Architecture, allow: tuple[str, ...], *, direct: bool, pin_cpus: bool
) -> bytes:
    """The filter as an array of `struct sock_filter`, 8 bytes each, little endian.

    `allow` names capabilities to leave out (`syscalls.CAPABILITIES`). `direct` is for sandboxes
    that write to the user's own files: no set-user-id bit can be made. `pin_cpus` keeps a command
    on the processors it was given. Raises `PolicyError` for an unknown capability.
    """
    for name in allow:
        if name not in CAPABILITIES:
            known = tuple(CAPABILITIES)
            raise PolicyError(
                f'"{name}" is not a kernel capability',
                key="kernel.allow",
                hint=nearest(name, known) or "known: " + ", ".join(known),
            )
    decisions = {
        found: decision
        for name, decision in decide(allow, direct=direct, pin_cpus=pin_cpus).items()
        if (found := number(name, architecture)) is not None
    }
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, _AUDIT_ARCH[architecture]),
        (_RETURN, 0, 0, KILL_PROCESS),
        (_LOAD, 0, 0, _NUMBER),
        *_search(_intervals(decisions, LAST[architecture])),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


def decide(allow: tuple[str, ...], *, direct: bool, pin_cpus: bool) -> dict[str, Decision]:
    """What is answered to each call by name; calls not listed are allowed."""
    found: dict[str, Decision] = {
        call: _fail(capability.errno)
        for name, capability in CAPABILITIES.items()
        if name not in allow
        for call in capability.calls
    }
    if "namespaces" not in allow:
        found["clone"] = Test(0, _CLONE_NEW, (), _fail(errno.EPERM), _ALLOW)
        # Its flags are in memory. Not implemented: C libraries then fall back to clone.
        found["clone3"] = _fail(errno.ENOSYS)
    if "terminal" not in allow:
        found["ioctl"] = Test(1, 0xFFFFFFFF, _TERMINAL_REQUESTS, _fail(errno.EPERM), _ALLOW)
    found["socket"] = _socket()
    found["socketpair"] = Test(0, 0xFFFFFFFF, (_UNIX,), _ALLOW, _fail(errno.EAFNOSUPPORT))
    for call, mode in (("mknod", 1), ("mknodat", 2)):
        rest = _set_id(mode) if direct else _ALLOW
        devices = (_CHARACTER_DEVICE, _BLOCK_DEVICE)
        found[call] = Test(mode, _FILE_TYPE, devices, _fail(errno.EPERM), rest)
    if direct:
        found |= _no_set_id()
    if pin_cpus:
        found["sched_setaffinity"] = _fail(errno.EPERM)
    return found


def _socket() -> Decision:
    """Local sockets, TCP and UDP, and route look-ups by netlink; nothing raw.

    Each failure is the one the kernel gives where the thing is not built in, which is what
    programs know how to fall back from (as from MPTCP to TCP).
    """
    plain = 0xFFFFFFFF
    no_family, no_protocol = _fail(errno.EAFNOSUPPORT), _fail(errno.EPROTONOSUPPORT)
    usual = (_STREAM, _DGRAM, _SEQPACKET)
    internet = Test(
        1, _TYPE_MASK, usual, Test(2, plain, (0, 6, 17), _ALLOW, no_protocol), _fail(errno.EPERM)
    )
    local = Test(1, _TYPE_MASK, usual, _ALLOW, _fail(errno.EPERM))
    netlink = Test(
        1, _TYPE_MASK, (_RAW, _DGRAM), Test(2, plain, (0,), _ALLOW, no_protocol), no_protocol
    )
    others = Test(0, plain, (_NETLINK,), netlink, no_family)
    return Test(0, plain, (_INET, _INET6), internet, Test(0, plain, (_UNIX,), local, others))


def _set_id(mode: int) -> Decision:
    return Test(mode, _SET_ID, (), _fail(errno.EPERM), _ALLOW)


def _no_set_id() -> dict[str, Decision]:
    modes = {"chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2, "creat": 1}
    modes |= {"mkdir": 1, "mkdirat": 2}
    opens = {"open": (1, 2), "openat": (2, 3)}
    found: dict[str, Decision] = {call: _set_id(mode) for call, mode in modes.items()}
    found |= {
        call: Test(flags, _CREATES, (), _set_id(mode), _ALLOW)
        for call, (flags, mode) in opens.items()
    }
    # Its mode is in memory. Not implemented: callers fall back to openat.
    found["openat2"] = _fail(errno.ENOSYS)
    return found


def _intervals(decisions: dict[int, Decision], last: int) -> list[tuple[int, Decision]]:
    """(first number, decision) of each run of calls with the same answer, ascending.

    Numbers above the last one known, x32 calls (bit 30) among them, do not exist.
    """
    found: list[tuple[int, Decision]] = []
    for call in range(last + 1):
        decision = decisions.get(call, _ALLOW)
        if not found or found[-1][1] != decision:
            found.append((call, decision))
    return [*found, (last + 1, _fail(errno.ENOSYS))]


def _search(intervals: list[tuple[int, Decision]]) -> list[Instruction]:
    """A balanced search for the interval that the accumulator lies in."""
    if len(intervals) == 1:
        return _write(intervals[0][1])
    middle = len(intervals) // 2
    low, high = _search(intervals[:middle]), _search(intervals[middle:])
    pivot = intervals[middle][0]
    if len(low) <= _JUMP_MAX:
        return [(_JUMP_NOT_LESS, len(low), 0, pivot), *low, *high]
    return [(_JUMP_NOT_LESS, 0, 1, pivot), (_JUMP, 0, 0, len(low)), *low, *high]


def _write(decision: Decision) -> list[Instruction]:
    """A decision and all that follows from it. Arguments end a path, so what they leave in the
    accumulator is never looked at again."""
    if isinstance(decision, Return):
        return [(_RETURN, 0, 0, decision.value)]
    then, otherwise = _write(decision.then), _write(decision.otherwise)
    if len(then) > _JUMP_MAX or len(decision.values) > _JUMP_MAX:
        raise AssertionError("a decision on arguments fits a short jump")
    load = (_LOAD, 0, 0, 16 + 8 * decision.argument)
    if not decision.values:
        return [load, (_JUMP_ANY, 0, len(then), decision.mask), *then, *otherwise]
    mask = [] if decision.mask == 0xFFFFFFFF else [(_AND, 0, 0, decision.mask)]
    tests = []
    for left in reversed(range(len(decision.values))):
        value = decision.values[len(decision.values) - 1 - left]
        tests.append((_JUMP_EQUAL, left, 0 if left else len(then), value))
    return [load, *mask, *tests, *then, *otherwise]
