"""Readers for the values of a policy file: one function for each kind of value.

A reader takes what tomllib made of the text and the `Place` it stands at, and returns the typed
value. What is wrong is noted at the place, so that one reading reports every mistake in a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from casemate.errors import PolicyError
from casemate.policy.endpoints import parse_budget, parse_denial, parse_endpoint, parse_pin
from casemate.policy.hosts import parse_host
from casemate.policy.model import (
    Budget,
    Endpoint,
    Origin,
    PathRule,
    Pattern,
    Pin,
)
from casemate.policy.patterns import parse_pattern
from casemate.policy.positions import KeyPath
from casemate.policy.units import nearest, parse_duration, parse_size

T = TypeVar("T")
Reader = Callable[[object, "Place"], object]

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
RESERVED_VARIABLES = ("HOME", "CASEMATE", "XDG_RUNTIME_DIR")
_TYPE_NAMES: dict[type, str] = {
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    str: "a string",
    list: "an array",
    dict: "a table",
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands, and the list that its mistakes go to."""

    source: str
    base: str
    """Directory that relative paths start at; "" where there is none (a preset)."""
    optional_paths: bool = False
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[PolicyError] = field(default_factory=list)
    path: KeyPath = ()

    def at(self, *keys: str | int) -> Place:
        """The place of a key or an array element within this one."""
        return replace(self, path=self.path + keys)

    @property
    def key(self) -> str:
        """The dotted key, as in `network.allow[1]`."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return printable(text)

    @property
    def line(self) -> int:
        """The line, or that of the nearest thing around that has one; 0 if unknown."""
        for length in range(len(self.path), 0, -1):
            if self.path[:length] in self.lines:
                return self.lines[self.path[:length]]
        return 0

    @property
    def origin(self) -> Origin:
        """What rules made here remember."""
        return Origin(self.source, self.line, self.key)

    def note(self, problem: str, hint: str = "") -> None:
        """Report one mistake."""
        self.problems.append(
            PolicyError(
                printable(problem),
                path=self.source,
                line=self.line,
                key=self.key,
                hint=printable(hint),
            )
        )


def printable(text: str) -> str:
    """The text with every control character escaped: a policy file may be hostile."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def type_name(value: object) -> str:
    """What TOML calls the type of a value."""
    return _TYPE_NAMES.get(type(value), "a date or time")


def expect(value: object, kind: type[T], place: Place) -> T | None:
    """The value if it is of the type, else None and a note. A boolean is never a number."""
    if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
        return value
    place.note(f"expected {_TYPE_NAMES[kind]}, got {type_name(value)}")
    return None


def parsed(parse: Callable[[str], T], text: str, place: Place) -> T | None:
    """`parse(text)`, its `PolicyError` noted at the place."""
    try:
        return parse(text)
    except PolicyError as error:
        place.note(error.problem, error.hint)
        return None


def each(
    value: object, place: Place, read: Callable[[object, Place], T | None]
) -> tuple[T, ...] | None:
    """Every element of an array, read; the wrong ones are noted and left out."""
    items = expect(value, list, place)
    if items is None:
        return None
    read_items = (read(item, place.at(index)) for index, item in enumerate(items))
    return tuple(item for item in read_items if item is not None)


def choice(*names: str) -> Reader:
    """A reader for one of a few names."""

    def read(value: object, place: Place) -> str | None:
        text = expect(value, str, place)
        if text is not None and text not in names:
            place.note(f'unknown value "{text}"', nearest(text, names))
            return None
        return text

    return read


def names_of(*known: str) -> Reader:
    """A reader for an array of known names."""
    read_one = choice(*known)

    def read(value: object, place: Place) -> tuple[object, ...] | None:
        return each(value, place, read_one)

    return read


def flag(value: object, place: Place) -> bool | None:
    """True or false."""
    return expect(value, bool, place)


@dataclass(frozen=True, slots=True)
class NoLimit:
    """What "none" reads as: a ceiling taken away, which is not the same as one not given."""


def ceiling(
    parse: Callable[[str], float] | None, *, whole: bool, least: float, removable: bool = True
) -> Reader:
    """A reader for a positive number, given plain or as text with units; "none" lifts it."""

    def read(value: object, place: Place) -> object:
        if removable and value == "none":
            return NoLimit()
        number: float | None
        if isinstance(value, str) and parse is not None:
            number = parsed(parse, value, place)
        elif whole:
            number = expect(value, int, place)
        elif isinstance(value, float):
            number = value
        else:
            number = expect(value, int, place)
        if number is not None and not least <= number < 1 << 62:
            smallest = f"{least:,.15g}".replace(",", "_")
            place.note(f"must be at least {smallest}" if number < least else "is too large")
            return None
        return number

    return read


size = ceiling(parse_size, whole=True, least=1 << 20)
fixed_size = ceiling(parse_size, whole=True, least=1 << 20, removable=False)
count = ceiling(None, whole=True, least=1)
fixed_count = ceiling(None, whole=True, least=1, removable=False)
duration = ceiling(parse_duration, whole=False, least=0.001)
quantity = ceiling(None, whole=False, least=0.01)


