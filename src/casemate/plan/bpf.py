"""Classic BPF: a program as a tree of values, and its machine code. Source: linux/filter.h.

The interpreter has one 32-bit accumulator. A tree branches only forwards, so every program ends.
Equal subtrees are emitted once.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

MAXIMUM_LENGTH = 4096
"""Instructions in one program, BPF_MAXINSNS."""

LOAD, AND, RETURN, ALWAYS = 0x20, 0x54, 0x06, 0x05
EQUAL, GREATER_OR_EQUAL, ANY_BIT = 0x15, 0x35, 0x45
_REACH = 255


class Return(NamedTuple):
    """Ends the program with a value."""

    value: int


class Load(NamedTuple):
    """Loads the 32-bit word at a byte offset of the input into the accumulator."""

    offset: int
    then: Node


class Mask(NamedTuple):
    """Keeps only these bits of the accumulator."""

    bits: int
    then: Node


class Branch(NamedTuple):
    """Compares the accumulator with a constant: EQUAL, GREATER_OR_EQUAL (unsigned) or ANY_BIT."""

    comparison: int
    value: int
    then: Node
    otherwise: Node


Node = Return | Load | Mask | Branch


def assemble(program: Node) -> bytes:
    """The code of a program: `struct sock_filter` entries of 8 bytes, little endian.

    Raises `ValueError` for a program longer than `MAXIMUM_LENGTH`.
    """
    assembler = _Assembler()
    assembler.place(program)
    code = assembler.backwards
    if len(code) > MAXIMUM_LENGTH:
        raise ValueError(f"BUG: a program of {len(code)} instructions")
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in reversed(code))


class _Assembler:
    """Emits from the last instruction to the first, so that every target is known when needed.

    A label stands for one distinct subtree; `places` holds where its nearest copy was emitted.
    """

    def __init__(self) -> None:
        self.backwards: list[tuple[int, int, int, int]] = []
        self.labels: dict[tuple[int, ...], int] = {}
        self.known: dict[int, int] = {}
        self.places: list[int] = []

    def place(self, node: Node) -> int:
        """The label of a node, emitted now if no equal one was."""
        # By identity: to hash or walk a subtree once per path to it takes exponential time.
        label = self.known.get(id(node))
        if label is None:
            label = self.known[id(node)] = self._place(node)
        return label

    def _place(self, node: Node) -> int:
        match node:
            case Return(value):
                return self._label((RETURN, value))
            case Load(offset, then):
                return self._label((LOAD, offset, self.place(then)))
            case Mask(bits, then):
                return self._label((AND, bits, self.place(then)))
            case Branch(comparison, value, then, otherwise):
                # The target that is emitted last is the one reached by falling through.
                no = self.place(otherwise)
                return self._label((comparison, value, self.place(then), no))

    def _label(self, content: tuple[int, ...]) -> int:
        label = self.labels.get(content)
        if label is None:
            match content:
                case (code, value):
                    self._emit(code, value)
                case (code, value, then):
                    if self._distance(then):
                        self._bring_near(then)
                    self._emit(code, value)
                case (code, value, then, otherwise):
                    # One below the limit: bringing one near may push the other one further.
                    for target in (otherwise, then):
                        if self._distance(target) >= _REACH:
                            self._bring_near(target)
                    self._emit(code, value, self._distance(then), self._distance(otherwise))
            label = self.labels[content] = len(self.places)
            self.places.append(len(self.backwards) - 1)
        return label

    def _emit(self, code: int, value: int, then: int = 0, otherwise: int = 0) -> None:
        self.backwards.append((code, then, otherwise, value))

    def _distance(self, label: int) -> int:
        """How many instructions lie between the next one emitted and the label's."""
        return len(self.backwards) - 1 - self.places[label]

    def _bring_near(self, label: int) -> None:
        """Emits a jump to the label: conditional jumps hold 8 bits of distance, BPF_JA holds 32.

        A return is copied instead, which is as short and one step less.
        """
        code, _, _, value = self.backwards[self.places[label]]
        if code == RETURN:
            self._emit(RETURN, value)
        else:
            self._emit(ALWAYS, self._distance(label))
        self.places[label] = len(self.backwards) - 1
