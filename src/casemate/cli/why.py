"""`casemate why PATH|URL`: what a path is inside, or whether a connection may leave; by which rule,
and the line that would change it."""

from __future__ import annotations

import os
import sys

from casemate.cli.options import parse
from casemate.cli.plan import planned
from casemate.cli.style import Style, print_json
from casemate.plan.explain import why


def main(arguments: list[str]) -> int:
    """Runs the verb."""
    parsed = parse("why", arguments)
    plan, _, host = planned(parsed)
    path = parsed.path
    if is_endpoint(path):
        from casemate.egress.explain import explain

        found = explain(plan.network, plan.secrets, path, parsed.method or "")
        if parsed.json:
            print_json(found.as_json())
        else:
            Style(sys.stdout).print(*found.as_text().splitlines())
        return 0
    if not path.startswith(("/", "~")):
        path = os.path.join(plan.working_directory, path)
    answer = why(plan, path, host)
    if parsed.json:
        print_json(answer.as_json())
    else:
        Style(sys.stdout).print(answer.as_text())
    return 0


def is_endpoint(text: str) -> bool:
    """Whether a URL or HOST:PORT is meant, rather than a path."""
    host, colon, port = text.rpartition(":")
    return "://" in text or (bool(colon) and port.isdecimal() and "/" not in host)
