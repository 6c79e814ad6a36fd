"""Sizes and durations as people write them.

Decimal units (kB, MB, GB, TB) are powers of 1000 and binary ones (KiB, MiB, GiB, TiB) powers of
1024, as ISO/IEC 80000-13 has it. A bare "2G" means either to different people and is refused.
"""

from __future__ import annotations

import difflib
import re

from casemate.errors import PolicyError

SIZE_UNITS = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

SIZE_MAX = 1 << 62

_AMOUNT = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?)[ ]?([A-Za-z]*)", re.ASCII)
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+", re.ASCII)
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)", re.ASCII)


def nearest(word: str, known: tuple[str, ...]) -> str:
    """A hint naming the closest known spelling of `word`, or all of them when few; else ""."""
    lowered = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    if close:
        return f'did you mean "{lowered[close[0]]}"?'
    if known and len(known) <= 16:
        return "known: " + ", ".join(known)
    return ""


def parse_size(text: str) -> int:
    """Bytes of a size such as "2GiB" or "1.5 MB". Raises `PolicyError`."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise PolicyError(f'"{text}" is not a size', hint='write it as "512MiB" or "2GB"')
    number, unit = found.groups()
    if unit not in SIZE_UNITS:
        raise PolicyError(
            f'"{text}" has no unit of size' if not unit else f'unknown unit "{unit}" in "{text}"',
            hint=_unit_hint(number, unit),
        )
    size = (
        int(float(number) * SIZE_UNITS[unit]) if "." in number else int(number) * SIZE_UNITS[unit]
    )
    if size > SIZE_MAX:
        raise PolicyError(f'"{text}" is more than any file system holds')
    return size


def _unit_hint(number: str, unit: str) -> str:
    letter = unit[:1].upper()
    if letter in "KMGT" and letter:
        return f'write "{number}{letter}iB" (powers of 1024) or "{number}{letter}B" (of 1000)'
    return "units: " + ", ".join(name for name in SIZE_UNITS if name != "KB")


def parse_duration(text: str) -> float:
    """Seconds of a duration such as "90s", "2h" or "1h30m". Raises `PolicyError`."""
    if _DURATION.fullmatch(text) is None:
        raise PolicyError(
            f'"{text}" is not a duration',
            hint='write it as "90s", "2h" or "1h30m"; units: ' + ", ".join(DURATION_UNITS),
        )
    return sum(float(n) * DURATION_UNITS[unit] for n, unit in _DURATION_PART.findall(text))


def format_size(size: int) -> str:
    """The shortest exact spelling that `parse_size` reads back."""
    for unit in ("TiB", "GiB", "MiB", "KiB", "TB", "GB", "MB", "kB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return f"{size}B"


def format_duration(seconds: float) -> str:
    """A spelling that `parse_duration` reads back, exact to the millisecond."""
    milliseconds = round(seconds * 1000)
    parts = []
    for unit in ("d", "h", "m", "s"):
        count, milliseconds = divmod(milliseconds, round(DURATION_UNITS[unit] * 1000))
        if count:
            parts.append(f"{count}{unit}")
    if milliseconds or not parts:
        parts.append(f"{milliseconds}ms")
    return "".join(parts)
