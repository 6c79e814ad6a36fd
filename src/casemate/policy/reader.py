"""Policy text to a layer: the settings of one file, typed, each with its line.

Nothing is merged here. All mistakes of a file are reported at once.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from casemate.errors import PolicyError
from casemate.policy import values
from casemate.policy.model import Origin
from casemate.policy.positions import KeyPath, lines_of
from casemate.policy.schema import KEYS, TABLES, VERSION, keys_of
from casemate.policy.units import nearest
from casemate.policy.values import Place

SIZE_MAX = 256 << 10
"""Bytes of a policy file."""

_TOML_PLACE = re.compile(r"(.*?) ?\(at (?:line (\d+), column (\d+)|end of document)\)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key as one layer says it."""

    value: object
    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What one file, preset or command line says; keys it does not mention are absent."""

    source: str
    settings: Mapping[str, Setting]
    """By the dotted names of `schema.KEYS`."""
    extends: tuple[str, ...] = ()
    locked: tuple[tuple[str, Origin], ...] = ()
    """Keys that later layers may only narrow."""


def read(data: bytes, *, source: str, base: str, preset: bool = False) -> Layer:
    """Read a policy file.

    `source` names it in messages, `base` is the directory its relative paths start at. Raises
    `PolicyError` that names file, line and key of every mistake.
    """
    text = _decode(data, source)
    try:
        document = tomllib.loads(text)
        lines = lines_of(text)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(error, source, text) from error
    except RecursionError as error:
        raise PolicyError("nested too deeply", path=source) from error
    if "version" not in document and not preset:
        raise PolicyError(
            "the version of the format is missing",
            path=source,
            line=1,
            key="version",
            hint=f"begin the file with `version = {VERSION}`",
        )
    return read_document(document, source=source, base=base, preset=preset, lines=lines)


def read_document(
    document: Mapping[str, object],
    *,
    source: str,
    base: str,
    preset: bool = False,
    lines: dict[KeyPath, int] | None = None,
) -> Layer:
    """Read a policy already parsed, as options of the command line and the SDK make one."""
    place = Place(source, "" if preset else base, optional_paths=preset, lines=lines or {})
    settings: dict[str, Setting] = {}
    extends: tuple[str, ...] = ()
    locked: tuple[tuple[str, Origin], ...] = ()
    for name, value in document.items():
        spot = place.at(name)
        if name == "extends":
            extends = values.each(value, spot, _name) or ()
        elif name == "locked":
            locked = _locked(value, spot)
        elif name in TABLES:
            for key, inner in (values.expect(value, dict, spot) or {}).items():
                _setting(f"{name}.{key}", inner, spot.at(key), settings)
        else:
            _setting(name, value, spot, settings)
    version = settings.get("version")
    if version is not None and version.value != VERSION:
        place.at("version").note(
            f"version {version.value} is not known", f"this casemate reads version {VERSION}"
        )
    if place.problems:
        raise _together(place.problems)
    return Layer(source=source, settings=settings, extends=extends, locked=locked)


def _setting(name: str, value: object, place: Place, settings: dict[str, Setting]) -> None:
    if name not in KEYS:
        table, dot, key = name.rpartition(".")
        siblings = [k.rpartition(".")[2] for k in KEYS if k.rpartition(".")[0] == table]
        known = siblings if dot else [*siblings, *TABLES, "extends", "locked"]
        place.note(f'unknown key "{key}"', _elsewhere(key) or nearest(key, tuple(known)))
        return
    result = KEYS[name].read(value, place)
    if result is not None:
        settings[name] = Setting(result, place.origin)


def _elsewhere(key: str) -> str:
    """A hint for a key that is right but stands in the wrong table."""
    homes = [name for name in KEYS if name.partition(".")[2] == key]
    return f"it belongs to [{homes[0].partition('.')[0]}]" if len(homes) == 1 else ""


def _name(value: object, place: Place) -> str | None:
    text = values.expect(value, str, place)
    if text is None:
        return None
    from casemate.policy.presets import names

    if text not in names():
        place.note(f'no preset is called "{text}"', nearest(text, names()))
        return None
    return text


def _locked(value: object, place: Place) -> tuple[tuple[str, Origin], ...]:
    found: list[tuple[str, Origin]] = []
    for index, name in enumerate(values.each(value, place, values.choice(*TABLES, *KEYS)) or ()):
        origin = place.at(index).origin
        found += [(key, origin) for key in keys_of(str(name))]
    return tuple(found)


def _decode(data: bytes, source: str) -> str:
    if len(data) > SIZE_MAX:
        raise PolicyError(f"larger than {SIZE_MAX} bytes", path=source)
    try:
        return data.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise PolicyError("not UTF-8", path=source, line=line) from error


def _syntax_error(error: tomllib.TOMLDecodeError, source: str, text: str) -> PolicyError:
    found = _TOML_PLACE.fullmatch(str(error))
    problem, line, column = found.groups() if found else (str(error), None, None)
    place = f"column {column}" if column else "at the end"
    return PolicyError(
        f"not TOML: {values.printable(problem)} ({place})",
        path=source,
        line=int(line) if line else text.rstrip("\n").count("\n") + 1,
    )


def _together(problems: list[PolicyError]) -> PolicyError:
    """One error for all: the first one's place, and a line for each of the others."""
    first = problems[0]
    if len(problems) == 1:
        return first
    shown = problems[:20]
    lines = [error.problem + (f" ({error.hint})" if error.hint else "") for error in shown]
    places = [f"{error.path}:{error.line}: {error.key}: " for error in shown]
    text = "\n".join([lines[0]] + [p + t for p, t in zip(places[1:], lines[1:], strict=True)])
    if len(problems) > len(shown):
        text += f"\nand {len(problems) - len(shown)} more"
    return PolicyError(text, path=first.path, line=first.line, key=first.key)
