"""The shortest edit between two texts, within a budget: hostile texts must not cost minutes.

Source: E. W. Myers, An O(ND) Difference Algorithm and Its Variations (1986). `difflib` of the
standard library is quadratic to cubic on texts made for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BUDGET = 2_000_000
"""Lines looked at before the rest is given as replaced whole."""

CONTEXT = 3


@dataclass(frozen=True, slots=True)
class Edit:
    """Lines `old_start` to `old_end` of the one text stand as `new_start` to `new_end` of the other.

    Counted from zero, ends not included.
    """

    old_start: int
    old_end: int
    new_start: int
    new_end: int


def edits(old: Sequence[bytes], new: Sequence[bytes], *, budget: int = BUDGET) -> list[Edit]:
    """What to replace in `old` to get `new`, in order."""
    head = 0
    while head < min(len(old), len(new)) and old[head] == new[head]:
        head += 1
    tail = 0
    while tail < min(len(old), len(new)) - head and old[-1 - tail] == new[-1 - tail]:
        tail += 1
    left, right = old[head : len(old) - tail], new[head : len(new) - tail]
    if not left and not right:
        return []
    kept = _kept(left, right, budget) if left and right else []
    found = []
    x = y = 0
    for start, end, length in [*kept, (len(left), len(right), 0)]:
        if start > x or end > y:
            found.append(Edit(head + x, head + start, head + y, head + end))
        x, y = start + length, end + length
    return found


def _kept(old: Sequence[bytes], new: Sequence[bytes], budget: int) -> list[tuple[int, int, int]]:
    """Runs of equal lines (start in old, start in new, length); none if the budget runs out."""
    numbers: dict[bytes, int] = {}
    a = [numbers.setdefault(line, len(numbers)) for line in old]
    b = [numbers.setdefault(line, len(numbers)) for line in new]
    furthest = {1: 0}
    history: list[dict[int, int]] = []
    for distance in range(len(a) + len(b) + 1):
        budget -= distance + 1
        history.append(dict(furthest) if distance else {1: 0})
        for k in range(-distance, distance + 1, 2):
            down = k == -distance or (
                k != distance and furthest.get(k - 1, -1) < furthest.get(k + 1, -1)
            )
            x = furthest[k + 1] if down else furthest[k - 1] + 1
            y = x - k
            begin = x
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x, y = x + 1, y + 1
            budget -= x - begin
            furthest[k] = x
            if x >= len(a) and y >= len(b):
                return _walk_back(history, len(a), len(b))
        # The history holds a copy for every distance, so memory is bounded with it.
        budget -= len(furthest)
        if budget < 0:
            return []
    return []


def _walk_back(history: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int, int]]:
    runs = []
    for distance in range(len(history) - 1, -1, -1):
        furthest = history[distance]
        k = x - y
        down = k == -distance or (
            k != distance and furthest.get(k - 1, -1) < furthest.get(k + 1, -1)
        )
        before = k + 1 if down else k - 1
        start_x = furthest[before] if distance else 0
        start_y = start_x - before if distance else 0
        entry_x = (start_x if down else start_x + 1) if distance else 0
        if x > entry_x:
            runs.append((entry_x, entry_x - k, x - entry_x))
        x, y = start_x, start_y
    return runs[::-1]


def hunks(found: Sequence[Edit]) -> list[list[Edit]]:
    """Edits whose context overlaps, together."""
    grouped: list[list[Edit]] = []
    for edit in found:
        if grouped and edit.old_start - grouped[-1][-1].old_end <= 2 * CONTEXT:
            grouped[-1].append(edit)
        else:
            grouped.append([edit])
    return grouped
