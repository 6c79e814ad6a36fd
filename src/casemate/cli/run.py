"""`casemate run`: one command, one session.

The start-up path: it decides from its arguments and a handful of stat calls whether the launch it
made last time still holds, and then imports nothing but the session itself.
"""

from __future__ import annotations

import os
import sys

from casemate.errors import UnsupportedError, UsageError
from casemate.supervisor.protocol import EXIT_NOT_STARTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from casemate.tiers.linux.session import Session
    from casemate.workspace.create import NewSession

USAGE = """\
usage: casemate run [OPTION...] [--] COMMAND [ARGUMENT...]

Runs COMMAND inside the perimeter; its edits stay in a copy-on-write layer until applied.

  -C, --directory DIR        the project or a directory in it (default: here)
  --policy FILE              use this policy file instead of the project's own
  --workspace MODE           overlay (default), direct, or readonly
  --tier TIER                auto (default), process, or vm
  --root DIR                 a further project root (may be repeated)
  --set KEY=VALUE            one line of policy, as in --set limits.memory=2GiB
  --waive GUARANTEE          start even where this guarantee cannot be held
  --no-preset                do not add the preset of a known agent by the command's name
  --apply                    apply the changes at once if the command succeeds
  --discard                  drop the changes at the end
  -q, --quiet                no summary
  --json                     the summary as JSON, on standard error

Exit status: that of COMMAND; 128 + signal if one ended it; 125 if casemate itself failed;
126 and 127 if COMMAND could not be started or found.
"""

VALUED = {
    "-C": "directory",
    "--directory": "directory",
    "--policy": "policy",
    "--workspace": "workspace",
    "--tier": "tier",
    "--root": "root",
    "--set": "set",
    "--waive": "waive",
}
FLAGS = {
    "-q": "quiet",
    "--quiet": "quiet",
    "--json": "json",
    "--apply": "apply",
    "--discard": "discard",
    "--no-preset": "no-preset",
}
AGENTS = ("aider", "claude", "codex", "gemini", "goose", "opencode")
"""Commands for which the preset of the same name is meant without being named."""
REPEATED = ("root", "set", "waive")


class Options:
    """What the command line asked for; the values the plan depends on are in `key`."""

    __slots__ = ("command", "flags", "help", "values")

    def __init__(self) -> None:
        self.command: list[str] = []
        self.flags: set[str] = set()
        self.values: dict[str, str | tuple[str, ...]] = {}
        self.help = False

    @property
    def key(self) -> tuple[tuple[str, str | tuple[str, ...]], ...]:
        return tuple(sorted(self.values.items()))


def parse(arguments: list[str]) -> Options:
    """Reads the command line by hand: argparse costs more than the whole sandbox.

    Raises `UsageError`.
    """
    options = Options()
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            options.command = list(rest)
        elif argument in ("-h", "--help"):
            options.help = True
        elif argument in FLAGS:
            options.flags.add(FLAGS[argument])
        elif argument.startswith("-") and argument != "-":
            name, separator, value = argument.partition("=")
            if name not in VALUED:
                raise UsageError(f"unknown option: {name}", hint="casemate run --help")
            if not separator:
                value = next(rest, "")
            if not value:
                raise UsageError(f"{name} needs a value", hint="casemate run --help")
            _store(options, VALUED[name], value)
        else:
            options.command = [argument, *rest]
    return options


def _store(options: Options, name: str, value: str) -> None:
    if name not in REPEATED:
        options.values[name] = value
        return
    before = options.values.get(name, ())
    assert isinstance(before, tuple)
    options.values[name] = (*before, value)


def main(arguments: list[str]) -> int:
    """Runs the verb; returns the command's exit status."""
    options = parse(arguments)
    if options.help:
        print(USAGE, end="")
        return 0
    if not options.command:
        raise UsageError("no command given", hint="casemate run -- COMMAND [ARGUMENT...]")
    if {"apply", "discard"} <= options.flags:
        raise UsageError("--apply and --discard exclude each other")
    return execute(options)


def execute(options: Options) -> int:
    """Opens the session, runs the command in it, saves what it changed and says so."""
    from casemate.cli.attach import attach
    from casemate.cli.prepare import prepare
    from casemate.tiers.linux.open import environment
    from casemate.workspace.create import finish

    if options.command[0] in AGENTS and "no-preset" not in options.flags:
        options.values["preset"] = options.command[0]
    launch = prepare(options)
    try:
        record, session = begin(launch, options.command)
    except UnsupportedError as refused:
        if refused.code != "namespaces":
            raise
        # The weaker mode says itself which guarantees it lacks, and starts only if they were waived.
        launch = prepare(options, bare=True)
        record, session = begin(launch, options.command)
    status = None
    try:
        variables = environment(launch, os.environb, record.id, session.variables)
        command = [os.fsencode(argument) for argument in options.command]
        directory = os.fsencode(launch["directory"])
        ended = attach(session, command, variables, directory, output=launch["output"])
        status = ended.status
    finally:
        network = session.network.finish() if session.network is not None else None
        saved = session.close(discard="discard" in options.flags)
        kept = finish(record, exit_status=status)
    quiet = "quiet" in options.flags
    wrong = session.notices or saved.errno or ended.kind == EXIT_NOT_STARTED
    online = network is not None and (len(network) == 1 or network["allowed"] + network["refused"])
    telling = not quiet and (kept or launch["notices"] or online)
    if wrong or telling or options.flags & {"apply", "json"}:
        from casemate.cli.summary import summarise

        return summarise(options, launch, record, ended, session, saved, network)
    if not quiet:
        sys.stderr.write(plain_summary(launch, session))
    return status


def begin(launch: dict[str, Any], command: list[str]) -> tuple[NewSession, Session]:
    """Opens a session and its record. Raises `SandboxError`, `UnsupportedError`, `WorkspaceError`."""
    from casemate.tiers.linux.open import open_session
    from casemate.workspace.create import abandon, create

    record = create(
        launch["state"],
        command=command,
        roots=launch["roots"],
        tier=launch["tier"],
        sources=launch["sources"],
        **launch["record"],
    )
    try:
        if launch["egress"] is not None:
            from casemate.cli.egress import open_online

            return record, open_online(launch, record)
        return record, open_session(launch, record.id, record.archive)
    except BaseException:
        abandon(record)
        raise


def plain_summary(launch: dict[str, Any], session: Any) -> str:
    """One line for a run that left nothing to tell."""
    soft = [name for name, strength, _, _ in launch["guarantees"] if strength == "soft"]
    waived = [name for name, strength, _, _ in launch["guarantees"] if strength == "waived"]
    parts = [f"casemate: no changes; {launch['tier']} tier"]
    if session.hidden_paths:
        parts.append(f"{session.hidden_paths} hidden")
    if soft:
        parts.append(f"soft: {' '.join(soft)}")
    if waived:
        parts.append(f"waived: {' '.join(waived)}")
    return ", ".join(parts) + "\n"
