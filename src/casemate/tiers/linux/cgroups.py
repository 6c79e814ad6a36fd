"""Finds the control groups a session can be put into, and what they can enforce.

Sources: cgroups(7); Documentation/admin-guide/cgroup-v2.rst and cgroup-v1. Three ways, in order:
a v2 group this process may create beside its own, v1 controllers (as root), and a transient scope
of the user's systemd. Where none is to be had the supervisor's own accounting takes over.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass

from casemate.policy.model import Limits

PERIOD_US = 100_000
STALE_AFTER = 600
"""Seconds after which an empty group of a session is nobody's any more."""
SLACK_PROCESSES = 2
"""PID 1 and the one child it may need itself do not count against the user's limit."""

Setting = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """One directory to create, `{id}` in it standing for the session, and files to write."""

    directory: str
    settings: tuple[Setting, ...]


@dataclass(frozen=True, slots=True)
class Control:
    """How the limits are enforced: the groups, the program to start under, and for whom."""

    kind: str
    """"cgroup v2", "cgroup v1", "systemd scope" or ""."""
    groups: tuple[Group, ...] = ()
    wrapper: tuple[str, ...] = ()
    enforced: frozenset[str] = frozenset()
    """Which of memory, processes, cpu these hold."""


def find(limits: Limits, *, root: str = "/") -> Control:
    """The strongest control this process can set up. `root` serves tests."""
    own = _read(os.path.join(root, "proc/self/cgroup"))
    mounts = _read(os.path.join(root, "proc/self/mountinfo"))
    for attempt in (_version_2, _version_1):
        control = attempt(limits, own, mounts, root)
        if control.enforced:
            return control
    return _systemd_scope(limits, root)


def sweep(control: Control) -> None:
    """Removes groups of sessions whose keeper was killed; one in use cannot be removed.

    Not those of the last minutes: a session that is just starting has an empty group too.
    """
    for group in control.groups:
        parent, _, name = group.directory.rpartition("/")
        prefix = name.partition("{id}")[0]
        with contextlib.suppress(OSError):
            for entry in os.scandir(parent):
                old = time.time() - entry.stat().st_mtime > STALE_AFTER
                if entry.name.startswith(prefix) and entry.is_dir() and old:
                    with contextlib.suppress(OSError):
                        os.rmdir(entry.path)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def mount_points(mountinfo: str) -> dict[str, str]:
    """Where each controller is mounted; the key of the unified hierarchy is "". proc(5)"""
    points: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields, options = left.split(), right.split()
        if not separator or len(fields) < 5 or len(options) < 3:
            continue
        point = fields[4].replace("\\040", " ")
        if options[0] == "cgroup2":
            points.setdefault("", point)
        elif options[0] == "cgroup":
            for option in options[2].split(","):
                points.setdefault(option, point)
    return points


def memberships(cgroup: str) -> dict[str, str]:
    """This process's group in each hierarchy; the key of the unified one is "". cgroups(7)"""
    groups: dict[str, str] = {}
    for line in cgroup.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                groups[controller] = parts[2]
    return groups


def _inside(root: str, path: str) -> str:
    return os.path.join(root, path.lstrip("/"))


def _version_2(limits: Limits, own: str, mountinfo: str, root: str) -> Control:
    point = mount_points(mountinfo).get("")
    path = memberships(own).get("")
    if point is None or path is None:
        return Control("")
    # A group with processes cannot share out controllers, so the place is beside or above ours.
    current = path
    while True:
        directory = point + current.rstrip("/")
        here = _inside(root, directory)
        offered = set(_read(os.path.join(here, "cgroup.subtree_control")).split())
        usable = {"memory", "pids", "cpu"} & offered
        if usable and os.access(here, os.W_OK) and os.access(f"{here}/cgroup.procs", os.W_OK):
            settings, enforced = _settings_2(limits, usable)
            group = Group(f"{directory}/casemate-{{id}}", settings)
            return Control("cgroup v2", (group,), (), enforced)
        if current in ("", "/"):
            return Control("")
        current = os.path.dirname(current)


def _settings_2(limits: Limits, usable: set[str]) -> tuple[tuple[Setting, ...], frozenset[str]]:
    settings: list[Setting] = []
    enforced = set()
    if "memory" in usable and limits.memory is not None:
        settings += [("memory.max", str(limits.memory)), ("memory.oom.group", "0")]
        enforced.add("memory")
    if "pids" in usable and limits.processes is not None:
        settings.append(("pids.max", str(limits.processes + SLACK_PROCESSES)))
        enforced.add("processes")
    if "cpu" in usable and limits.cpus is not None:
        settings.append(("cpu.max", f"{int(limits.cpus * PERIOD_US)} {PERIOD_US}"))
        enforced.add("cpu")
    return tuple(settings), frozenset(enforced)


def _version_1(limits: Limits, own: str, mountinfo: str, root: str) -> Control:
    if os.geteuid() != 0:
        return Control("")
    points, paths = mount_points(mountinfo), memberships(own)
    wanted: dict[str, tuple[str, tuple[Setting, ...]]] = {}
    if limits.memory is not None:
        wanted["memory"] = ("memory", (("memory.limit_in_bytes", str(limits.memory)),))
    if limits.processes is not None:
        wanted["pids"] = ("processes", (("pids.max", str(limits.processes + SLACK_PROCESSES)),))
    if limits.cpus is not None:
        quota = (
            ("cpu.cfs_period_us", str(PERIOD_US)),
            ("cpu.cfs_quota_us", str(int(limits.cpus * PERIOD_US))),
        )
        wanted["cpu"] = ("cpu", quota)
    groups, enforced = [], set()
    for controller, (name, settings) in wanted.items():
        if controller not in points or controller not in paths:
            continue
        directory = points[controller] + paths[controller].rstrip("/")
        first = os.path.join(_inside(root, directory), settings[0][0])
        # The root group has no limit files, but its children do.
        if not os.access(_inside(root, directory), os.W_OK):
            continue
        if paths[controller] != "/" and not os.path.exists(first):
            continue
        groups.append(Group(f"{directory}/casemate-{{id}}", settings))
        enforced.add(name)
    return Control("cgroup v1", tuple(groups), (), frozenset(enforced))


def _systemd_scope(limits: Limits, root: str) -> Control:
    """A transient scope of the user's service manager. systemd-run(1), systemd.resource-control(5)

    It needs the manager's socket; `env -i` keeps the sandbox's PID 1 free of its variables.
    """
    runtime = os.path.join(root, f"run/user/{os.geteuid()}/systemd/private")
    program = os.path.join(root, "usr/bin/systemd-run")
    if os.geteuid() == 0 or not os.path.exists(runtime) or not os.access(program, os.X_OK):
        return Control("")
    properties, enforced = [], set()
    if limits.memory is not None:
        properties.append(f"MemoryMax={limits.memory}")
        enforced.add("memory")
    if limits.processes is not None:
        # The keeper is in the scope too.
        properties.append(f"TasksMax={limits.processes + SLACK_PROCESSES + 1}")
        enforced.add("processes")
    if limits.cpus is not None:
        properties.append(f"CPUQuota={int(limits.cpus * 100)}%")
        enforced.add("cpu")
    if not enforced:
        return Control("")
    arguments = [item for text in properties for item in ("-p", text)]
    wrapper = (program, "--user", "--scope", "--quiet", "--collect", *arguments, "--")
    return Control("systemd scope", (), (*wrapper, "/usr/bin/env", "-i"), frozenset(enforced))
