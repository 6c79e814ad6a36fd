"""What this machine offers the perimeter, what each thing gives, and what stands in the way.

Facts are gathered by really trying (`trial`) and by reading /proc and /dev; `root` serves tests.
"""

from __future__ import annotations

import errno
import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass
from typing import Literal

from casemate.policy.model import Limits
from casemate.tiers.linux import trial
from casemate.tiers.linux.cgroups import find
from casemate.tiers.linux.trial import Refused

State = Literal["yes", "partly", "no"]

KERNEL_LEAST = (5, 13)
"""The first with Landlock."""
KERNEL_FULL = (6, 13)
"""The first whose overlay takes its layers as descriptors."""
LANDLOCK_FULL = 6

APPARMOR_REMEDY = (
    "an AppArmor profile for casemate with the rule `userns,` in /etc/apparmor.d, or: "
    "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"
)
CONTAINER_REMEDY = (
    "start the container with --security-opt seccomp=unconfined, or with a profile that "
    "allows unshare, clone and mount"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing the machine has or lacks."""

    name: str
    state: State
    found: str
    """What was found, in a few words."""
    gives: str
    """What the perimeter uses it for."""
    setting: str = ""
    """The host's setting in the way."""
    remedy: str = ""
    """The command or step that changes it."""


def survey(root: str = "/") -> tuple[Fact, ...]:
    """Every fact, in the order in which they matter."""
    return (
        kernel(platform.release()),
        namespaces(trial.user_namespace(), root),
        overlay(trial.overlay()),
        process_list(trial.process_list(), root),
        network(trial.network_namespace()),
        landlock(trial.landlock_version(), root),
        seccomp(trial.seccomp_filters(), root),
        control_groups(root),
        shared_memory(root),
        descriptors(),
        watches(root),
        hypervisor(root),
        emulator(),
        enclave(root),
        tpm(root),
    )


def kernel(release: str) -> Fact:
    """The version of the kernel."""
    gives = "everything: the perimeter is made of what the kernel offers"
    parts = release.split(".")
    try:
        version = (int(parts[0]), int(parts[1].split("-")[0]))
    except (ValueError, IndexError):
        return Fact("kernel", "partly", release, gives)
    state: State = "yes"
    remedy = ""
    if version < KERNEL_FULL:
        state = "partly"
        remedy = "a newer kernel brings the mount interface used first; an older way is taken here"
    if version < KERNEL_LEAST:
        state = "no"
        remedy = f"Linux {KERNEL_LEAST[0]}.{KERNEL_LEAST[1]} or later"
    return Fact("kernel", state, f"Linux {release}", gives, remedy=remedy)


def namespaces(refused: Refused | None, root: str = "/") -> Fact:
    """User namespaces, tried with a mount inside."""
    name, gives = "user namespaces", "files, hide, edits, isolation, network: the first wall"
    if refused is None:
        return Fact(name, "yes", "a namespace and a mount in it were made", gives)
    setting, remedy = _in_the_way(refused, root)
    return Fact(name, "no", str(refused), gives, setting, remedy)


def _in_the_way(refused: Refused, root: str) -> tuple[str, str]:
    """Which of the host's settings refuses user namespaces, and the way round it."""
    sysctl = {
        "kernel.apparmor_restrict_unprivileged_userns": (
            "1",
            APPARMOR_REMEDY,
        ),
        "kernel.unprivileged_userns_clone": (
            "0",
            "sudo sysctl kernel.unprivileged_userns_clone=1",
        ),
        "user.max_user_namespaces": ("0", "sudo sysctl user.max_user_namespaces=15000"),
        "user.max_mnt_namespaces": ("0", "sudo sysctl user.max_mnt_namespaces=15000"),
    }
    for setting, (refusing, remedy) in sysctl.items():
        if _read(root, "proc/sys/" + setting.replace(".", "/")).strip() == refusing:
            return f"{setting} = {refusing}", remedy
    if status_field("Seccomp", root) == "2":
        return (
            "a seccomp filter of the container (Seccomp: 2 in /proc/self/status)",
            CONTAINER_REMEDY,
        )
    if refused.number == errno.ENOSPC:
        return "user.max_user_namespaces is reached", "end other sandboxes, or raise it"
    if refused.number in (errno.ENOSYS, errno.EINVAL):
        return "the kernel was built without CONFIG_USER_NS", "another kernel"
    if _read(root, "proc/self/attr/current").strip().rstrip("\0") not in ("", "unconfined"):
        label = _read(root, "proc/self/attr/current").strip().rstrip("\0")
        return f"the security module's label {label!r}", "ask whoever runs this machine"
    return "an unnamed rule of this machine (a chroot, or a security module)", ""


def overlay(refused: Refused | None) -> Fact:
    """The overlay file system inside a user namespace."""
    name, gives = "overlay", "edits, disk, file-count: the copy-on-write layer"
    if refused is None:
        return Fact(name, "yes", "mounted in a user namespace", gives)
    setting = ""
    if refused.number == errno.ENODEV:
        setting = "the kernel has no overlay module loaded, and this user cannot load it"
    remedy = "sudo modprobe overlay" if setting else "Linux 5.11 or later; else --workspace direct"
    return Fact(name, "no", str(refused), gives, setting, remedy)


def process_list(refused: Refused | None, root: str = "/") -> Fact:
    """A /proc of the sandbox's own."""
    name, gives = "own /proc", "isolation: no process of the host can be seen"
    if refused is None:
        return Fact(name, "yes", "mounted in a PID namespace", gives)
    setting = ""
    masked = masked_paths(root)
    if refused.number == errno.EPERM and masked:
        setting = (
            f"parts of /proc are covered here ({', '.join(masked[:3])}): a container does that"
        )
    remedy = "start the container with --security-opt systempaths=unconfined" if setting else ""
    return Fact(name, "no", str(refused), gives, setting, remedy)


def masked_paths(root: str = "/") -> list[str]:
    """Mounts below /proc, which make the kernel refuse a fresh one to this user."""
    found = []
    for line in _read(root, "proc/self/mountinfo").splitlines():
        fields = line.split()
        if len(fields) > 4 and fields[4].startswith("/proc/"):
            found.append(fields[4])
    return [path for path in found if not path.startswith("/proc/sys/fs/binfmt_misc")]


def network(refused: Refused | None) -> Fact:
    """Network namespaces."""
    name, gives = "network namespaces", "network: nothing leaves"
    if refused is None:
        return Fact(name, "yes", "made in a user namespace", gives)
    return Fact(
        name, "no", str(refused), gives, "user.max_net_namespaces", "a value above 0 for it"
    )


def landlock(version: int, root: str = "/") -> Fact:
    """Landlock, the second wall."""
    name, gives = "Landlock", "files: a second wall, and the only one without namespaces"
    if version >= LANDLOCK_FULL:
        return Fact(name, "yes", f"ABI {version}", gives)
    if version:
        note = f"ABI {version}: signals and abstract sockets are not scoped"
        return Fact(name, "partly", note, gives, remedy="Linux 6.12 or later")
    modules = _read(root, "sys/kernel/security/lsm").strip()
    setting = f"active security modules: {modules}" if modules else ""
    remedy = "add landlock to lsm= on the kernel's command line"
    return Fact(name, "no", "not available", gives, setting, remedy)


def seccomp(filters: bool, root: str = "/") -> Fact:
    """System-call filters."""
    name, gives = "seccomp", "kernel-surface: dangerous system calls are refused"
    if not filters:
        return Fact(name, "no", "no filters", gives, remedy="a kernel with CONFIG_SECCOMP_FILTER")
    above = status_field("Seccomp", root) == "2"
    found = "filters, below one of this container" if above else "filters"
    return Fact(name, "yes", found, gives)


def control_groups(root: str = "/") -> Fact:
    """Control groups for this user."""
    name, gives = "control groups", "memory, processes, cpu: limits kept by the kernel"
    control = find(Limits(memory=1 << 30, processes=100, cpus=1.0), root=root)
    if control.enforced == {"memory", "processes", "cpu"}:
        return Fact(name, "yes", control.kind, gives)
    remedy = "log in through systemd with lingering (loginctl enable-linger), or run as root"
    if control.enforced:
        held = ", ".join(sorted(control.enforced))
        return Fact(name, "partly", f"{control.kind}: {held}", gives, remedy=remedy)
    return Fact(
        name, "partly", "none; rlimits and accounting instead", gives, "no delegated group", remedy
    )


def shared_memory(root: str = "/") -> Fact:
    """/dev/shm of the host; the sandbox has its own."""
    name, gives = "/dev/shm", "programs outside; a sandbox has its own"
    path = os.path.join(root, "dev/shm")
    if os.path.isdir(path) and os.access(path, os.W_OK):
        return Fact(name, "yes", "writable", gives)
    return Fact(name, "partly", "missing or not writable", gives)


def descriptors() -> Fact:
    """How many files may be open at once."""
    name, gives = "open files", "many sandboxes and commands at once"
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY or hard >= 4096:
        text = "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard}"
        return Fact(name, "yes", text, gives)
    return Fact(name, "partly", f"up to {hard}", gives, "RLIMIT_NOFILE", "ulimit -Hn 4096 or more")


def watches(root: str = "/") -> Fact:
    """inotify: development servers inside need many watches. inotify(7)"""
    name, gives = "file watches", "programs inside that watch the project for changes"
    text = _read(root, "proc/sys/fs/inotify/max_user_watches").strip()
    number = int(text) if text.isdecimal() else 0
    if number >= 65536:
        return Fact(name, "yes", f"{number}", gives)
    setting = f"fs.inotify.max_user_watches = {text or 'unknown'}"
    remedy = "sudo sysctl fs.inotify.max_user_watches=524288"
    return Fact(name, "partly", text or "unknown", gives, setting, remedy)


def hypervisor(root: str = "/") -> Fact:
    """KVM, for the tier of virtual machines."""
    return _device(
        "KVM",
        os.path.join(root, "dev/kvm"),
        "the vm tier at full speed (not in this release)",
        "sudo usermod -aG kvm $USER, then log in again",
        "switch virtualisation on in the firmware; a virtual machine needs nesting",
    )


def emulator() -> Fact:
    """QEMU, for the tier of virtual machines."""
    gives = "the vm tier (not in this release)"
    machine = "aarch64" if platform.machine() == "aarch64" else "x86_64"
    path = shutil.which(f"qemu-system-{machine}")
    if path:
        return Fact("QEMU", "yes", path, gives)
    return Fact("QEMU", "no", "not installed", gives, remedy=f"install qemu-system-{machine}")


def enclave(root: str = "/") -> Fact:
    """SGX, for the vault."""
    return _device(
        "SGX",
        os.path.join(root, "dev/sgx_enclave"),
        "secrets in an enclave (not in this release)",
        "sudo usermod -aG sgx $USER, then log in again",
        "a processor with SGX, switched on in the firmware",
    )


def tpm(root: str = "/") -> Fact:
    """A TPM, for sealing."""
    return _device(
        "TPM",
        os.path.join(root, "dev/tpmrm0"),
        "secrets sealed to this machine (not in this release)",
        "sudo usermod -aG tss $USER, then log in again",
        "switch the TPM on in the firmware",
    )


def _device(name: str, path: str, gives: str, group: str, absent: str) -> Fact:
    if not os.path.exists(path):
        return Fact(name, "no", f"no {path}", gives, remedy=absent)
    if os.access(path, os.R_OK | os.W_OK):
        return Fact(name, "yes", path, gives)
    return Fact(name, "no", f"{path} may not be opened", gives, f"the mode of {path}", group)


def status_field(name: str, root: str = "/") -> str:
    """A field of /proc/self/status. proc_pid_status(5)"""
    for line in _read(root, "proc/self/status").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return value.strip()
    return ""


def interpreter() -> str:
    """The Python this runs on."""
    return f"Python {platform.python_version()} ({sys.executable})"


def _read(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
