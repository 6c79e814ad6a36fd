"""The system-call filter: `CAPABILITIES` and what else is refused, as code for the kernel.

Sources: seccomp(2), linux/seccomp.h. The program reads the architecture, then finds the call's
number by binary search. Kernels since 5.11 run it once per number at load and skip it for every
call that it allows whatever the arguments are.
"""

from __future__ import annotations

from casemate.errors import PolicyError, UnsupportedError
from casemate.plan import bpf
from casemate.plan.capabilities import (
    CAPABILITIES,
    DIRECT,
    ENOSYS,
    NO_SOCKETS,
    PIN_CPUS,
    WORD,
    Condition,
    Refusal,
)
from casemate.plan.syscalls import ARCHITECTURES, AUDIT, NEWEST, number

__all__ = ["CAPABILITIES", "compile_filter"]

KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
"""SECCOMP_RET_*; the low 16 bits of ERRNO hold the errno. Source: linux/seccomp.h."""

NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
"""Byte offsets in `struct seccomp_data`."""


def compile_filter(
    architecture: str,
    allow: tuple[str, ...],
    *,
    direct: bool,
    pin_cpus: bool,
    no_sockets: bool = False,
) -> bytes:
    """The filter as code for seccomp(2), `struct sock_filter` entries of 8 bytes, little endian.

    `allow` names the `CAPABILITIES` given back; `direct` adds `DIRECT`, `pin_cpus` adds
    `PIN_CPUS`, `no_sockets` adds `NO_SOCKETS`. A call through another architecture's entry (int 0x80 on x86_64) kills the
    process; a number above `NEWEST`, as all of x32's are, fails with ENOSYS.

    Raises `PolicyError` for an unknown name in `allow`, `UnsupportedError` for an architecture
    without a table.
    """
    if architecture not in ARCHITECTURES:
        raise UnsupportedError(
            f"there is no system-call filter for {architecture}",
            hint="supported: " + ", ".join(ARCHITECTURES),
        )
    for index, name in enumerate(allow):
        if name not in CAPABILITIES:
            raise _unknown(name, index)
    refusals = [
        refusal
        for capability in CAPABILITIES.values()
        if capability.name not in allow
        for refusal in capability.refusals
    ]
    refusals += DIRECT if direct else ()
    refusals += PIN_CPUS if pin_cpus else ()
    refusals += NO_SOCKETS if no_sockets else ()
    search = _search(_ranges(architecture, refusals))
    return bpf.assemble(
        bpf.Load(
            ARCHITECTURE,
            bpf.Branch(
                bpf.EQUAL, AUDIT[architecture], bpf.Load(NUMBER, search), bpf.Return(KILL_PROCESS)
            ),
        )
    )


def _unknown(name: str, index: int) -> PolicyError:
    from difflib import get_close_matches

    nearest = get_close_matches(name, CAPABILITIES, n=1, cutoff=0)[0]
    return PolicyError(
        f'unknown kernel capability "{name}"; the nearest is "{nearest}"',
        key=f"kernel.allow[{index}]",
        hint="known: " + ", ".join(CAPABILITIES),
    )


def _ranges(architecture: str, refusals: list[Refusal]) -> list[tuple[int, bpf.Node]]:
    """The first number of each range of system calls, and what becomes of the calls in it."""
    verdicts: dict[int, bpf.Node] = {}
    for refusal in reversed(refusals):
        for name in refusal.syscalls:
            place = number(architecture, name)
            if place is not None:
                verdicts[place] = _verdict(refusal, verdicts.get(place, bpf.Return(ALLOW)))
    newest = NEWEST[architecture]
    ranges: list[tuple[int, bpf.Node]] = []
    for place in range(newest + 1):
        verdict = verdicts.get(place, bpf.Return(ALLOW))
        if not ranges or ranges[-1][1] != verdict:
            ranges.append((place, verdict))
    return [*ranges, (newest + 1, bpf.Return(ERRNO | ENOSYS))]


def _verdict(refusal: Refusal, otherwise: bpf.Node) -> bpf.Node:
    node: bpf.Node = bpf.Return(ERRNO | refusal.errno)
    for condition in reversed(refusal.conditions):
        node = _test(condition, node, otherwise)
    return node


def _test(condition: Condition, then: bpf.Node, otherwise: bpf.Node) -> bpf.Node:
    if condition.negated:
        then, otherwise = otherwise, then
    offset = ARGUMENTS + 8 * condition.argument
    if not condition.values:
        return bpf.Load(offset, bpf.Branch(bpf.ANY_BIT, condition.mask, then, otherwise))
    node = otherwise
    for value in reversed(condition.values):
        node = bpf.Branch(bpf.EQUAL, value, then, node)
    if condition.mask != WORD:
        node = bpf.Mask(condition.mask, node)
    return bpf.Load(offset, node)


def _search(ranges: list[tuple[int, bpf.Node]]) -> bpf.Node:
    """A balanced binary search for the range of the number in the accumulator."""
    match ranges:
        case [(_, verdict)]:
            return verdict
        case [(_, around), (place, verdict), (after, other)] if (
            after == place + 1 and around == other
        ):
            return bpf.Branch(bpf.EQUAL, place, verdict, around)
    middle = len(ranges) // 2
    return bpf.Branch(
        bpf.GREATER_OR_EQUAL,
        ranges[middle][0],
        _search(ranges[middle:]),
        _search(ranges[:middle]),
    )
