"""`casemate log`: what a session's network allowed and refused, from its journal."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from typing import Any

from casemate.audit.journal import Head, JournalError, read, verify
from casemate.cli.options import parse
from casemate.cli.style import Style, print_json, size
from casemate.errors import UsageError
from casemate.policy.locations import locate
from casemate.policy.units import parse_duration
from casemate.policy.values import printable

POLL_SECONDS = 0.2


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("log", arguments)
    if parsed.allowed and parsed.refused:
        raise UsageError("--allowed and --refused exclude each other")
    path = find(os.path.join(locate(os.environ).state, "journals"), parsed.session)
    if parsed.verify:
        return _verified(path, verify(path), parsed.json)
    wanted = Filter(parsed)
    style = Style(sys.stdout)
    rows: list[list[str]] = []
    for line in follow(path) if parsed.follow else read(path):
        if not wanted.takes(line):
            continue
        if parsed.json:
            sys.stdout.write(json.dumps(line) + "\n")
        elif parsed.follow:
            style.print("  ".join(cells(style, line)))
        else:
            rows.append(cells(style, line))
        if parsed.follow:
            sys.stdout.flush()
    if not parsed.json and not parsed.follow:
        style.print(*(style.table(rows) if rows else ["nothing to show"]))
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
        self.host = parsed.host
        self.event = parsed.event
        self.since = time.time() - parse_duration(parsed.since) if parsed.since else 0.0

    def takes(self, line: dict[str, Any]) -> bool:
        """Whether a line is asked for."""
        return (
            (not self.verdict or line.get("verdict") == self.verdict)
            and (not self.event or line.get("event") == self.event)
            and (not self.host or fnmatch.fnmatchcase(str(line.get("host", "")), self.host))
            and float(line.get("time", 0)) >= self.since
        )


def follow(path: str) -> Iterator[dict[str, Any]]:
    """The lines so far and those to come, until the session ends."""
    seen = 0
    while True:
        for number, line in enumerate(read(path)):
            if number < seen:
                continue
            seen = number + 1
            yield line
            if line.get("event") == "end":
                return
        time.sleep(POLL_SECONDS)


def cells(style: Style, line: dict[str, Any]) -> list[str]:
    """A line as cells of a table: when, verdict, what, and by which rule or why not."""
    when = time.strftime("%H:%M:%S", time.localtime(float(line["time"])))
    event = str(line["event"])
    verdict = str(line.get("verdict", event))
    if "host" not in line:
        return [when, verdict, "", ""]
    shown = style.paint(verdict, "green" if verdict == "allowed" else "red")
    place = f"{line['host']}:{line['port']}"
    what = f"{line.get('method', line.get('via', ''))} {place}{line.get('path', '')}"
    if verdict == "allowed":
        moved = f"{size(int(line['up']))} out, {size(int(line['down']))} in"
        status = f" {line['status']}" if "status" in line else ""
        note = f"{moved}, {line['ms']:.0f} ms{status}; rule {line['rule']}"
    else:
        again = f" (and {line['repeated']} times more)" if "repeated" in line else ""
        note = f"{line['code']}: {line['why']}{again}"
    return [when, shown, printable(what), printable(note)]


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
    """Deletes journals last written more than `older_than` seconds ago; gives how many."""
    removed = 0
    try:
        entries = list(os.scandir(directory))
    except FileNotFoundError:
        return 0
    for entry in entries:
        if not SESSION_NAME.fullmatch(entry.name):
            continue
        try:
            if time.time() - entry.stat(follow_symlinks=False).st_mtime > older_than:
                os.unlink(entry.path)
                removed += 1
        except OSError as error:
            raise JournalError(f"{entry.path}: {error.strerror}") from error
    return removed
