"""Line differences with a bound on the work, whatever the input.

Myers' greedy algorithm ("An O(ND) difference algorithm", 1986). The lines come from a sandbox and
may be made to be expensive; when the work passes the bound, what differs is given as one block.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WORK_MAX = 600_000
"""Comparisons for one pair of files; about half a second."""

WORK_TOTAL_MAX = 20_000_000
"""Comparisons for all pairs of one run."""

CONTEXT = 3


@dataclass(frozen=True, slots=True)
class Block:
    """Lines `old_start` to `old_end` of the old file become `new_start` to `new_end` of the new.

    Counted from 0, ends excluded.
    """

    old_start: int
    old_end: int
    new_start: int
    new_end: int


@dataclass(frozen=True, slots=True)
class Hunk:
    """Blocks close to one another, with the range of lines shown around them."""

    blocks: tuple[Block, ...]
    old_start: int
    old_end: int
    new_start: int
    new_end: int


def split_lines(content: bytes) -> list[bytes]:
    """The lines, each with its newline; only the last may lack it."""
    lines = content.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


class Work:
    """Comparisons that a run of many pairs may still make."""

    def __init__(self, left: int = WORK_TOTAL_MAX) -> None:
        self.left = left


def blocks(old: Sequence[bytes], new: Sequence[bytes], work: Work | None = None) -> list[Block]:
    """What to replace in `old` to get `new`; as little as the bounds allow to find."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    old_end, new_end = len(old), len(new)
    while min(old_end, new_end) > start and old[old_end - 1] == new[new_end - 1]:
        old_end, new_end = old_end - 1, new_end - 1
    if start == old_end and start == new_end:
        return []
    if start in (old_end, new_end):
        return [Block(start, old_end, start, new_end)]
    numbers: dict[bytes, int] = {}
    a = [numbers.setdefault(line, len(numbers)) for line in old[start:old_end]]
    b = [numbers.setdefault(line, len(numbers)) for line in new[start:new_end]]
    matches = _matches(a, b, work or Work())
    if matches is None:
        return [Block(start, old_end, start, new_end)]
    return _between(matches, len(a), len(b), start)


def hunks(changed: Sequence[Block], old: int, new: int) -> Iterator[Hunk]:
    """The blocks grouped for display; `old` and `new` are the numbers of lines."""
    group: list[Block] = []
    for block in changed:
        if group and block.old_start - group[-1].old_end > 2 * CONTEXT:
            yield _hunk(group, old, new)
            group = []
        group.append(block)
    if group:
        yield _hunk(group, old, new)


def _hunk(group: Sequence[Block], old: int, new: int) -> Hunk:
    first, last = group[0], group[-1]
    before = min(CONTEXT, first.old_start, first.new_start)
    after = min(CONTEXT, old - last.old_end, new - last.new_end)
    return Hunk(
        tuple(group),
        first.old_start - before,
        last.old_end + after,
        first.new_start - before,
        last.new_end + after,
    )


def _matches(a: Sequence[int], b: Sequence[int], work: Work) -> list[tuple[int, int]] | None:
    """Pairs of equal lines on a shortest edit path; None where it is beyond the bounds.

    `trail[d]` holds how far `d` edits reach in `a` on the diagonals -d, -d + 2, ... d.
    """
    budget = min(work.left, WORK_MAX)
    trail: list[array[int]] = []
    used = 0
    for edits in range(len(a) + len(b) + 1):
        reached = array("i")
        for diagonal in range(-edits, edits + 1, 2):
            x = _reach(trail[-1], edits, diagonal)[0] if edits else 0
            y = x - diagonal
            begun = x
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            used += 1 + x - begun
            reached.append(x)
            if x >= len(a) and y >= len(b):
                work.left -= used
                return _walk_back([*trail, reached], len(a), len(b))
        trail.append(reached)
        if used > budget:
            break
    work.left -= used
    return None


def _reach(previous: array[int], edits: int, diagonal: int) -> tuple[int, int]:
    """Where a further edit begins on `diagonal`: (place in `a`, diagonal that it came from)."""
    above = (diagonal + 1 + edits - 1) // 2
    down = diagonal == -edits or (diagonal != edits and previous[above - 1] < previous[above])
    if down:
        return previous[above], diagonal + 1
    return previous[above - 1] + 1, diagonal - 1


def _walk_back(trail: Sequence[array[int]], x: int, y: int) -> list[tuple[int, int]]:
    matches = []
    for edits in range(len(trail) - 1, 0, -1):
        begun, before = _reach(trail[edits - 1], edits, x - y)
        while x > begun:
            x, y = x - 1, y - 1
            matches.append((x, y))
        x = trail[edits - 1][(before + edits - 1) // 2]
        y = x - before
    matches.extend((place, place) for place in range(x - 1, -1, -1))
    matches.reverse()
    return matches


def _between(matches: Sequence[tuple[int, int]], old: int, new: int, start: int) -> list[Block]:
    found = []
    x = y = 0
    for next_x, next_y in [*matches, (old, new)]:
        if next_x > x or next_y > y:
            found.append(Block(start + x, start + next_x, start + y, start + next_y))
        x, y = next_x + 1, next_y + 1
    return found
