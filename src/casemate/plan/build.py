"""Policy + host -> plan: the one place where it is decided what a sandbox contains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from casemate.errors import UsageError
from casemate.plan import git_directory, network
from casemate.plan.etc import account_name, synthesised
from casemate.plan.files import OWN_REASON, Surroundings, show
from casemate.plan.git_settings import named_places
from casemate.plan.host import Host, Resolved
from casemate.plan.indexes import find as find_indexes
from casemate.plan.layout import Layout
from casemate.plan.model import Bind, Mask, Plan, Root, Scratch, Step, Symlink, Trust
from casemate.plan.roots import (
    ROOTS_MAX,
    SYSTEM_TREES,
    ProjectRoot,
    project_roots,
    within,
)
from casemate.policy.endpoints import inspects
from casemate.policy.model import Origin, PathRule, Pattern, Policy
from casemate.policy.patterns import parse_pattern

STEPS_MAX = 400

MERGED_USR = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Links into /usr on most systems, directories of their own on others. file-hierarchy(7)"""

GIT_REASON = "git directory of the project"

PROCESSORS = "/sys/devices/system/cpu"
"""Where programs count processors; nothing else of /sys is shown."""

DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"

PASSED = (
    *("PATH", "TZ", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_ADDRESS", "LC_COLLATE"),
    *("LC_CTYPE", "LC_IDENTIFICATION", "LC_MEASUREMENT", "LC_MESSAGES", "LC_MONETARY", "LC_NAME"),
    *("LC_NUMERIC", "LC_PAPER", "LC_TELEPHONE", "LC_TIME", "TERM", "COLORTERM", "TERM_PROGRAM"),
    *("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"),
    *("VIRTUAL_ENV", "PYTHONUNBUFFERED"),
)
"""Variables passed on whatever the policy says: they choose a language, a look or a place, and
none of them is one that people keep a secret in. LC_* is spelt out because ssh(1) carries any
name of that form."""


def build(
    policy: Policy,
    host: Host,
    project: str,
    *,
    working_directory: str,
    uid: int,
    gid: int,
    user: str,
    home: str,
    environment: Mapping[str, str],
) -> Plan:
    """The plan for a project.

    `uid`, `gid` and `user` are the identity inside; `home` and `environment` are the caller's.
    Looks at the host only through `host`. Raises `UsageError` about the project and `PolicyError`
    about a rule, both with the way out.
    """
    user = account_name(user)
    indexes = find_indexes(policy.network.indexes, host, home, environment)
    if indexes.endpoints:
        allow = (*policy.network.allow, *indexes.endpoints)
        policy = replace(policy, network=replace(policy.network, allow=allow))
    place = host.resolve(home)
    own = tuple(host.resolve(path).real for path in own_directories(home, environment))
    found = project_roots(policy, host, project, home=place.real, own=own)
    inside_home = home
    if place.real == "/" or any(within(place.real, tree) for tree in (*SYSTEM_TREES, "/usr")):
        inside_home = f"/home/{user}"
        place = host.resolve(inside_home)
    made = synthesised(
        host,
        user=user,
        uid=uid,
        gid=gid,
        home=inside_home,
        caller_home=home,
        roots=[root.real for root in found],
        environment=environment,
        online=bool(policy.network.allow),
    )
    private = _private(place.real, uid)
    shown = show(
        replace(policy.files, read=(*_system_rules(), *policy.files.read)),
        host,
        Surroundings(
            home=home,
            private=[*(step.target for step in private), *(step.target for step in made)],
            made=[file.target for file in made],
            roots=found,
            own=own,
        ),
    )
    git, git_notes = _git_directories(host, found, policy)
    layout = Layout()
    for index, root in enumerate(found):
        reason = "the project" if root.rule is None else str(root.rule.origin)
        layout.add(Root(root.real, root.real, policy.workspace.mode, index, reason))
    for index, path in enumerate(git.roots, start=len(found)):
        layout.add(Root(path, path, policy.workspace.mode, index, GIT_REASON))
    for path in git.readable:
        layout.add(Bind(path, path, False, GIT_REASON))
    for path in own:
        if isinstance(layout.around(path), Root):
            layout.add(Mask(path, OWN_REASON))
    for step in (*private, *_processors(host), *shown.steps, *made):
        layout.add(step)
    for target, destination, reason in (*_other_links(host, place, found), *shown.links):
        layout.link(Symlink(target, destination, reason))
    layout.add_private_parents(place.real)
    steps = layout.ordered()
    _check_sizes(steps, len(found) + len(git.roots))
    trust = None
    if policy.network.allow and inspects(policy.network, policy.secrets):
        trust = network.trust(host, environment)
    return Plan(
        tier=policy.tier,
        strict=policy.strict,
        project=found[0].real,
        working_directory=_working_directory(host, working_directory, found),
        home=inside_home,
        user=user,
        steps=steps,
        hide=policy.workspace.hide,
        protect=(
            *policy.workspace.protect,
            *(parse_pattern(text, Origin("default", key=GIT_REASON)) for text in git.protect),
            *_named_places(host, found, place.real),
        ),
        disk=policy.workspace.disk,
        files=policy.workspace.files,
        limits=policy.limits,
        environment_passed=tuple(dict.fromkeys((*PASSED, *policy.environment.passed))),
        environment_set=_environment(
            policy, environment, user, inside_home, uid, trust, indexes.variables
        ),
        kernel_allow=policy.kernel_allow,
        network=policy.network,
        listeners=network.listeners(policy.network),
        trust=trust,
        secrets=policy.secrets,
        vault=policy.vault,
        waive=policy.waive,
        notes=(*indexes.notes, *shown.notes, *git_notes, *_path_notes(host, layout, environment)),
        evidence=host.evidence,
        sources=policy.sources,
    )


def own_directories(home: str, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Where casemate keeps the user's policy, trust and sessions: no sandbox writes or sees them.

    Source: XDG Base Directory Specification.
    """
    bases = (("XDG_CONFIG_HOME", ".config"), ("XDG_STATE_HOME", ".local/state"))
    named = ((environment.get(variable, ""), default) for variable, default in bases)
    return tuple(
        f"{base if base.startswith('/') else f'{home}/{default}'}/casemate"
        for base, default in named
    )


def _system_rules() -> tuple[PathRule, ...]:
    return tuple(PathRule(path, Origin("default"), optional=True) for path in MERGED_USR)


def _private(home: str, uid: int) -> tuple[Scratch, ...]:
    wanted = {
        "/tmp": 0o1777,
        "/var/tmp": 0o1777,
        "/run": 0o755,
        f"/run/user/{uid}": 0o700,
    }
    wanted.setdefault(home, 0o700)
    return tuple(Scratch(path, mode, "private to the sandbox") for path, mode in wanted.items())


def _processors(host: Host) -> tuple[Bind, ...]:
    if host.kind(PROCESSORS) != "directory":
        return ()
    return (Bind(PROCESSORS, PROCESSORS, False, "the number of processors"),)


def _other_links(
    host: Host, home: Resolved, roots: Sequence[ProjectRoot]
) -> Iterator[tuple[str, str, str]]:
    """Links on the way to the home and the roots, and those every system has."""
    for target, destination in home.links:
        yield target, destination, "on the way to the home directory"
    for root in roots:
        for target, destination in root.links:
            yield target, destination, "on the way to the project"
    if host.kind("/var/run") in ("symlink", "missing"):
        yield "/var/run", "/run", "file-hierarchy(7)"
    yield "/etc/mtab", "/proc/self/mounts", "made for the sandbox"


def _git_directories(
    host: Host, roots: Sequence[ProjectRoot], policy: Policy
) -> tuple[git_directory.Access, tuple[str, ...]]:
    found, notes = [], []
    paths = [root.real for root in roots]
    for path in paths:
        result = git_directory.find(host, path, paths)
        if isinstance(result, str):
            notes.append(f"{path}/.git is not followed: {result}")
        elif result is not None:
            found.append(result)
        elif above := git_directory.enclosing_repository(host, path):
            notes.append(
                f"{path} is part of the repository {above}, which is not shown, so git does not "
                f"work inside; to use it: -C {above}"
            )
    access = git_directory.access(host, found, policy.workspace.mode)
    return access, (*notes, *access.notes)


def _named_places(host: Host, roots: Sequence[ProjectRoot], home: str) -> Iterator[Pattern]:
    origin = Origin("default", key="named by the git configuration")
    for root in roots:
        for text in named_places(host, root.real, home=home):
            yield parse_pattern(text, origin)


def _check_sizes(steps: Sequence[Step], roots: int) -> None:
    if roots > ROOTS_MAX:
        raise UsageError(
            f"{roots} project and git directories are more than the {ROOTS_MAX} a sandbox can have",
            hint="name fewer project roots, or run more than one sandbox",
        )
    if len(steps) > STEPS_MAX:
        raise UsageError(
            f"{len(steps)} mounts, files and links are more than the {STEPS_MAX} a sandbox can have",
            hint="name directories that hold several of the entries of files.read and files.write",
        )


def _working_directory(host: Host, wanted: str, roots: Sequence[ProjectRoot]) -> str:
    resolved = host.resolve(wanted)
    inside = any(within(resolved.real, root.real) for root in roots)
    return resolved.real if inside and resolved.kind == "directory" else roots[0].real


def _environment(
    policy: Policy,
    caller: Mapping[str, str],
    user: str,
    home: str,
    uid: int,
    trust: Trust | None,
    indexes: Mapping[str, str],
) -> tuple[tuple[str, str], ...]:
    values = {
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "CASEMATE": "1",
        "XDG_RUNTIME_DIR": f"/run/user/{uid}",
    }
    if "TMPDIR" in caller:
        values["TMPDIR"] = "/tmp"
    if not caller.get("PATH"):
        values["PATH"] = DEFAULT_PATH
    values |= network.variables(policy.network, trust)
    values |= indexes
    return tuple((values | dict(policy.environment.values)).items())


def _path_notes(host: Host, layout: Layout, caller: Mapping[str, str]) -> Iterator[str]:
    """Directories of programs the user has and the sandbox has not."""
    for entry in dict.fromkeys(caller.get("PATH", "").split(":")):
        if not entry.startswith("/"):
            continue
        resolved = host.resolve(entry)
        if resolved.kind == "directory" and not layout.shows(resolved.real):
            yield f'{entry} of PATH is not visible inside; to show it: files.read = ["{entry}"]'
