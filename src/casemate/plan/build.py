"""Policy and host to plan: everything is decided here, and nothing is done."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from casemate.errors import PolicyError, UsageError
from casemate.plan import git
from casemate.plan.host import Host
from casemate.plan.layout import OWN_FILES, Layout, nearest, within
from casemate.plan.model import Directory, Plan, Root, Scratch, Symlink
from casemate.plan.places import check_root, check_shown, refuse_rule
from casemate.plan.system_files import system_files
from casemate.policy.locations import Locations
from casemate.policy.model import PathRule, Policy

ROOTS_MAX = 200
"""A change set numbers its roots in one byte."""

_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)


def build(
    policy: Policy,
    host: Host,
    project: str,
    *,
    locations: Locations,
    uid: int,
    gid: int,
    user: str,
    environment: Mapping[str, str],
    working_directory: str | None = None,
) -> Plan:
    """Decide what one sandbox will contain.

    `uid`, `gid` and `user` are those inside. `environment` is the caller's: only its PATH is
    looked at, to say which of its directories will be missing. `working_directory` defaults to
    the project. The plan's evidence is all that `host` was asked, before and by this.

    Raises `UsageError` for a project that cannot be one and `PolicyError` for a rule that cannot
    be carried out.
    """
    builder = _Builder(policy, host, locations)
    main = builder.root(project)
    for rule in policy.workspace.roots:
        builder.further_root(rule)
    builder.repository(main)
    builder.base(uid)
    for rules, writable in ((policy.files.read, False), (policy.files.write, True)):
        for rule in rules:
            builder.show(rule, writable)
    for rule in policy.files.hide:
        builder.hide(rule.path, f"hidden: {rule.origin}")
    for own in locations.own:
        builder.hide(own, OWN_FILES)
    if user == "root" or not _USER_NAME.fullmatch(user):
        user = "user"
    layout = builder.layout
    home = builder.home
    shell = next((path for path in ("/bin/bash", "/bin/sh") if host.kind(path)), "/bin/sh")
    made = system_files(
        uid=uid,
        gid=gid,
        user=user,
        home=home,
        shell=shell,
        git=git.configuration(host, locations.home),
    )
    layout.files.update({file.target: file for file in made})
    builder.note_missing_tools(environment.get("PATH", ""))
    runtime = f"/run/user/{uid}"
    ours = {
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "XDG_RUNTIME_DIR": runtime,
        "CASEMATE": "1",
    }
    return Plan(
        tier=policy.tier,
        strict=policy.strict,
        project=main,
        working_directory=builder.working_directory(working_directory or main),
        home=home,
        user=user,
        steps=layout.steps(),
        hide=policy.workspace.hide,
        protect=policy.workspace.protect,
        disk=policy.workspace.disk,
        files=policy.workspace.files,
        limits=policy.limits,
        environment_passed=policy.environment.passed,
        environment_set=tuple((ours | dict(policy.environment.values) | ours).items()),
        kernel_allow=policy.kernel_allow,
        network=policy.network,
        secrets=policy.secrets,
        waive=policy.waive,
        evidence=host.evidence,
        sources=policy.sources,
        notes=tuple(builder.notes),
    )


class _Builder:
    """The layout as it grows."""

    def __init__(self, policy: Policy, host: Host, locations: Locations) -> None:
        self.policy = policy
        self.host = host
        self.locations = locations
        self.layout = Layout()
        self.notes: list[str] = []
        real_home = host.real(locations.home)
        # An account without a home, as daemons and containers have, gets one of its own.
        self.home = real_home if real_home not in ("", "/") else "/home/user"

    def root(self, path: str, reason: str = "the project") -> str:
        """Add a project root; its real path."""
        real, links = self.host.resolve(os.path.abspath(path))
        check_root(self.host, path, real, self.home, self.locations)
        self._link(links, reason)
        self._add_root(real, reason)
        return real

    def further_root(self, rule: PathRule) -> None:
        """Add a root of `workspace.roots`."""
        place = rule.origin
        path = self._expand(rule.path)
        real = self.host.real(path)
        if not real and rule.optional:
            return
        for known in self.layout.roots:
            if within(real, known) or within(known, real):
                relation = "lies in" if within(real, known) else "holds"
                raise PolicyError(
                    f'"{rule.path}" {relation} the root {known}: roots cannot be nested',
                    path=place.source,
                    line=place.line,
                    key=place.key,
                    hint="remove it: it is part of that root already"
                    if relation == "lies in"
                    else "open that directory as the project instead",
                )
        try:
            self.root(path, str(place))
        except UsageError as error:
            raise PolicyError(
                error.message, path=place.source, line=place.line, key=place.key
            ) from error

    def repository(self, project: str) -> None:
        """Add the git directory of a worktree or submodule, if it is genuine."""
        for root in [*self.layout.roots]:
            found = git.outside_git_directory(self.host, root)
            if found is None:
                above = git.enclosing_repository(self.host, root)
                if above and not nearest(above, self.layout.roots):
                    self.notes.append(
                        f"{root} is part of the repository {above}, which is not shown: git will"
                        f" not work; open {above} instead to use it"
                    )
                continue
            if not found.path:
                self.notes.append(
                    f"git will not work in {root}: {found.problem}; if it is right, add the git"
                    " directory to [workspace] roots"
                )
            elif not nearest(found.path, self.layout.roots):
                self._add_root(found.path, f"the repository of {root}", prefix=".git")

    def _add_root(self, real: str, reason: str, prefix: str = "") -> None:
        index = len(self.layout.roots)
        if index == ROOTS_MAX:
            raise PolicyError(f"more than {ROOTS_MAX} project roots")
        mode = self.policy.workspace.mode
        self.layout.roots[real] = Root(real, real, mode, index, reason, prefix)

    def base(self, uid: int) -> None:
        """The private directories every sandbox has."""
        scratch = {
            "/tmp": (0o1777, "private temporary files"),
            "/var/tmp": (0o1777, "private temporary files"),
            "/run": (0o755, "private run-time files"),
            self.home: (0o700, "private home"),
        }
        for path, (mode, reason) in scratch.items():
            self.layout.scratch[path] = Scratch(path, mode, reason)
        for path, mode in (("/run/user", 0o755), (f"/run/user/{uid}", 0o700)):
            self.layout.directories[path] = Directory(path, mode, "XDG_RUNTIME_DIR")
        self._link(self.host.resolve(self.locations.home)[1], "private home")

    def show(self, rule: PathRule, writable: bool) -> None:
        """Carry out one rule of `files.read` or `files.write`."""
        if not rule.optional or self.host.kind(self._expand(rule.path)):
            real, links = self.host.resolve(self._expand(rule.path))
            why = check_shown(self.host, rule, real, self.home, self.locations)
            if why and not rule.optional:
                raise refuse_rule(rule, why)
            if why:
                self.notes.append(f"{rule.path} is not shown: {why}")
                return
            reason = str(rule.origin)
            self._link(links, reason)
            self.layout.bind(real, writable=writable, reason=reason)

    def hide(self, path: str, reason: str) -> None:
        """Cover a path wherever something wider shows it."""
        path = self._expand(path)
        # What is not there and nothing would show is no fact the plan rests on: of the many
        # credentials a home could hold most are absent, and each fact costs every start.
        shown = nearest(path, (*self.layout.binds, *self.layout.roots))
        if shown or os.path.lexists(path):
            real = self.host.real(path)
            if real:
                self.layout.hidden.setdefault(real, reason)

    def _link(self, links: tuple[tuple[str, str], ...], reason: str) -> None:
        for place, text in links:
            self.layout.links.setdefault(place, Symlink(place, text, reason))

    def _expand(self, path: str) -> str:
        return self.locations.home + path[1:] if path.startswith("~") else path

    def note_missing_tools(self, search_path: str) -> None:
        """Say which directories of PATH exist outside but not inside."""
        for directory in dict.fromkeys(search_path.split(os.pathsep)):
            if not os.path.isabs(directory):
                continue
            real = self.host.real(directory)
            if not real or nearest(real, (*self.layout.binds, *self.layout.roots)):
                continue
            shown = directory
            if within(directory, self.locations.home):
                shown = "~" + directory[len(self.locations.home) :]
            self.notes.append(
                f'{shown} is on PATH but not shown; to show it: files.read = ["{shown}"]'
            )

    def working_directory(self, path: str) -> str:
        """The real path of the first directory commands run in; it lies in a root."""
        real = self.host.real(os.path.abspath(path))
        if not nearest(real, self.layout.roots) or self.host.kind(real) != "directory":
            raise UsageError(
                f"the working directory {path} is not in the project",
                hint="start in the project or below it, or name it with -C DIR",
            )
        return real
