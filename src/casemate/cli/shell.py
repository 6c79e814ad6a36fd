"""`casemate shell`: the user's own shell inside the perimeter."""

from __future__ import annotations

import os

from casemate.cli import run
from casemate.errors import UsageError

FALLBACK = "/bin/sh"
SHELLS = ("/bin/", "/usr/bin/", "/usr/local/bin/")
"""Where a login shell is shown inside as well; one of the home directory is not."""

USAGE = run.USAGE.replace(
    "usage: casemate run [OPTION...] [--] COMMAND [ARGUMENT...]\n\n"
    "Runs COMMAND inside the perimeter; its edits stay in a copy-on-write layer until applied.",
    "usage: casemate shell [OPTION...]\n\n"
    "Opens $SHELL inside the perimeter; its edits stay in a copy-on-write layer until applied.",
).partition("\nExit status:")[0]


def main(arguments: list[str]) -> int:
    """Runs the verb; returns the shell's exit status."""
    options = run.parse(arguments)
    if options.help:
        print(USAGE, end="")
        return 0
    if options.command:
        raise UsageError("shell takes no command", hint="casemate run -- COMMAND [ARGUMENT...]")
    if {"apply", "discard"} <= options.flags:
        raise UsageError("--apply and --discard exclude each other")
    options.command = [login_shell()]
    return run.execute(options)


def login_shell() -> str:
    """The user's shell, if a sandbox can have it."""
    shell = os.path.realpath(os.environ.get("SHELL") or FALLBACK)
    if shell.startswith(SHELLS) and os.access(shell, os.X_OK):
        return shell
    return FALLBACK
