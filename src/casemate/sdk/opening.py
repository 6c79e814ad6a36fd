"""Opening a sandbox for a program: its arguments -> policy -> plan -> launch -> session.

A launch is kept for the next sandbox with the same arguments and taken again while every fact it
rests on still holds, so that only the first of many costs more than the sandbox itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from casemate.cli import run
from casemate.cli.prepare import cache_key, prepare_at, start_directory
from casemate.errors import UnsupportedError, UsageError
from casemate.plan.evidence import holds
from casemate.policy.locations import Locations, locate
from casemate.policy.model import Policy
from casemate.tiers.linux.session import Session
from casemate.workspace.create import NewSession

SOURCE = "policy of the program"
"""How messages name a policy that a program brings with it."""

_launches: dict[object, dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class Settings:
    """The arguments of a sandbox. Equal ones share their launch."""

    project: str
    policy: str | Policy | None = None
    """A path, the text of a policy file (anything with a line break), or a value."""
    options: tuple[tuple[str, str | tuple[str, ...]], ...] = ()
    """As `casemate run` keeps them: option names without their dashes."""

    @classmethod
    def of(
        cls,
        project: str | os.PathLike[str],
        policy: str | os.PathLike[str] | Policy | None,
        workspace: str | None,
        roots: Iterable[str | os.PathLike[str]],
        waive: Iterable[str],
        settings: Iterable[str],
        tier: str | None,
    ) -> Settings:
        """Settings from the arguments of `Sandbox`. Raises `UsageError`."""
        for name, value in (("roots", roots), ("waive", waive), ("settings", settings)):
            if isinstance(value, str):
                raise UsageError(f"{name} is a list, not a string: {name}=[{value!r}]")
        found: dict[str, str | tuple[str, ...]] = {
            "root": tuple(os.fspath(root) for root in roots),
            "waive": tuple(waive),
            "set": tuple(settings),
            "workspace": workspace or "",
            "tier": tier or "",
        }
        text = policy if isinstance(policy, Policy) or policy is None else os.fspath(policy)
        if isinstance(text, str) and "\n" not in text:
            found["policy"] = os.path.abspath(os.path.expanduser(text))
            text = None
        options = tuple(sorted((name, value) for name, value in found.items() if value))
        return cls(start_directory(os.fspath(project)), text, options)

    @property
    def run_options(self) -> run.Options:
        """The same as options of `casemate run`."""
        options = run.Options()
        options.values = dict(self.options)
        return options


@dataclass(frozen=True, slots=True)
class Opened:
    """A sandbox that has been started."""

    settings: Settings
    launch: dict[str, Any]
    record: NewSession
    session: Session


def open_sandbox(settings: Settings) -> Opened:
    """Starts a sandbox.

    Raises `PolicyError`, `UsageError`, `UnsupportedError`, `SandboxError` or `WorkspaceError`.
    """
    command = [f"Sandbox({settings.project!r})"]
    launch = prepare(settings, bare=False)
    try:
        record, session = run.begin(launch, command)
    except UnsupportedError as refused:
        if refused.code != "namespaces":
            raise
        launch = prepare(settings, bare=True)
        record, session = run.begin(launch, command)
    return Opened(settings, launch, record, session)


def prepare(settings: Settings, *, bare: bool) -> dict[str, Any]:
    """The launch for these settings, here and now."""
    options = settings.run_options
    key = (settings, cache_key(options, settings.project, settings.project, bare))
    known = _launches.get(key)
    if known is not None and holds(known["evidence"]):
        return known
    locations = locate(os.environ)
    project = settings.project
    if settings.policy is None:
        launch = prepare_at(options, locations, project, project, bare=bare)
    else:
        launch = _compile(settings, locations, bare=bare)
    _launches[key] = launch
    return launch


def _compile(settings: Settings, locations: Locations, *, bare: bool) -> dict[str, Any]:
    from casemate.cli.compile import launch_for

    plan, notices = make_plan(settings, locations)
    return launch_for(plan, notices, locations, bare=bare)


def make_plan(settings: Settings, locations: Locations) -> Any:
    """The plan for these settings and what the policy asked for in vain."""
    from casemate.cli.compile import load_policy, plan_for
    from casemate.plan.host import Host
    from casemate.policy.layers import layer_of
    from casemate.policy.reader import read

    given = None
    if isinstance(settings.policy, Policy):
        given = layer_of(settings.policy, SOURCE)
    elif settings.policy is not None:
        given = read(settings.policy.encode(), source=SOURCE, base=os.getcwd())
    host = Host()
    options, project = settings.run_options, settings.project
    loaded = load_policy(options, locations, project, host, given=given)
    return plan_for(loaded.policy, host, locations, project, project), loaded.notices
