"""`casemate plan`: exactly what a run would mount, hide and limit."""

from __future__ import annotations

import os
import sys

from casemate.cli.compile import load_policy, plan_for
from casemate.cli.options import launch_options, parse
from casemate.cli.prepare import find_project, start_directory
from casemate.cli.style import Style, print_json
from casemate.errors import UnsupportedError
from casemate.plan.host import Host
from casemate.plan.model import Plan
from casemate.plan.render import as_json, as_text
from casemate.policy.layers import Notice
from casemate.policy.locations import locate
from casemate.tiers.guarantees import Guarantee
from casemate.tiers.linux.launch import compile_launch


def main(arguments: list[str]) -> int:
    """Runs the verb; 1 if a run with these options would be refused here."""
    parsed = parse("plan", arguments)
    plan, notices, _ = planned(parsed)
    guarantees: tuple[Guarantee, ...] = ()
    refused = None
    try:
        _, guarantees = compile_launch(plan)
    except UnsupportedError as problem:
        refused = problem
    if parsed.json:
        found = as_json(plan, guarantees)
        found["notices"] = [{"message": str(n), "allow": n.remedy} for n in notices]
        if refused is not None:
            found["refused"] = refused.as_json()
        print_json(found)
    else:
        style = Style(sys.stdout)
        sys.stdout.write(as_text(plan, guarantees, color=style.colour, width=style.width))
        for notice in notices:
            style.print(*style.wrap(f"not granted: {notice}", "", hanging="  "))
            if notice.remedy:
                style.print(f"  to allow it: {notice.remedy}")
        if refused is not None:
            style.print("", refused.as_text())
    return 0 if refused is None else 1


def planned(parsed: object) -> tuple[Plan, tuple[Notice, ...], Host]:
    """The plan for the parsed options, what was not granted, and the host as it was seen."""
    options = launch_options(parsed)
    locations = locate(os.environ)
    directory = start_directory(options.values.get("directory"))
    project = find_project(directory, locations.home)
    host = Host()
    loaded = load_policy(options, locations, project, host)
    return plan_for(loaded.policy, host, locations, project, directory), loaded.notices, host
