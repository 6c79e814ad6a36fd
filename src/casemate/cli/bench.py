"""`casemate bench`: what the perimeter costs on this machine."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys

from casemate import __version__
from casemate.bench import egress, files, large, memory, startup
from casemate.bench.figures import Row, as_json
from casemate.bench.fixture import FULL, QUICK, bench_directory, make_project, make_small_project
from casemate.bench.report import lines, page
from casemate.cli.style import Style
from casemate.errors import UsageError

DESCRIPTION = """\
Measures start-up, run time and memory on this machine, each beside what it is to be compared
with, in interleaved rounds. docs/performance.md says what each row means.
"""

EPILOG = "Exit status: 0, whatever the figures; 125 if something could not be measured at all."


def parser() -> argparse.ArgumentParser:
    """The command line of the verb."""
    made = argparse.ArgumentParser(prog="casemate bench", description=DESCRIPTION, epilog=EPILOG)
    made.add_argument("--json", action="store_true", help="the figures as JSON, to keep")
    made.add_argument("--html", metavar="FILE", help="write a page with bars, too")
    made.add_argument("--quick", action="store_true", help="few rounds: does everything work?")
    made.add_argument("--tier", choices=("auto", "process", "vm"), default="", metavar="TIER",
                      help="auto (default), process, or vm")  # fmt: skip
    return made


def main(arguments: list[str]) -> int:
    """Runs the verb; the value is the exit status. Raises what a session can raise."""
    options = parser().parse_args(arguments)
    size = QUICK if options.quick else FULL
    rows: list[Row] = []
    began = os.getloadavg()[0]
    if options.html:
        check_writable(options.html)

    def say(text: str) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    try:
        with bench_directory() as directory:
            say("making a project")
            project = os.path.join(directory, "project")
            os.mkdir(project)
            make_project(project, size)
            say("start-up")
            small = os.path.join(directory, "small")
            make_small_project(small)
            rows += startup.measure(small, size, options.tier)
            say("files inside and outside")
            rows += files.measure(project, size, options.tier)
            say("the network")
            network = os.path.join(directory, "network")
            os.mkdir(network, 0o700)
            rows += egress.measure(network, size)
            say(f"{size.sandboxes} sandboxes at once")
            rows += memory.measure(project, size, options.tier)
            say(f"a tree of {size.large_files} files")
            rows += large.measure(os.path.join(directory, "large"), size, options.tier)
    finally:
        say("")
    machine = describe(began)
    if options.html:
        with open(options.html, "w", encoding="utf-8") as file:
            file.write(page(rows, machine))
    if options.json:
        print(json.dumps({"machine": machine, "rows": [as_json(row) for row in rows]}, indent=2))
    else:
        style = Style(sys.stdout)
        style.print(*lines(rows, machine, style))
    return 0


def check_writable(path: str) -> None:
    """Raises `UsageError` now where the page could not be written at the end."""
    try:
        with open(path, "a", encoding="utf-8"):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def describe(load_before: float) -> dict[str, object]:
    """What the figures depend on, the load of the machine before and after included."""
    return {
        "casemate": __version__,
        "kernel": platform.release(),
        "processors": os.cpu_count() or 0,
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "load before": round(load_before, 1),
        "load after": round(os.getloadavg()[0], 1),
    }
