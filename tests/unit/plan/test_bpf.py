"""The assembler: programs too long for 8-bit jumps, and too long altogether."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plan.bpf_interpreter import execute

from casemate.plan import bpf


def search(leaves: list[bpf.Node], start: int = 0) -> bpf.Node:
    """A program that returns by the leaf whose index is in the accumulator, the last if none."""
    if len(leaves) == 1:
        return leaves[0]
    middle = len(leaves) // 2
    return bpf.Branch(
        bpf.GREATER_OR_EQUAL,
        start + middle,
        search(leaves[middle:], start + middle),
        search(leaves[:middle], start),
    )


@given(st.integers(300, 800), st.integers(2, 7), st.integers(0, 799), st.integers(5, 9))
def test_far_jumps_arrive(size: int, step: int, probe: int, argument: int) -> None:
    """Programs longer than a jump's 8 bits still end where they should."""
    shared = bpf.Load(16, bpf.Branch(bpf.EQUAL, 7, bpf.Return(1), bpf.Return(2)))
    leaves: list[bpf.Node] = [bpf.Return(1000 + i) if i % step else shared for i in range(size)]
    code = bpf.assemble(bpf.Load(0, search(leaves)))

    verdict, _ = execute(code, 0, probe, [argument, 0, 0, 0, 0, 0])

    reached = min(probe, size - 1)
    assert len(code) // 8 > size
    assert verdict == (1000 + reached if reached % step else 1 + (argument != 7))


def test_a_program_too_long_for_the_kernel_is_refused() -> None:
    """The assembler never hands out what the kernel would reject."""
    with pytest.raises(ValueError, match="instructions"):
        bpf.assemble(search([bpf.Return(value) for value in range(3000)]))
