"""Line differences: right for any input, small where they can be, bounded where they cannot."""

from __future__ import annotations

import difflib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from casemate.workspace import unified

LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"\n", b"d"]), max_size=30)


def patched(old: list[bytes], new: list[bytes], blocks: list[unified.Block]) -> list[bytes]:
    result, position = [], 0
    for block in blocks:
        result += old[position : block.old_start] + new[block.new_start : block.new_end]
        position = block.old_end
    return result + old[position:]


@given(LINES, LINES)
def test_blocks_turn_old_into_new(old: list[bytes], new: list[bytes]) -> None:
    """Replacing the blocks gives the new file, with never more edits than difflib's."""
    blocks = unified.blocks(old, new)
    assert patched(old, new, blocks) == new
    edits = sum(b.old_end - b.old_start + b.new_end - b.new_start for b in blocks)
    theirs = sum(
        i2 - i1 + j2 - j1
        for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, old, new, False).get_opcodes()
        if tag != "equal"
    )
    assert edits <= theirs


@given(st.binary())
def test_lines_join_again(content: bytes) -> None:
    """Splitting loses nothing, and only the last line may lack its newline."""
    lines = unified.split_lines(content)
    assert b"".join(lines) == content
    assert all(line.endswith(b"\n") for line in lines[:-1])
    assert b"" not in lines


@given(LINES, LINES)
def test_hunks_cover_the_blocks(old: list[bytes], new: list[bytes]) -> None:
    """Every block is in one hunk, hunks do not overlap, and both sides are equally long around."""
    blocks = unified.blocks(old, new)
    hunks = list(unified.hunks(blocks, len(old), len(new)))
    assert [block for hunk in hunks for block in hunk.blocks] == blocks
    for first, second in pairwise(hunks):
        assert first.old_end <= second.old_start
    for hunk in hunks:
        assert (
            old[hunk.old_start : hunk.blocks[0].old_start]
            == new[hunk.new_start : hunk.blocks[0].new_start]
        )
        assert (
            old[hunk.blocks[-1].old_end : hunk.old_end]
            == new[hunk.blocks[-1].new_end : hunk.new_end]
        )


def test_few_edits_in_a_large_file() -> None:
    """Distant edits in a large file are found one by one."""
    old = [b"%d\n" % number for number in range(50_000)]
    new = list(old)
    new[3:4] = [b"x\n"]
    new[40_000:40_000] = [b"y\n", b"z\n"]
    assert len(unified.blocks(old, new)) == 2


def test_hostile_files_are_bounded() -> None:
    """Files made to be costly come out as one block, and a run of many has a bound in all."""
    old = [b"%d\n" % (number * 7919 % 5003) for number in range(20_000)]
    new = [b"%d\n" % (number * 6007 % 5003) for number in range(20_000)]
    work = unified.Work()
    assert len(unified.blocks(old, new, work)) == 1
    assert unified.WORK_TOTAL_MAX - work.left < 2 * unified.WORK_MAX
    for _ in range(3):
        unified.blocks(old, new, exhausted := unified.Work(0))
        assert exhausted.left > -50_000
