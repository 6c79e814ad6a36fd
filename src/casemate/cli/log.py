"""`casemate log`: what a session's network allowed and refused, from its journal."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from casemate.audit.journal import Head, JournalError, Reader, read, verify
from casemate.cli.options import parse
from casemate.cli.style import Style, print_json, size
from casemate.errors import UsageError
from casemate.policy.locations import locate
from casemate.policy.units import parse_duration
from casemate.policy.values import printable

POLL_SECONDS = 0.2
BATCH = 1000
"""Lines that are aligned with each other."""
HEAD = ("TIME", "VERDICT", "WHAT", "WHY")
COLOURS = {"allowed": "green", "refused": "red"}

Row = tuple[str, str, str, str]


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("log", arguments)
    if parsed.allowed and parsed.refused:
        raise UsageError("--allowed and --refused exclude each other")
    path = find(os.path.join(locate(os.environ).state, "journals"), parsed.session)
    if parsed.verify or parsed.head:
        return _verified(path, verify(path, (parsed.head or "").lower()), parsed.json)
    wanted = Filter(parsed)
    lines = filter(wanted.takes, follow(path) if parsed.follow else read(path))
    if parsed.json:
        for line in lines:
            sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")
            if parsed.follow:
                sys.stdout.flush()
    else:
        show(Style(sys.stdout), lines, at_once=parsed.follow)
    return 0


def find(directory: str, wanted: str | None) -> str:
    """The journal of a session: by its id, how that begins or ends, or the newest.

    Raises `UsageError`.
    """
    try:
        names = sorted(name for name in os.listdir(directory) if name.endswith(".jsonl"))
    except FileNotFoundError:
        names = []
    if wanted:
        names = [
            name
            for name in names
            if name.startswith(wanted) or name.removesuffix(".jsonl").endswith(wanted)
        ]
        if len(names) > 1:
            raise UsageError(f"more than one session is meant by {wanted}")
    if not names:
        raise UsageError(
            f"no session {wanted} with a network" if wanted else "no session had a network yet",
            hint="a journal is kept of runs whose policy allows endpoints",
        )
    return os.path.join(directory, names[-1])


class Filter:
    """Which lines are asked for."""

    def __init__(self, parsed: Any) -> None:
        self.verdict = "allowed" if parsed.allowed else "refused" if parsed.refused else ""
        self.host = parsed.host and parsed.host.lower()
        self.event = parsed.event
        self.since = time.time() - parse_duration(parsed.since) if parsed.since else 0.0

    def takes(self, line: dict[str, Any]) -> bool:
        """Whether a line is asked for."""
        return (
            (not self.verdict or line.get("verdict") == self.verdict)
            and (not self.event or line["event"] == self.event)
            and (not self.host or fnmatch.fnmatchcase(str(line.get("host", "")), self.host))
            and float(line["time"]) >= self.since
        )


def follow(path: str) -> Iterator[dict[str, Any]]:
    """The lines so far and those to come, until nobody writes any more."""
    with Reader(path) as reader:
        live = True
        while live:
            # Asked before the reading, so that the last lines of one who just left are read.
            live = reader.live
            for line in reader:
                yield line
                if line["event"] == "end":
                    return
            if live:
                time.sleep(POLL_SECONDS)


def show(style: Style, lines: Iterable[dict[str, Any]], *, at_once: bool) -> None:
    """Lines as a table; `at_once` each as it comes, without waiting for others."""
    rest = map(row, lines)
    if at_once:
        for one in rest:
            style.print("  ".join(_painted(style, one, one)).rstrip())
            style.stream.flush()
        return
    told = False
    while batch := list(itertools.islice(rest, BATCH)):
        rows: list[Row] = batch if told else [HEAD, *batch]
        widths = [max(len(one[column]) for one in rows) for column in range(3)]
        for one in rows:
            columns = [*map(str.ljust, one[:3], widths), one[3]]
            style.print("  ".join(_painted(style, one, columns)).rstrip())
        told = True
    if not told:
        style.print("nothing to show")


def _painted(style: Style, one: Row, columns: Iterable[str]) -> list[str]:
    """The columns in colours: painted after they were aligned, so that codes do not count."""
    found = list(columns)
    if one is HEAD:
        return [style.paint(text, "bold") for text in found]
    if one[1] in COLOURS:
        found[1] = style.paint(found[1], COLOURS[one[1]])
    return found


def row(line: dict[str, Any]) -> Row:
    """A line for people: when, verdict, what, and by which rule or why not.

    A journal may be anybody's: what does not fit is shown as it is, and nothing a terminal obeys.
    """
    moment = time.localtime(line["time"])
    today = time.localtime()[:3] == moment[:3]
    when = time.strftime("%H:%M:%S" if today else "%Y-%m-%d %H:%M:%S", moment)
    verdict = printable(str(line.get("verdict", line["event"])))
    if "host" in line:
        asked = printable(str(line.get("method", line.get("via", ""))))
        place = f"{line['host']}:{line.get('port', '')}{line.get('path', '')}"
        what = f"{asked} {printable(place)}"
    else:
        what = ""
    if verdict == "allowed":
        why = f"{_moved(line)}; rule {line.get('rule', '')}"
    elif verdict == "refused":
        why = f"{line.get('code', 'several')}: {line.get('why', 'refusals of many kinds')}"
        if "repeated" in line:
            why += f" (and {line['repeated']} times more)"
    else:
        why = _ABOUT.get(verdict, "")
    return when, verdict, what, printable(why)


_ABOUT = {
    "begin": "the session's network opens",
    "end": "the session ends",
    "full": "there is no room for more: nothing is allowed from here on",
}


def _moved(line: dict[str, Any]) -> str:
    parts = []
    for name, word in (("up", "out"), ("down", "in")):
        number = line.get(name)
        if isinstance(number, int):
            parts.append(f"{size(number)} {word}")
    if isinstance(line.get("ms"), int | float):
        parts.append(f"{line['ms']:.0f} ms")
    if "status" in line:
        parts.append(f"status {line['status']}")
    return ", ".join(parts)


def _verified(path: str, head: Head, as_json: bool) -> int:
    if as_json:
        print_json({"journal": path, "lines": head.lines, "sha256": head.digest, "torn": head.torn})
        return 0
    lines = [f"{head.lines} lines, each follows from the one before", f"sha256 {head.digest}"]
    if head.torn:
        lines.append("the last write was cut off by a crash; the lines before it are whole")
    Style(sys.stdout).print(*lines)
    return 0


SESSION_NAME = re.compile(r"(\d{8}-\d{6}-[a-z0-9]{4})\.jsonl")


def prune(directory: str, older_than: float) -> int:
    """Deletes journals last written more than `older_than` seconds ago, but for those that are
    still being written; gives how many. Raises `JournalError`."""
    removed = 0
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return 0
    for entry in entries:
        if not SESSION_NAME.fullmatch(entry.name):
            continue
        try:
            if time.time() - entry.stat(follow_symlinks=False).st_mtime <= older_than:
                continue
            if not _written(entry.path):
                os.unlink(entry.path)
                removed += 1
        except OSError as error:
            raise JournalError(f"{entry.path}: {error.strerror}") from error
    return removed


def _written(path: str) -> bool:
    """Whether a journal is still being written. What is none at all is not."""
    try:
        with Reader(path) as reader:
            next(iter(reader), None)
            return reader.head.lines > 0 and reader.live
    except JournalError:
        return False
