"""`casemate why PATH`: what a path is inside, by which rule, and the line that would change it."""

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
    if not path.startswith(("/", "~")):
        path = os.path.join(plan.working_directory, path)
    answer = why(plan, path, host)
    if parsed.json:
        print_json(answer.as_json())
    else:
        Style(sys.stdout).print(answer.as_text())
    return 0
