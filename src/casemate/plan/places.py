"""Which places can be a project, and which can be shown at all."""

from __future__ import annotations

from casemate.errors import PolicyError, UsageError
from casemate.plan.host import Host
from casemate.plan.layout import within
from casemate.policy.locations import Locations
from casemate.policy.model import PathRule

_KERNEL = ("/proc", "/sys", "/dev", "/run", "/boot")
"""What the kernel and the services of the host live in; nothing of it is ever shown."""

_SYSTEM = (
    ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr/bin", "/usr/sbin", "/usr/lib")
    + ("/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/include", "/usr/share", "/nix", "/gnu")
)  # fmt: skip
_WHOLE = (
    ("/usr", "/etc", "/var", "/opt", "/home", "/tmp", "/var/tmp", "/var/lib", "/usr/local")
    + ("/srv", "/mnt", "/media", "/root", "/snap")
)  # fmt: skip


def check_root(host: Host, path: str, real: str, home: str, locations: Locations) -> None:
    """Refuse a directory that cannot be a project root. Raises `UsageError` with the way out."""
    if not real:
        raise UsageError(f"there is no directory {path}")
    if host.kind(real) != "directory":
        raise UsageError(f"{path} is not a directory")
    why = ""
    if within(home, real):
        why = "is your home directory" if real == home else "holds your home directory"
    elif real == "/" or real in _WHOLE:
        why = "is a directory of the whole system"
    elif any(within(real, place) for place in (*_KERNEL, *_SYSTEM)):
        why = "is part of the system"
    elif any(within(real, own) or within(own, real) for own in locations.own):
        why = "holds casemate's own files"
    elif any(within(place, real) for place in (*_KERNEL, *_SYSTEM, *_WHOLE)):
        why = "holds directories of the system"
    if why:
        raise UsageError(
            f"{real} {why} and cannot be a project", hint="name the project's directory with -C DIR"
        )
    if not host.usable(real):
        raise UsageError(f"{real} cannot be read", hint=f"check with: ls -ld {real}")


def check_shown(host: Host, rule: PathRule, real: str, home: str, locations: Locations) -> str:
    """Why a path outside the project cannot be shown, or ""."""
    if not real:
        return "there is nothing at this path"
    if real == "/" or within(home, real):
        return "it holds your whole home directory: name the directories that are needed"
    if real in ("/etc", "/tmp", "/var/tmp"):
        return "the sandbox has its own: name the files that are needed"
    if any(within(real, place) for place in _KERNEL):
        return "it belongs to the kernel or to services of the host"
    if any(within(real, own) for own in locations.own):
        return "it holds casemate's own files"
    if host.kind(real) == "other":
        return "it is neither a file nor a directory"
    return ""


def refuse_rule(rule: PathRule, why: str) -> PolicyError:
    """The error for a path rule that cannot be carried out."""
    missing = why.startswith("there is nothing")
    return PolicyError(
        f'"{rule.path}" cannot be shown: {why}',
        path=rule.origin.source,
        line=rule.origin.line,
        key=rule.origin.key,
        hint=f'{{ path = "{rule.path}", optional = true }} if it need not exist' if missing else "",
    )
