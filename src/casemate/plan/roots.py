"""Which directories may be a project root, and why others may not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from casemate.errors import CasemateError, PolicyError, UsageError
from casemate.plan.host import Host
from casemate.policy.model import PathRule, Policy

ROOTS_MAX = 16
"""Project roots of one sandbox, git directories among them; what a change set can name."""

SYSTEM_DIRECTORIES = (
    *("/home", "/opt", "/root", "/run", "/tmp", "/usr", "/usr/local", "/usr/src"),
    *("/var", "/var/lib", "/var/tmp"),
)
"""Not to be a project themselves; a directory in one of them may be."""

SYSTEM_TREES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin"),
    *("/sys", "/usr/bin", "/usr/include", "/usr/lib", "/usr/lib32", "/usr/lib64"),
    *("/usr/libexec", "/usr/sbin", "/usr/share", "/run/user"),
)
"""No project lies in one of these."""


@dataclass(frozen=True, slots=True)
class ProjectRoot:
    """A directory the user named as a project; `links` lead from `path` to `real`."""

    path: str
    real: str
    links: tuple[tuple[str, str], ...]
    rule: PathRule | None
    """None for the main one, which the command line names."""


def within(path: str, directory: str) -> bool:
    """Whether a path is a directory or lies in it; both real."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def expand(path: str, home: str) -> str:
    """A path of a policy with its `~` written out."""
    if path == "~":
        return home
    return home + path[1:] if path.startswith("~/") else path


def rule_error(rule: PathRule, problem: str, hint: str) -> PolicyError:
    """The error for a rule, which names the place it came from."""
    origin = rule.origin
    return PolicyError(problem, path=origin.source, line=origin.line, key=origin.key, hint=hint)


def project_roots(
    policy: Policy, host: Host, project: str, *, home: str, own: Sequence[str]
) -> tuple[ProjectRoot, ...]:
    """The main project and the further roots of the policy, checked, in that order.

    `home` and `own` (casemate's own directories) are real paths. Raises `UsageError` about the
    main project and `PolicyError` about the others.
    """
    found: list[ProjectRoot] = []
    for rule in (None, *policy.workspace.roots):
        path = project if rule is None else expand(rule.path, home)
        resolved = host.resolve(path)
        if rule is not None and rule.optional and resolved.kind == "missing":
            continue
        problem = refusal(host, path, policy.workspace.mode, home=home, own=own)
        if problem is not None:
            raise _error(rule, *problem)
        for other in found:
            if within(resolved.real, other.real) or within(other.real, resolved.real):
                problem = (
                    f"project roots cannot lie in each other: {path} and {other.path}",
                    "name the outer one alone: what lies in it is part of it",
                )
                raise _error(rule, *problem)
        found.append(ProjectRoot(path, resolved.real, resolved.links, rule))
    if len(found) > ROOTS_MAX:
        raise UsageError(
            f"{len(found)} project roots are more than the {ROOTS_MAX} a sandbox can have",
            hint="name a directory that holds several of them, or run more than one sandbox",
        )
    return tuple(found)


def _error(rule: PathRule | None, problem: str, hint: str) -> CasemateError:
    return UsageError(problem, hint=hint) if rule is None else rule_error(rule, problem, hint)


def refusal(
    host: Host, path: str, mode: str, *, home: str, own: Sequence[str]
) -> tuple[str, str] | None:
    """Why a directory cannot be a project root, and the way out; None if it can."""
    choose = "name the project itself with -C DIR"
    if not path.startswith("/"):
        return f"a project root must be an absolute path: {path}", choose
    resolved = host.resolve(path)
    real = resolved.real
    if resolved.kind == "missing":
        return f"there is no such project directory: {path}", choose
    if resolved.kind != "directory":
        return f"the project is not a directory: {path}", choose
    if real == "/":
        return "the whole file system cannot be a project", choose
    if within(home, real):
        what = "the home directory" if real == home else "a directory above the home directory"
        return (
            f"{what} cannot be a project: {path}",
            "it holds keys, histories and other projects; " + choose,
        )
    if real in SYSTEM_DIRECTORIES or any(within(real, tree) for tree in SYSTEM_TREES):
        return (
            f"a system directory cannot be a project: {path}",
            "copy or clone what you need; " + choose,
        )
    for directory in own:
        if within(real, directory):
            return f"casemate's own directory cannot be a project: {path}", choose
        if within(directory, real) and mode != "readonly":
            return (
                f"the project holds casemate's own directory {directory}: {path}",
                "name a narrower directory, or look at this one with --workspace readonly",
            )
    if not host.readable(real):
        return (
            f"the project cannot be read by this user: {path}",
            "run casemate as the user it belongs to",
        )
    return None
