"""The kernel's side of classic BPF, for the tests: what a filter does with one call."""

from __future__ import annotations

import struct


def execute(code: bytes, architecture: int, call: int, arguments: list[int]) -> tuple[int, int]:
    """Runs classic BPF on one `struct seccomp_data`: the value returned and the steps taken."""
    data = struct.pack("<II7Q", call, architecture, 0x7F0012345678, *arguments)
    program = list(struct.iter_unpack("<HBBI", code))
    accumulator = place = steps = 0
    while True:
        operation, then, otherwise, value = program[place]
        steps += 1
        place += 1
        match operation:
            case 0x20:
                (accumulator,) = struct.unpack_from("<I", data, value)
            case 0x54:
                accumulator &= value
            case 0x05:
                place += value
            case 0x15:
                place += then if accumulator == value else otherwise
            case 0x35:
                place += then if accumulator >= value else otherwise
            case 0x45:
                place += then if accumulator & value else otherwise
            case 0x06:
                return value, steps
            case _:
                raise AssertionError(f"operation {operation:#x}")
