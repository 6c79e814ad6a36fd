"""`casemate`: the verb table. Imports nothing until the verb is known."""

from __future__ import annotations

import sys

from casemate.errors import EXIT_FAILURE, CasemateError, UsageError

VERBS = {
    "run": "run a command inside the perimeter",
    "shell": "open a shell inside the perimeter",
    "init": "write a policy for this project",
    "plan": "show exactly what a run would mount, hide and limit",
    "why": "explain what a path is inside or whether a URL is allowed, and by which rule",
    "trust": "accept this project's policy by its content",
    "diff": "show what a session changed",
    "apply": "apply a session's changes to the project",
    "discard": "drop a session's changes (recoverable until pruned)",
    "undo": "take an applied session back",
    "sessions": "list sessions and what state they are in",
    "log": "show what a session's network allowed and refused",
    "doctor": "say what this machine offers and what stands in the way",
    "demo": "let a stand-in agent loose and show what was refused",
    "bench": "measure the overhead on this machine",
    "completion": "print shell completion for bash, zsh or fish",
}


def usage() -> str:
    """The text of `casemate --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        (
            "usage: casemate VERB [OPTION...] [ARGUMENT...]",
            "",
            "A security perimeter for AI coding agents: casemate run -- codex",
            "",
            *lines,
            "",
            "casemate VERB --help tells more; casemate --version the version.",
        )
    )


def main() -> int:
    """Entry point of the console script; the value is the exit status."""
    arguments = sys.argv[1:]
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        fill_closed_streams()
    try:
        status = dispatch(arguments)
    except CasemateError as problem:
        report(problem, as_json="--json" in arguments)
        status = EXIT_FAILURE
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        # The reader went away: nothing more can be said, and that is not our failure.
        _leave(141)
    return status


def fill_closed_streams() -> None:
    """Puts /dev/null where the caller closed a standard stream.

    The next file opened would take its number otherwise, and be handed to the command as such.
    """
    import os

    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def program() -> None:
    """What the console script calls: `main`, and then the end without the interpreter's own.

    Tearing the interpreter down takes longer than opening a sandbox, and nothing waits for it.
    """
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            status = status or 141
    _leave(status)


def dispatch(arguments: list[str]) -> int:
    """Runs one verb; the value is the exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else EXIT_FAILURE
    verb = arguments[0]
    if verb in ("-V", "--version"):
        from casemate import __version__

        print(f"casemate {__version__}")
        return 0
    if verb not in VERBS:
        raise unknown_verb(verb)
    module = __import__(f"casemate.cli.{verb}", fromlist=["main"])
    status: int = module.main(arguments[1:])
    return status


def unknown_verb(verb: str) -> UsageError:
    """The error for a verb that is not in the table, with the nearest that is."""
    import difflib

    near = difflib.get_close_matches(verb, VERBS, 1)
    hint = f"did you mean `casemate {near[0]}`?" if near else "casemate --help lists the verbs"
    return UsageError(f"unknown verb: {verb}", hint=hint)


def report(problem: CasemateError, *, as_json: bool) -> None:
    """Prints an error: text for people, one JSON object on stdout for programs."""
    if as_json:
        import json

        print(json.dumps(problem.as_json()))
        return
    try:
        sys.stderr.write(problem.as_text() + "\n")
    except OSError:
        pass


def _leave(status: int) -> None:
    """Ends at once: what an orderly end would still flush has nowhere to go."""
    import os

    os._exit(status)