def patterns(value: object, place: Place) -> tuple[Pattern, ...] | None:
    """Gitignore patterns."""

    def read(item: object, spot: Place) -> Pattern | None:
        text = expect(item, str, spot)
        if text is None:
            return None
        return parsed(lambda t: parse_pattern(t, spot.origin), text, spot)

    return each(value, place, read)


def paths(value: object, place: Place) -> tuple[PathRule, ...] | None:
    """Paths: absolute, under `~`, or relative to the file; or `{path, optional}`."""
    return each(value, place, _path)


def _path(value: object, place: Place) -> PathRule | None:
    optional = place.optional_paths
    if isinstance(value, dict):
        table = fields(value, place, {"path": text_of, "optional": flag})
        if "path" not in table:
            return None
        value, optional = table["path"], bool(table.get("optional", optional))
    text = expect(value, str, place)
    if text is None:
        return None
    if not text or "\0" in text:
        place.note("a path cannot be empty or hold a zero byte")
    elif text.startswith("~") and text != "~" and not text.startswith("~/"):
        place.note(f'"{text}": only your own home is known', 'write "~/..." or the whole path')
    elif text.startswith(("/", "~")):
        return PathRule(text, place.origin, optional)
    elif not place.base:
        place.note(f'"{text}" is relative', "a preset names absolute paths or ones under ~")
    else:
        return PathRule(os.path.join(place.base, text), place.origin, optional)
    return None


def endpoints(value: object, place: Place) -> tuple[Endpoint, ...] | None:
    """Rules that allow: text, or `{rule, reason}`."""
    return each(value, place, lambda item, spot: _rule(item, spot, parse_endpoint))


def denials(value: object, place: Place) -> tuple[Endpoint, ...] | None:
    """Rules that deny, written alike."""
    return each(value, place, lambda item, spot: _rule(item, spot, parse_denial))


def _rule(value: object, place: Place, parse: Callable[..., Endpoint]) -> Endpoint | None:
    reason = ""
    if isinstance(value, dict):
        table = fields(value, place, {"rule": text_of, "reason": text_of})
        if "rule" not in table:
            if "rule" not in value:
                place.note("the rule is missing", 'as in { rule = "gist.github.com", reason = "" }')
            return None
        value, reason = table["rule"], str(table.get("reason", ""))
    text = expect(value, str, place)
    if text is None:
        return None
    return parsed(lambda t: parse(t, reason=reason, origin=place.origin), text, place)


def pins(value: object, place: Place) -> tuple[Pin, ...] | None:
    """Hosts and the addresses they are pinned to."""

    def read(item: object, spot: Place) -> Pin | None:
        text = expect(item, str, spot)
        if text is None:
            return None
        return parsed(lambda t: parse_pin(t, origin=spot.origin), text, spot)

    return each(value, place, read)


def hosts(value: object, place: Place) -> tuple[str, ...] | None:
    """Host names and wildcards, no networks."""

    def read(item: object, spot: Place) -> str | None:
        text = expect(item, str, spot)
        host = None if text is None else parsed(parse_host, text, spot)
        if host is not None and "/" in host:
            spot.note("hosts are named here, not networks")
            return None
        return host

    return each(value, place, read)


def budget(value: object, place: Place) -> Budget | None:
    """Budgets alone."""
    text = expect(value, str, place)
    return None if text is None else parsed(parse_budget, text, place)


def variable_names(value: object, place: Place) -> tuple[str, ...] | None:
    """Environment variable names, each with an optional `*` at the end."""

    def read(item: object, spot: Place) -> str | None:
        text = expect(item, str, spot)
        if text is not None and not VARIABLE.fullmatch(text.removesuffix("*")):
            spot.note(f'"{text}" is not a variable name', 'as in "LANG" or "LC_*"')
            return None
        return text

    return each(value, place, read)


def variables(value: object, place: Place) -> tuple[tuple[str, str], ...] | None:
    """A table of environment variables and their values."""
    table = expect(value, dict, place)
    if table is None:
        return None
    found = []
    for name, item in table.items():
        spot = place.at(name)
        text = expect(item, str, spot)
        if not VARIABLE.fullmatch(name) or name in RESERVED_VARIABLES:
            spot.note(
                f'"{name}" cannot be set', "set by casemate: " + ", ".join(RESERVED_VARIABLES)
            )
        elif text is not None and "\0" in text:
            spot.note("a value cannot hold a zero byte")
        elif text is not None:
            found.append((name, text))
    return tuple(found)


def text_of(value: object, place: Place) -> str | None:
    """Any text."""
    return expect(value, str, place)


def fields(value: object, place: Place, readers: dict[str, Reader]) -> dict[str, object]:
    """The keys of a table, each read; unknown keys are noted with the nearest known one."""
    table = expect(value, dict, place)
    found: dict[str, object] = {}
    for name, item in (table or {}).items():
        spot = place.at(name)
        if name not in readers:
            spot.note(f'unknown key "{name}"', nearest(name, tuple(readers)))
            continue
        result = readers[name](item, spot)
        if result is not None:
            found[name] = result
    return found
