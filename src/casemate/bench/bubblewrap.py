"""The same tree by bubblewrap, for comparison. bwrap(1)

It gets the same mounts from the same plan, and no seccomp filter, Landlock rules, masks below
/proc or copy-on-write layer: less work than it is compared with.
"""

from __future__ import annotations

import os
import shutil

from casemate.cli.compile import load_policy, plan_for
from casemate.cli.run import Options
from casemate.errors import SandboxError
from casemate.plan.host import Host
from casemate.plan.model import Bind, Directory, File, Plan, Root, Scratch, Symlink
from casemate.policy.locations import locate


def bubblewrap(project: str) -> list[str]:
    """The command line that ends before the command to run. Raises `SandboxError` without bwrap."""
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError("not installed")
    options = Options()
    options.values = {"directory": project}
    locations, host = locate(os.environ), Host()
    policy = load_policy(options, locations, project, host).policy
    plan = plan_for(policy, host, locations, project, project)
    return [program, *_arguments(plan, os.path.join(os.path.dirname(project), "bwrap-files"))]


def _arguments(plan: Plan, scratch: str) -> list[str]:
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    os.makedirs(scratch, exist_ok=True)
    for number, step in enumerate(plan.steps):
        match step:
            case Directory():
                arguments += ["--dir", step.target]
            case Symlink():
                arguments += ["--symlink", step.destination, step.target]
            case File():
                made = os.path.join(scratch, str(number))
                with open(made, "wb") as file:
                    file.write(step.content)
                arguments += ["--ro-bind", made, step.target]
            case Bind():
                kind = "--bind" if step.writable else "--ro-bind"
                arguments += [kind, step.source, step.target]
            case Scratch():
                arguments += ["--tmpfs", step.target]
            case Root():
                arguments += ["--bind", step.source, step.target]
            case _:
                continue
    return [*arguments, "--chdir", plan.working_directory]
