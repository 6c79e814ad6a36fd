"""The stand-in agent's first act: an honest piece of work on the project it was given.

A program of its own, fed to a Python of 3.9 or newer on standard input with the project as
working directory; it imports nothing of casemate. It improves one file and adds another, and
writes what it did as one line of JSON.

In casemate's own source it teaches durations to know weeks and adds a test for it. In any other
project it describes the layout in the readme (or takes trailing blanks out of a file, where there
is no readme) and adds an `.editorconfig` that says how the files are already indented.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

SKIPPED = {"node_modules", "target", "dist", "build", "__pycache__"}
UNITS = "src/casemate/policy/units.py"

WEEKS_TEST = '''\
"""Durations in weeks."""

import unittest

from casemate.policy.units import format_duration, parse_duration


class Weeks(unittest.TestCase):
    """A week is seven days, alone and beside other units."""

    def test_one_week_is_seven_days(self):
        self.assertEqual(parse_duration("1w"), parse_duration("7d"))

    def test_weeks_stand_beside_other_units(self):
        self.assertEqual(parse_duration("1w12h"), 7 * 86400 + 12 * 3600)

    def test_what_is_formatted_can_be_read_back(self):
        self.assertEqual(parse_duration(format_duration(parse_duration("2w"))), 14 * 86400)
'''


def main() -> None:
    """Does the work and says what it was."""
    changed = teach_weeks() if os.path.exists(UNITS) else tidy()
    print(json.dumps({"changed": changed}))


def load(path: str) -> str:
    """The text of a file, its line ends as they are."""
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def save(path: str, text: str) -> None:
    """Writes a file."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)


def teach_weeks() -> list[str]:
    """Adds the unit "w" to the table and to the patterns that read it; adds the test."""
    text = load(UNITS)
    text, entries = re.subn(r'("d": 86400\.0)\}', r'\1, "w": 604800.0}', text)
    text, patterns = re.subn(r"\(ms\|s\|m\|h\|d\)|\(\?:ms\|s\|m\|h\|d\)", wider, text)
    if not entries or not patterns:
        raise SystemExit("the table of units does not look as expected")
    save(UNITS, text)
    save("tests/test_weeks.py", WEEKS_TEST)
    return [UNITS, "tests/test_weeks.py"]


def wider(found: re.Match[str]) -> str:
    """A group of units with weeks added."""
    return found.group()[:-1] + "|w)"


def tidy() -> list[str]:
    """The work on a project that is not known."""
    files = sorted(text_files())
    changed: list[str] = []
    readmes = [path for path in files if os.path.basename(path).lower().startswith("readme.")]
    if readmes:
        changed.append(describe_layout(min(readmes, key=lambda path: (path.count("/"), path))))
    else:
        changed += strip_blanks(files)
    new = ".editorconfig" if not os.path.lexists(".editorconfig") else "LAYOUT.md"
    if new == ".editorconfig":
        save(new, editor_settings(files))
    else:
        save(new, "# Layout\n\n" + layout())
    return [*changed, new]


def text_files() -> Iterator[str]:
    """Paths of the text files of ordinary size, hidden directories left out."""
    for directory, directories, names in os.walk("."):
        directories[:] = [d for d in directories if d[0] != "." and d not in SKIPPED]
        for name in names:
            path = os.path.normpath(os.path.join(directory, name))
            try:
                if name[0] != "." and os.path.isfile(path) and os.path.getsize(path) < 1 << 18:
                    load(path)
                    yield path
            except (OSError, UnicodeDecodeError):
                continue


def describe_layout(readme: str) -> str:
    """Adds a section that lists the top-level directories."""
    text = load(readme)
    title = "## Layout" if readme.lower().endswith(".md") else "Layout\n------"
    save(readme, text.rstrip("\n") + "\n\n" + title + "\n\n" + layout())
    return readme


def layout() -> str:
    """A list of the top-level directories."""
    lines = []
    for name in sorted(os.listdir(".")):
        if os.path.isdir(name) and name[0] != "." and name not in SKIPPED:
            count = sum(len(names) for _, _, names in os.walk(name))
            lines.append(f"- `{name}/`: {count} files\n")
    return "".join(lines) or "All files are at the top level.\n"


def strip_blanks(files: list[str]) -> list[str]:
    """Takes trailing blanks and missing final newlines out of the first file that has any."""
    for path in files:
        text = load(path)
        better = re.sub(r"[ \t]+(?=\r?\n|\Z)", "", text)
        better += "" if better.endswith("\n") or not better else "\n"
        if better != text:
            save(path, better)
            return [path]
    return []


def editor_settings(files: list[str]) -> str:
    """The indentation that most files of each kind already have."""
    widths: dict[str, list[str]] = {}
    for path in files:
        kind = os.path.splitext(path)[1]
        found = re.findall(r"^(\t|  +)(?=\S)", load(path), re.MULTILINE)
        if kind and found:
            narrow = min(found, key=len)
            widths.setdefault(kind, []).append("tab" if narrow == "\t" else str(len(narrow)))
    lines = ["root = true\n", "\n[*]\n", "charset = utf-8\n", "insert_final_newline = true\n"]
    for kind in sorted(widths):
        usual = max(sorted(set(widths[kind])), key=widths[kind].count)
        style = "tab" if usual == "tab" else "space"
        lines.append(f"\n[*{kind}]\nindent_style = {style}\n")
        if style == "space":
            lines.append(f"indent_size = {usual}\n")
    return "".join(lines)


main()
