"""Where each key of a TOML document stands, for error messages.

tomllib reads values and forgets lines. `lines_of` walks a document that tomllib has already
accepted, so it need not judge it, only find its way: it knows strings, comments, arrays, inline
tables and headers (TOML 1.0) and nothing about numbers or dates.
"""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]
"""Keys and array indexes from the top, as in ("network", "deny", 1, "rule")."""

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}#\n]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:[^"\\]|\\.)*"' + r"|'[^']*'", re.DOTALL
)


def lines_of(text: str) -> dict[KeyPath, int]:
    """The line, from 1, of every table, key and array element of a valid TOML document."""
    return _Walk(text).document()


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.lines: dict[KeyPath, int] = {}
        self.array_lengths: dict[KeyPath, int] = {}
        self._line = 1
        self._line_position = 0

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_BLANK_LINES)
        while self.position < len(self.text):
            if self.text[self.position] == "[":
                table = self._header()
            else:
                self._key_value(table)
            self._skip(_BLANK_LINES)
        return self.lines

    def _header(self) -> KeyPath:
        array = self.text.startswith("[[", self.position)
        line = self._line_here()
        self.position += 2 if array else 1
        self._skip(_BLANK)
        keys = self._keys()
        self.position += 2 if array else 1
        path: KeyPath = ()
        for index, key in enumerate(keys):
            path += (key,)
            self.lines.setdefault(path, line)
            if array and index == len(keys) - 1:
                self.array_lengths[path] = self.array_lengths.get(path, 0) + 1
            if path in self.array_lengths:
                path += (self.array_lengths[path] - 1,)
                self.lines.setdefault(path, line)
        return path

    def _key_value(self, table: KeyPath) -> None:
        line = self._line_here()
        path = table
        for key in self._keys():
            path += (key,)
            self.lines.setdefault(path, line)
        self.position += 1  # "="
        self._skip(_BLANK)
        self._value(path)

    def _keys(self) -> list[str]:
        """The parts of a dotted key; leaves the position on what follows it."""
        keys = []
        while True:
            if self.text[self.position] in "\"'":
                keys.append(_unquote(self._match(_STRING)))
            else:
                keys.append(self._match(_BARE_KEY))
            self._skip(_BLANK)
            if self.text[self.position] != ".":
                return keys
            self.position += 1
            self._skip(_BLANK)

    def _value(self, path: KeyPath) -> None:
        character = self.text[self.position]
        if character == "[":
            self._array(path)
        elif character == "{":
            self._inline_table(path)
        elif character in "\"'":
            self._match(_STRING)
        else:
            self._match(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self.position += 1
        index = 0
        self._skip(_BLANK_LINES)
        while self.text[self.position] != "]":
            self.lines[(*path, index)] = self._line_here()
            self._value((*path, index))
            index += 1
            self._skip(_BLANK_LINES)
            if self.text[self.position] == ",":
                self.position += 1
                self._skip(_BLANK_LINES)
        self.position += 1

    def _inline_table(self, path: KeyPath) -> None:
        self.position += 1
        self._skip(_BLANK_LINES)
        while self.text[self.position] != "}":
            self._key_value(path)
            self._skip(_BLANK_LINES)
            if self.text[self.position] == ",":
                self.position += 1
                self._skip(_BLANK_LINES)
        self.position += 1

    def _skip(self, blank: re.Pattern[str]) -> None:
        found = blank.match(self.text, self.position)
        self.position = found.end() if found else self.position

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.position)
        if found is None:
            raise ValueError(f"lost at character {self.position}")
        self.position = found.end()
        return found.group()

    def _line_here(self) -> int:
        self._line += self.text.count("\n", self._line_position, self.position)
        self._line_position = self.position
        return self._line


def _unquote(text: str) -> str:
    if text.startswith("'"):
        return text[1:-1]
    if "\\" not in text:
        return text[1:-1]
    import tomllib

    key: str = tomllib.loads(f"key = {text}")["key"]
    return key
