"""The first word of the command line chooses the verb. Provisional: knows `--version` only."""

from __future__ import annotations

import sys

from casemate import __version__
from casemate.errors import EXIT_FAILURE


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["--version"]:
        print(f"casemate {__version__}")
        return 0
    print("error: this build of casemate knows only `casemate --version`", file=sys.stderr)
    return EXIT_FAILURE
