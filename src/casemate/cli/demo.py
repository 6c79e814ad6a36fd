"""`casemate demo`: a stand-in agent let loose, without and with casemate."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

from casemate.demo.decoys import Decoys
from casemate.demo.play import as_json, play
from casemate.demo.project import base_python, find_project, own_source
from casemate.demo.report import Paint, lines

DESCRIPTION = """\
Lets a stand-in agent loose on a copy of a project: casemate's own source, or the one in PATH. The
agent edits it, the project's tests are run inside, and then the agent attacks: first without
casemate, against decoys in a temporary directory, then inside. Needs no network, changes nothing.
"""

EPILOG = """\
Exit status: 0 if every attempt was refused, the tests passed and the edit was applied; 1 if not;
125 if casemate itself failed.
"""


def parser() -> argparse.ArgumentParser:
    """The command line of the verb."""
    made = argparse.ArgumentParser(
        prog="casemate demo",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("path", nargs="?", metavar="PATH", help="a project to copy and work on")
    made.add_argument("--tier", choices=("auto", "process", "vm"), default="", metavar="TIER",
                      help="auto (default), process, or vm")  # fmt: skip
    made.add_argument("--json", action="store_true", help="the result as JSON")
    made.add_argument("--keep", action="store_true", help="keep the copies and decoys")
    return made


def main(arguments: list[str]) -> int:
    """Runs the verb; the value is the exit status."""
    options = parser().parse_args(arguments)
    project = find_project(options.path) if options.path else own_source()
    talking = not options.json
    colours = talking and sys.stdout.isatty() and "NO_COLOR" not in os.environ
    paint = Paint(colours)
    began = time.monotonic()

    def say(line: str) -> None:
        if talking:
            seconds = time.monotonic() - began
            print(paint(f"{seconds:5.1f} s  {line}", "2"), flush=True)

    decoys = Decoys(base_python())
    try:
        with decoys:
            say(f"a stand-in agent, and a copy of {project.name}")
            result = play(project, decoys, tier=options.tier, say=say)
    finally:
        if not options.keep:
            decoys.remove()
    if options.json:
        kept = {"kept": decoys.directory} if options.keep else {}
        print(json.dumps({**as_json(result), **kept}, indent=2))
    else:
        say("done")
        print()
        for line in lines(result, paint):
            print(line)
        if options.keep:
            print(f"kept: {decoys.directory} (HOME={decoys.home})")
    return 0 if result.passed else 1
