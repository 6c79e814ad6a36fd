"""Questions to the person at the terminal."""

from __future__ import annotations

import sys

from casemate.errors import UsageError


def can_ask() -> bool:
    """Whether somebody sits there."""
    try:
        return sys.stdin.isatty() and sys.stdout.isatty()
    except ValueError:
        return False


def require_person(otherwise: str) -> None:
    """Raises `UsageError` where nobody can be asked; `otherwise` is the option that decides."""
    if not can_ask():
        raise UsageError(
            "nobody can be asked: standard input and output are not both a terminal",
            hint=f"decide with {otherwise}",
        )


def ask(question: str, answers: str) -> str:
    """One of the letters of `answers`; the first, which should be the harmless one, at the end of
    input and for an empty line."""
    while True:
        sys.stdout.write(f"{question} [{'/'.join((answers[0].upper(), *answers[1:]))}] ")
        sys.stdout.flush()
        line = sys.stdin.readline()
        if not line:
            sys.stdout.write("\n")
            return answers[0]
        answer = line.strip().lower()[:1] or answers[0]
        if answer in answers:
            return answer


def agreed(question: str) -> bool:
    """Whether the answer is yes."""
    return ask(question, "ny") == "y"
