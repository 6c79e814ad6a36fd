"""What the process tier guarantees for one plan on this machine, and by what."""

from __future__ import annotations

from collections.abc import Set as AbstractSet

from casemate.plan.model import Plan
from casemate.tiers.guarantees import Guarantee, Strength
from casemate.tiers.linux.cgroups import Control

WATCH_INTERVAL_MS = 100


def assess(plan: Plan, control: Control) -> tuple[Guarantee, ...]:
    """Every guarantee by name, as the process tier holds it. Waivers are not applied yet."""
    modes = {root.mode for root in plan.roots}
    return (
        Guarantee("files", "hard", "mount namespace, then Landlock"),
        _hide(plan),
        _protect(plan, modes),
        _edits(modes),
        _network(plan),
        Guarantee("isolation", "hard", "pid, ipc, uts and cgroup namespaces"),
        _space("disk", plan, modes),
        _space("file-count", plan, modes),
        _memory(plan, control),
        _processes(plan, control),
        _cpu(plan, control),
        _time(plan),
        _kernel_surface(plan),
        Guarantee("cleanup", "hard", "pid namespace: the kernel ends every process with PID 1"),
    )


def assess_bare(plan: Plan, control: Control) -> tuple[Guarantee, ...]:
    """The same for the weaker mode: Landlock and seccomp alone, no namespaces."""
    modes = {root.mode for root in plan.roots}
    live = "direct" in modes
    remedy = "let this user create user namespaces: `casemate doctor`"
    strength: Strength = "absent" if live and plan.protect else "hard"
    return (
        Guarantee(
            "files", "hard", "Landlock", note="names and sizes of other files can be looked up"
        ),
        Guarantee(
            "hide",
            "soft",
            "the launch stops where a pattern has a match",
            note="a hidden file that appears later can be read",
            remedy=remedy,
        ),
        Guarantee(
            "protect",
            strength,
            "nothing" if live else "the project is read-only",
            note="nothing can be kept read-only inside a writable project",
            remedy=remedy,
        ),
        _edits(modes),
        _bare_network(plan),
        Guarantee(
            "isolation",
            "absent",
            "Landlock: no signals, no tracing",
            note="the names of other processes can be seen",
            remedy=remedy,
        ),
        _space("disk", plan, modes if live else {"direct"}),
        _space("file-count", plan, modes if live else {"direct"}),
        _memory(plan, control),
        Guarantee(
            "processes",
            "hard",
            "RLIMIT_NPROC",
            note="this user's processes outside count as well",
        ),
        _cpu(plan, control),
        _time(plan),
        _kernel_surface(plan),
        Guarantee(
            "cleanup",
            "soft",
            "the supervisor adopts and ends every process it started",
            note="a process that left its session goes on if the supervisor itself is killed",
            remedy=remedy,
        ),
    )


def _bare_network(plan: Plan) -> Guarantee:
    if plan.network.allow:
        return Guarantee(
            "network",
            "absent",
            "nothing",
            note="without a network namespace no connection can be led to the broker",
            remedy="remove network.allow to run offline",
        )
    return Guarantee(
        "network", "hard", "seccomp: no socket can be made", note="not even on loopback"
    )


def _hide(plan: Plan) -> Guarantee:
    if "overlay" in {root.mode for root in plan.roots}:
        note = "a hidden file that appears on the host during the session is removed from view in"
        note += " milliseconds; plain names at the top of the project are covered beforehand"
    else:
        note = (
            "a hidden file that appears on the host during the session can be read, and so can one"
        )
        note += " that is replaced there by renaming another over it, as editors save"
    return Guarantee(
        "hide", "hard", "the patterns' matches are masked before the first command starts", note
    )


def _protect(plan: Plan, modes: AbstractSet[str]) -> Guarantee:
    if "direct" not in modes:
        return Guarantee("protect", "hard", "held back at review until named")
    return Guarantee(
        "protect",
        "soft",
        "what exists: read-only mounts, ancestors pinned; what is new: taken out at the end",
        note="a protected file that is new in direct mode exists until the session ends",
    )


def _edits(modes: AbstractSet[str]) -> Guarantee:
    if "direct" in modes:
        return Guarantee("edits", "waived", "workspace mode direct: edits are live")
    if modes == {"readonly"}:
        return Guarantee("edits", "hard", "the project is mounted read-only")
    return Guarantee("edits", "hard", "overlay: the project itself is never written")


def _network(plan: Plan) -> Guarantee:
    if plan.network.allow:
        return Guarantee(
            "network",
            "hard",
            "network namespace whose every way out ends in the broker",
            note="what an allowed endpoint does with what it is sent is not known",
        )
    return Guarantee("network", "hard", "network namespace with a loopback of its own only")


def _space(name: str, plan: Plan, modes: AbstractSet[str]) -> Guarantee:
    if "direct" in modes:
        return Guarantee(
            name,
            "soft",
            f"free space of the project's file system, looked at every {WATCH_INTERVAL_MS} ms",
            note="others' writes to the same file system count too",
        )
    if modes == {"readonly"}:
        return Guarantee(name, "hard", "nothing but capped in-memory directories is writable")
    what = "bytes" if name == "disk" else "inodes"
    return Guarantee(name, "hard", f"the copy-on-write layer is a tmpfs with a cap on its {what}")


def _memory(plan: Plan, control: Control) -> Guarantee:
    if plan.limits.memory is None:
        return Guarantee("memory", "hard", "no limit asked for")
    if "memory" in control.enforced:
        return Guarantee("memory", "hard", control.kind)
    return Guarantee(
        "memory",
        "soft",
        f"supervisor: adds up anonymous memory every {WATCH_INTERVAL_MS} ms and ends the session",
        note="no memory control group can be created here; files without a name (memfd) and shared "
        "segments are not counted",
        remedy="run inside a user session of systemd, or as root",
    )


def _processes(plan: Plan, control: Control) -> Guarantee:
    if plan.limits.processes is None:
        return Guarantee("processes", "hard", "no limit asked for")
    if "processes" in control.enforced:
        return Guarantee("processes", "hard", f"{control.kind} and RLIMIT_NPROC")
    return Guarantee("processes", "hard", "RLIMIT_NPROC of the session's user namespace")


def _cpu(plan: Plan, control: Control) -> Guarantee:
    if plan.limits.cpus is None:
        return Guarantee("cpu", "hard", "no limit asked for")
    if "cpu" in control.enforced:
        return Guarantee("cpu", "hard", control.kind)
    rounded: Strength = "hard"
    return Guarantee(
        "cpu", rounded, "pinned to whole processors; sched_setaffinity is refused inside"
    )


def _time(plan: Plan) -> Guarantee:
    if plan.limits.time is None:
        return Guarantee("time", "hard", "no limit asked for")
    return Guarantee("time", "hard", "the supervisor ends the session")


def _kernel_surface(plan: Plan) -> Guarantee:
    note = f"given back by policy: {', '.join(plan.kernel_allow)}" if plan.kernel_allow else ""
    return Guarantee("kernel-surface", "hard", "seccomp, no_new_privs, no capabilities", note=note)
