"""`casemate init`: a policy for the project it finds."""

from __future__ import annotations

import os
import sys

from casemate.cli.options import parse
from casemate.cli.selecting import project_at
from casemate.cli.style import Style, display, print_json
from casemate.errors import UsageError
from casemate.policy.detect import detect, policy_text
from casemate.policy.locations import PROJECT_POLICY, locate


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("init", arguments)
    project = project_at(parsed.directory)
    locations = locate(os.environ)
    detected = detect(project, locations.home, os.environ)
    text = policy_text(detected)
    path = os.path.join(project, PROJECT_POLICY)
    if parsed.stdout and not parsed.json:
        sys.stdout.write(text)
        return 0
    if not parsed.stdout:
        write_new(path, text)
    if parsed.json:
        print_json(
            {
                "path": None if parsed.stdout else path,
                "presets": list(detected.project),
                "agents": list(detected.agents),
                "policy": text,
            }
        )
        return 0
    found = ", ".join(detected.project) or "nothing casemate knows"
    style = Style(sys.stdout)
    style.print(f"wrote {display(path)}", f"found: {found}")
    if detected.agents:
        style.print(f"agents installed here: {', '.join(detected.agents)}")
    style.print("look at it, then: casemate trust")
    return 0


def write_new(path: str, text: str) -> None:
    """Writes a file that must not exist yet, whatever lies at its name. Raises `UsageError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o644)
    except FileExistsError as problem:
        raise UsageError(
            f"{display(path)} exists, and is not overwritten",
            hint="`casemate init --stdout` prints what would be written",
        ) from problem
    except OSError as problem:
        raise UsageError(f"cannot write {display(path)}: {problem.strerror}") from problem
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
