"""Options -> plan: reads the policy layers and the host. The slow half of `prepare`."""

from __future__ import annotations

import json
import os
import pwd
from typing import TYPE_CHECKING

from casemate.plan.build import build
from casemate.plan.host import Host
from casemate.plan.model import Plan
from casemate.policy.layers import load
from casemate.policy.locations import home

if TYPE_CHECKING:
    from casemate.cli.run import Options

INSIDE_ID = 1000


def compile_plan(options: Options, project: str, directory: str) -> Plan:
    """The plan for these options. Raises `PolicyError` or `UsageError`."""
    host = Host()
    policy_file = options.values.get("policy")
    loaded = load(
        project,
        policy_file=os.path.abspath(str(policy_file)) if policy_file else None,
        overrides=overrides(options),
        read=host.read,
    )
    root = os.geteuid() == 0
    uid, gid = (INSIDE_ID, INSIDE_ID) if root else (os.getuid(), os.getgid())
    return build(
        loaded.policy,
        host,
        project,
        working_directory=directory,
        uid=uid,
        gid=gid,
        user="agent" if root else user_name(),
        home=home(),
        environment=dict(os.environ),
    )


def user_name() -> str:
    """The caller's login name; an identity without an entry is called "agent"."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return "agent"


def overrides(options: Options) -> list[str]:
    """The command line as lines of policy."""
    lines = []
    values = options.values
    if "workspace" in values:
        lines.append(f"workspace.mode={json.dumps(values['workspace'])}")
    if "tier" in values:
        lines.append(f"tier={json.dumps(values['tier'])}")
    if "root" in values:
        roots = [os.path.realpath(str(root)) for root in values["root"]]
        lines.append(f"workspace.roots={json.dumps(roots)}")
    if "waive" in values:
        lines.append(f"waive={json.dumps(list(values['waive']))}")
    lines += values.get("set", ())
    return lines
