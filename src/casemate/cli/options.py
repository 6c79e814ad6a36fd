"""Every verb's arguments in one table: parsers, `--help` and completion are made from it.

`run` and `shell` are read by hand in `casemate.cli.run`; their entries here come from its text.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from casemate.cli import run
from casemate.cli.main import VERBS
from casemate.errors import UsageError

Completes = Literal["", "file", "directory", "session", "shell", "verb", "command"]


@dataclass(frozen=True, slots=True)
class Option:
    """One option or, without dashes, positional argument."""

    names: tuple[str, ...]
    text: str
    value: str = ""
    """The name of its value; "" for a switch."""
    repeat: bool = False
    completes: Completes = ""
    choices: tuple[str, ...] = ()
    optional: bool = False
    """Of a positional argument: that it may be missing."""

    @property
    def positional(self) -> bool:
        """Whether it is known by its place, not by a name."""
        return not self.names[0].startswith("-")


JSON = Option(("--json",), "print one JSON document")
DIRECTORY = Option(
    ("-C", "--directory"),
    "the project or a directory in it (default: here)",
    "DIR",
    completes="directory",
)
POLICY = Option(
    ("--policy",), "use this policy file instead of the project's", "FILE", completes="file"
)
WORKSPACE = Option(
    ("--workspace",),
    "how edits are held",
    "MODE",
    choices=("overlay", "direct", "readonly"),
)
TIER = Option(("--tier",), "how strong the perimeter is", "TIER", choices=("auto", "process", "vm"))
ROOT = Option(("--root",), "a further project root", "DIR", repeat=True, completes="directory")
SET = Option(("--set",), "one line of policy, as in limits.memory=2GiB", "KEY=VALUE", repeat=True)
WAIVE = Option(("--waive",), "start even without this guarantee", "GUARANTEE", repeat=True)
LAUNCH = (DIRECTORY, POLICY, WORKSPACE, TIER, ROOT, SET, WAIVE)
SESSION = Option(
    ("session",),
    "the session: its id, or how it begins or ends (default: the project's newest)",
    optional=True,
    completes="session",
)
PATHS = Option(
    ("items",),
    "the session, then paths; without a session the project's newest that waits",
    "SESSION|PATH",
    repeat=True,
    optional=True,
    completes="session",
)
INCOMPLETE = Option(("--incomplete",), "also take a session that was killed while it was saved")
YES = Option(("-y", "--yes"), "do not ask")

ARGUMENTS: dict[str, tuple[Option, ...]] = {
    "init": (
        DIRECTORY,
        Option(("--stdout",), "print the policy instead of writing casemate.toml"),
        JSON,
    ),
    "plan": (*LAUNCH, JSON),
    "why": (
        Option(("path",), "a path, as a command inside would name it, a URL, or HOST:PORT"),
        Option(("--method",), "of a URL: the method of the request", "METHOD"),
        *LAUNCH,
        JSON,
    ),
    "trust": (
        Option(
            ("file",), "a policy file (default: the project's)", optional=True, completes="file"
        ),
        Option(("--revoke",), "take trust back"),
        Option(("--list",), "list what is trusted"),
        YES,
        DIRECTORY,
        JSON,
    ),
    "diff": (
        PATHS,
        Option(("--stat",), "only which files, and how many lines"),
        Option(("--no-pager",), "do not use a pager"),
        DIRECTORY,
        JSON,
    ),
    "apply": (
        PATHS,
        Option(("-i", "--interactive"), "review and decide change by change"),
        YES,
        Option(("--include-protected",), "also what matches a `protect` pattern"),
        Option(
            ("--force",),
            "take the session's version of a path that changed on this machine",
            "PATH",
            repeat=True,
            completes="file",
        ),
        Option(("--exclude",), "leave a path as it is", "PATH", repeat=True, completes="file"),
        Option(("-n", "--dry-run"), "only say what would be applied"),
        INCOMPLETE,
        DIRECTORY,
        JSON,
    ),
    "discard": (SESSION, DIRECTORY, JSON),
    "undo": (
        SESSION,
        Option(
            ("--force",),
            "put the old content back although the path changed since",
            "PATH",
            repeat=True,
            completes="file",
        ),
        YES,
        DIRECTORY,
        JSON,
    ),
    "sessions": (
        Option(("--here",), "only this project's"),
        Option(("--ids",), "only the ids, one a line"),
        Option(("--recover",), "take a discarded session back", "ID", completes="session"),
        Option(("--remove",), "delete a session for good", "ID", completes="session"),
        Option(("--prune",), "delete for good what was applied or discarded a week ago"),
        DIRECTORY,
        JSON,
    ),
    "log": (
        Option(
            ("session",),
            "the session: its id, or how it begins or ends (default: the newest)",
            optional=True,
            completes="session",
        ),
        Option(("-f", "--follow"), "go on until the session ends"),
        Option(("--refused",), "only what was refused"),
        Option(("--allowed",), "only what was allowed"),
        Option(("--host",), "only hosts of this pattern, as in *.example.com", "PATTERN"),
        Option(
            ("--event",),
            "only lines of this kind",
            "KIND",
            choices=("begin", "connection", "request", "full", "end"),
        ),
        Option(("--since",), "only the last 10m, 2h ...", "DURATION"),
        Option(("--verify",), "check that no line was changed, left out or put in"),
        Option(("--head",), "the same, and that a line still has this hash", "SHA256"),
        JSON,
    ),
    "doctor": (DIRECTORY, JSON),
    "completion": (Option(("shell",), "bash, zsh or fish", choices=("bash", "zsh", "fish")),),
}

_RUN_LINE = re.compile(r"^  (?:(-\w), )?(--[\w-]+)(?: ([A-Z=]+))? {2,}(.+)$", re.MULTILINE)


def run_options() -> tuple[Option, ...]:
    """The options of `run`, read from its help."""
    known = {name: option for option in LAUNCH for name in option.names}
    found = []
    for short, long, value, text in _RUN_LINE.findall(run.USAGE):
        names = tuple(name for name in (short, long) if name)
        like = known.get(long)
        found.append(
            Option(
                names,
                text,
                value,
                repeat=run.VALUED.get(long, "") in run.REPEATED,
                completes=like.completes if like else "",
                choices=like.choices if like else (),
            )
        )
    return tuple(found)


def arguments_of(verb: str) -> tuple[Option, ...]:
    """What a verb takes; () for one that is not in the table."""
    if verb == "run":
        return (*run_options(), Option(("command",), "the command", completes="command"))
    if verb == "shell":
        return run_options()
    return ARGUMENTS.get(verb, ())


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message, hint=f"{self.prog} --help")


def parse(verb: str, arguments: Sequence[str], description: str = "") -> Any:
    """The arguments of a verb as attributes. Raises `UsageError`; `--help` prints and exits."""
    parser = _Parser(
        prog=f"casemate {verb}",
        description=description or f"{VERBS[verb][:1].upper()}{VERBS[verb][1:]}.",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for option in arguments_of(verb):
        settings: dict[str, Any] = {"help": option.text}
        if option.choices:
            settings["choices"] = option.choices
        if option.value:
            settings["metavar"] = option.value
        if option.positional:
            if option.optional:
                settings["nargs"] = "*" if option.repeat else "?"
        elif not option.value:
            settings["action"] = "store_true"
        elif option.repeat:
            settings |= {"action": "append", "default": []}
        parser.add_argument(*option.names, **settings)
    return parser.parse_intermixed_args(list(arguments))


def launch_options(parsed: Any) -> run.Options:
    """The options of `run` among the parsed ones."""
    options = run.Options()
    for option in LAUNCH:
        name = option.names[-1].removeprefix("--")
        value = getattr(parsed, name)
        if value:
            options.values[name] = tuple(value) if option.repeat else value
    return options
