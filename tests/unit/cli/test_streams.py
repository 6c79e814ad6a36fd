"""Output of commands between pipe and caller, lines, requests, and the bounded diff."""

from __future__ import annotations

import os
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import UsageError
from casemate.sdk.myers import Edit, edits, hunks
from casemate.sdk.request import build
from casemate.sdk.streams import AHEAD, LINE_MAX, Lines, Output


def pipe(cap: int) -> tuple[Output, int]:
    """An output that reads from a pipe, and the pipe's other end."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    return Output("stdout", reader, cap), writer


def test_reading_ahead_pauses_and_goes_on() -> None:
    """Bytes are read ahead up to a bound; taking them lets reading go on."""
    output, writer = pipe(1 << 30)
    while not output.paused:
        os.write(writer, b"x" * 65536)
        output.fill()
    assert len(output.take()) >= AHEAD

    assert not output.paused
    os.close(writer)
    output.drain()
    assert (output.take(), output.ended) == (b"", True)
    output.close()


def test_collecting_keeps_to_the_cap() -> None:
    """Once somebody waits for the end everything is read, and kept up to the cap only."""
    output, writer = pipe(10)
    output.collecting = True
    os.write(writer, b"0123456789abc")
    output.fill()
    os.write(writer, b"def")
    os.close(writer)
    output.drain()

    assert (output.take(), output.truncated) == (b"0123456789", True)
    output.close()


@given(st.lists(st.binary(max_size=20)))
def test_lines_are_the_same_however_the_bytes_come(pieces: list[bytes]) -> None:
    """Lines do not depend on where the stream was cut, also within a character."""
    lines = Lines("utf-8")
    found = [line for piece in pieces if piece for line in lines.feed(piece)]
    found += lines.feed(b"")

    whole = b"".join(pieces).decode("utf-8", "backslashreplace")
    assert "".join(found) == whole
    assert all(line.endswith("\n") for line in found[:-1])
    assert all("\n" not in line[:-1] for line in found)


def test_a_line_without_end_comes_in_pieces() -> None:
    """A command that never writes a newline does not fill the host's memory."""
    lines = Lines("utf-8")
    found = [line for _ in range(40) for line in lines.feed(b"x" * 65536)]

    assert found
    assert all(len(line) <= LINE_MAX + 65536 for line in found)


def test_the_environment_given_beats_the_policys() -> None:
    """A variable of the call takes the place of the policy's; the others stay."""
    request = build(
        ["env"],
        environment=[b"PATH=/bin", b"HOME=/home"],
        env={"HOME": "/x=y", "NEW": ""},
        directory="/project",
        cwd="sub",
        timeout=0.0001,
        limits=None,
    )

    assert set(request.environment) == {b"PATH=/bin", b"HOME=/x=y", b"NEW="}
    assert request.directory == b"/project/sub"
    assert request.time_limit_ms == 1


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_is_a_positive_number(timeout: float) -> None:
    """No other number is silently taken for no timeout."""
    with pytest.raises(UsageError):
        build(
            ["x"],
            environment=[],
            env=None,
            directory="/",
            cwd=None,
            timeout=timeout,
            limits=None,
        )


def patched(old: list[bytes], new: list[bytes], found: list[Edit]) -> list[bytes]:
    """`old` with the edits made."""
    result: list[bytes] = []
    at = 0
    for edit in found:
        result += old[at : edit.old_start] + new[edit.new_start : edit.new_end]
        at = edit.old_end
    return result + old[at:]


TEXT = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n"]), max_size=30)


@given(TEXT, TEXT, st.sampled_from([5, 50, 1 << 20]))
def test_edits_turn_one_text_into_the_other(
    old: list[bytes], new: list[bytes], budget: int
) -> None:
    """Whatever the budget, the edits are right; none is empty, and they are in order."""
    found = edits(old, new, budget=budget)

    assert patched(old, new, found) == new
    assert all(e.old_end > e.old_start or e.new_end > e.new_start for e in found)
    assert all(a.old_end <= b.old_start for a, b in pairwise(found))
    assert [edit for hunk in hunks(found) for edit in hunk] == found


@given(TEXT, TEXT)
def test_edits_are_as_few_as_can_be(old: list[bytes], new: list[bytes]) -> None:
    """Within the budget no shorter edit exists: what stays is a longest common subsequence."""
    lengths = [[0] * (len(new) + 1) for _ in range(len(old) + 1)]
    for i, left in enumerate(old):
        for j, right in enumerate(new):
            longer = max(lengths[i][j + 1], lengths[i + 1][j])
            lengths[i + 1][j + 1] = lengths[i][j] + 1 if left == right else longer
    found = edits(old, new)

    touched = sum(e.old_end - e.old_start + e.new_end - e.new_start for e in found)
    assert touched == len(old) + len(new) - 2 * lengths[-1][-1]


def test_texts_made_to_cost_time_do_not() -> None:
    """Beyond the budget the rest is replaced whole, and the answer is still right."""
    source = random.Random(1)
    old = [source.choice([b"a", b"b"]) for _ in range(30_000)]
    new = [source.choice([b"a", b"b"]) for _ in range(30_000)]
    found = edits(old, new, budget=10_000)

    assert len(found) == 1
    assert patched(old, new, found) == new
