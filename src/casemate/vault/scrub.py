"""Replaces secrets by their placeholders in bytes on their way in, wherever they are cut. Pure.

Only the beginning of a possible secret is held back, so a stream of events is not delayed.
"""

from __future__ import annotations

from bisect import bisect_left

from casemate.vault import forms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Replacements:
    """What is replaced by what: made once for pairs of a secret and its placeholder."""

    def __init__(self, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        self.table: dict[bytes, bytes] = {}
        for secret, placeholder in pairs:
            self.table |= forms.replacements(secret, placeholder)
        # Of two that begin at the same place the longer one counts.
        self.longest_first = sorted(self.table, key=len, reverse=True)
        self.ordered = sorted(self.table)
        self.firsts = {needle[:1] for needle in self.ordered}
        self.carry = max(map(len, self.ordered), default=1) - 1

    def next(self, text: bytes, start: int) -> tuple[int, bytes]:
        """Where the first form at or behind `start` begins, and which it is; -1 if there is none.

        Of two that begin at the same place it is the longer one.
        """
        place, found = -1, b""
        for needle in self.longest_first:
            # Only what begins before the best so far is better.
            end = len(text) if place < 0 else place + len(needle) - 1
            at = text.find(needle, start, end)
            if at >= 0:
                place, found = at, needle
        return place, found

    def held(self, text: bytes, start: int) -> int:
        """Where the longest end of the text begins that could grow into a form."""
        at = max(start, len(text) - self.carry)
        for first in range(at, len(text)):
            if text[first : first + 1] in self.firsts:
                end = text[first:]
                index = bisect_left(self.ordered, end)
                while index < len(self.ordered) and self.ordered[index].startswith(end):
                    if len(self.ordered[index]) > len(end):
                        return first
                    index += 1
        return len(text)


class Scrub:
    """One stream: `feed` its chunks, write what comes back, and `finish` for the rest."""

    def __init__(self, replacements: Replacements) -> None:
        self._replacements = replacements
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The bytes that are certain by now, secrets replaced."""
        return self._advance(self._rest + chunk, final=False)

    def finish(self) -> bytes:
        """What was held back to the last."""
        return self._advance(self._rest, final=True)

    def _advance(self, text: bytes, *, final: bool) -> bytes:
        rules = self._replacements
        out = []
        start = 0
        while True:
            held = len(text) if final else rules.held(text, start)
            place, needle = rules.next(text, start)
            if place < 0 or place >= held:
                out.append(text[start:held])
                self._rest = text[held:]
                return b"".join(out)
            out += [text[start:place], rules.table[needle]]
            start = place + len(needle)


def scrub(replacements: Replacements, data: bytes) -> bytes:
    """Bytes that are complete, secrets replaced."""
    stream = Scrub(replacements)
    return stream.feed(data) + stream.finish()
