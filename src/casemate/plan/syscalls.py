"""System calls that sandboxes are refused, in groups that a policy can give back by name.

Numbers are those of Linux 6.18: arch/x86/entry/syscalls/syscall_64.tbl and scripts/syscall.tbl,
which arm64 follows. Only calls that the filter looks at are listed.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

Architecture = Literal["x86_64", "aarch64"]

LAST: dict[Architecture, int] = {"x86_64": 469, "aarch64": 469}
"""The newest call each architecture has here (`file_setattr`). Calls after it are refused until
someone has looked at what they do."""

_X86 = 0
_ARM = 1

# name: (x86_64, aarch64); -1 where the architecture does not have it.
_NUMBERS = {
    "_sysctl": (156, -1),
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "afs_syscall": (183, -1),
    "bpf": (321, 280),
    "chmod": (90, -1),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "clone": (56, 220),
    "clone3": (435, 435),
    "creat": (85, -1),
    "create_module": (174, -1),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, -1),
    "getpmsg": (181, -1),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "ioctl": (16, 29),
    "ioperm": (173, -1),
    "iopl": (172, -1),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "migrate_pages": (256, 238),
    "mkdir": (83, -1),
    "mkdirat": (258, 34),
    "mknod": (133, -1),
    "mknodat": (259, 33),
    "modify_ldt": (154, -1),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "move_pages": (279, 239),
    "nfsservctl": (180, 42),
    "open": (2, -1),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "openat": (257, 56),
    "openat2": (437, 437),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "putpmsg": (182, -1),
    "query_module": (178, -1),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "sched_setaffinity": (203, 122),
    "security": (185, -1),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, -1),
    "syslog": (103, 116),
    "tuxcall": (184, -1),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "uselib": (134, -1),
    "userfaultfd": (323, 282),
    "ustat": (136, -1),
    "vhangup": (153, 58),
    "vserver": (236, -1),
}


def number(name: str, architecture: Architecture) -> int | None:
    """The number of a call, None if the architecture does not have it."""
    found = _NUMBERS[name][_X86 if architecture == "x86_64" else _ARM]
    return None if found < 0 else found


def numbers(architecture: Architecture) -> dict[str, int]:
    """Every listed call that the architecture has."""
    return {name: found for name in _NUMBERS if (found := number(name, architecture)) is not None}


@dataclass(frozen=True, slots=True)
class Capability:
    """A group of calls refused together. `errno` is what they fail with."""

    errno: int
    calls: tuple[str, ...]
    why: str


_EPERM, _ENOSYS = errno.EPERM, errno.ENOSYS

CAPABILITIES = {
    "accounting": Capability(_EPERM, ("acct",), "writes a file from the kernel"),
    "bpf": Capability(_EPERM, ("bpf",), "runs programs in the kernel"),
    "clock": Capability(
        _EPERM,
        ("adjtimex", "clock_adjtime", "clock_settime", "settimeofday"),
        "sets the host's clock",
    ),
    "fanotify": Capability(_EPERM, ("fanotify_init",), "watches whole file systems"),
    "file-handles": Capability(
        _EPERM, ("open_by_handle_at",), "opens files by number, past every directory"
    ),
    "hostname": Capability(_EPERM, ("sethostname", "setdomainname"), "renames the machine"),
    # Not implemented, so that event loops fall back to epoll instead of giving up.
    "io_uring": Capability(
        _ENOSYS,
        ("io_uring_setup", "io_uring_enter", "io_uring_register"),
        "does what system calls do without the filter seeing it",
    ),
    "kernel-log": Capability(_EPERM, ("syslog",), "reads the kernel's messages"),
    "kexec": Capability(_EPERM, ("kexec_load", "kexec_file_load"), "starts another kernel"),
    "keyring": Capability(
        _EPERM, ("add_key", "request_key", "keyctl"), "kernel keys know no namespaces"
    ),
    "ldt": Capability(_EPERM, ("modify_ldt",), "16-bit segments, a source of kernel faults"),
    "modules": Capability(
        _EPERM, ("init_module", "finit_module", "delete_module"), "loads code into the kernel"
    ),
    "mount": Capability(
        _EPERM,
        ("mount", "umount2", "pivot_root", "chroot", "move_mount", "open_tree", "open_tree_attr")
        + ("fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"),
        "changes what is visible where",
    ),
    # `clone` is refused by its flags and `clone3`, whose flags a filter cannot see, altogether.
    "namespaces": Capability(
        _EPERM, ("unshare", "setns"), "new user namespaces open most of the kernel to attack"
    ),
    "numa": Capability(_EPERM, ("move_pages", "migrate_pages"), "moves other processes' memory"),
    "obsolete": Capability(
        _ENOSYS,
        ("_sysctl", "afs_syscall", "create_module", "get_kernel_syms", "getpmsg", "lookup_dcookie")
        + ("nfsservctl", "putpmsg", "query_module", "security", "sysfs", "tuxcall", "uselib")
        + ("ustat", "vserver"),
        "nothing written in this century needs them",
    ),
    "perf": Capability(_EPERM, ("perf_event_open",), "a large and often broken interface"),
    "ptrace": Capability(
        _EPERM,
        ("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "kcmp")
        + ("process_madvise",),
        "reads and steers other processes; debuggers need it",
    ),
    "quota": Capability(_EPERM, ("quotactl", "quotactl_fd"), "reads and sets the host's quotas"),
    "raw-io": Capability(_EPERM, ("iopl", "ioperm"), "talks to hardware"),
    "reboot": Capability(_EPERM, ("reboot",), "stops the machine"),
    "swap": Capability(_EPERM, ("swapon", "swapoff"), "changes the host's memory"),
    "terminal": Capability(
        _EPERM, ("vhangup",), "types into the terminal, with TIOCSTI and its kin"
    ),
    "userfaultfd": Capability(_EPERM, ("userfaultfd",), "holds the kernel still at will"),
}
"""By the names of `casemate.policy.model.KERNEL_CAPABILITIES`."""
