"""The system calls a sandbox is refused, and the names under which a policy gives them back.

Listed calls are refused and the rest allowed: an agent runs any toolchain, and the namespaces,
not the filter, hold the perimeter. The filter takes away the riskiest code of the kernel and the
ways to undo the perimeter from within.

The errno of a refusal is the one programs already handle: ENOSYS where they have a way around
kernels without the call, EPERM where an ordinary user gets EPERM on a usual machine, and for
sockets what a kernel without the family or protocol says.

All numbers are Linux's own, whatever system this is imported on. docs/kernel-surface.md is the
manual of this table.
"""

from __future__ import annotations

from typing import NamedTuple

# Source: asm-generic/errno-base.h, asm-generic/errno.h.
EPERM, EINVAL, ENOSYS = 1, 22, 38
EPROTONOSUPPORT, ESOCKTNOSUPPORT, EAFNOSUPPORT = 93, 94, 97
# Source: linux/socket.h, linux/net.h, linux/in.h, linux/netlink.h.
AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_VSOCK = 1, 2, 10, 16, 17, 40
SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_PACKET, SOCK_TYPE_MASK = 1, 2, 3, 10, 0xF
IPPROTO_IP, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6 = 0, 1, 6, 17, 58
NETLINK_ROUTE = 0
# Source: linux/stat.h, linux/fs.h, asm-generic/fcntl.h. O_CREAT | __O_TMPFILE: with these open reads its mode.
S_IFMT, S_IFBLK, S_IFCHR, S_ISUID, S_ISGID = 0o170000, 0o060000, 0o020000, 0o4000, 0o2000
RENAME_WHITEOUT = 4
O_CREATES = 0o100 | 0o20000000
# Source: asm-generic/ioctls.h.
TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD = 0x5412, 0x541C, 0x541D, 0x5423
# Source: linux/sched.h. Without CLONE_NEWTIME, whose bit clone(2) reads as part of a signal.
CLONE_NEW = 0x7E020000
WORD = 0xFFFFFFFF


class Condition(NamedTuple):
    """Holds if the masked argument is one of `values`; without values, if any masked bit is set.

    Looks at the low 32 bits alone. Every argument tested here is an int or narrower to the
    kernel, which drops the upper half; comparing it too would let a set upper bit slip past.
    """

    argument: int
    values: tuple[int, ...] = ()
    mask: int = WORD
    negated: bool = False


class Refusal(NamedTuple):
    """System calls that fail with an errno if every condition holds."""

    syscalls: tuple[str, ...]
    errno: int
    conditions: tuple[Condition, ...] = ()


class Capability(NamedTuple):
    """What `[kernel] allow = ["name"]` gives back."""

    name: str
    reason: str
    refusals: tuple[Refusal, ...]

    @property
    def syscalls(self) -> tuple[str, ...]:
        """Every system call refused, wholly or for some arguments."""
        return tuple(name for refusal in self.refusals for name in refusal.syscalls)


def _refuse(errno: int, syscalls: str, *conditions: Condition) -> Refusal:
    return Refusal(tuple(syscalls.split()), errno, conditions)


INTERNET = (AF_INET, AF_INET6)
_FAMILIES = (AF_UNIX, *INTERNET, AF_NETLINK, AF_VSOCK, AF_PACKET)
_TYPES = (SOCK_STREAM, SOCK_DGRAM)
_PROTOCOLS = (IPPROTO_IP, IPPROTO_ICMP, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMPV6)

_CAPABILITIES = (
    Capability(
        "io_uring",
        "does file and socket work out of sight of this filter; a frequent source of exploits",
        (_refuse(ENOSYS, "io_uring_setup io_uring_enter io_uring_register"),),
    ),
    Capability("bpf", "runs code in the kernel", (_refuse(EPERM, "bpf"),)),
    Capability(
        "perf", "samples the kernel; a large attack surface", (_refuse(EPERM, "perf_event_open"),)
    ),
    Capability(
        "userfaultfd",
        "holds the kernel at a page fault, which turns races into exploits",
        (_refuse(EPERM, "userfaultfd"),),
    ),
    Capability(
        "keyring",
        "keys belong to a user, not to a sandbox, and may be shared with the host",
        (_refuse(ENOSYS, "add_key request_key keyctl"),),
    ),
    Capability(
        "namespaces",
        "a new user namespace brings full capabilities and the kernel code behind them",
        (
            _refuse(EPERM, "unshare setns"),
            _refuse(EPERM, "clone", Condition(0, mask=CLONE_NEW)),
            # Its flags are in memory, where a filter cannot look; libc falls back to clone.
            _refuse(ENOSYS, "clone3"),
        ),
    ),
    Capability(
        "mount",
        "changes the file tree that the sandbox is made of",
        (
            _refuse(
                EPERM,
                "mount umount2 pivot_root chroot move_mount open_tree open_tree_attr"
                " fsopen fsconfig fsmount fspick mount_setattr",
            ),
        ),
    ),
    Capability(
        "ptrace",
        "reads and steers other processes",
        (
            _refuse(
                EPERM,
                "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise",
            ),
        ),
    ),
    Capability(
        "modules",
        "loads code into the kernel",
        (
            _refuse(EPERM, "init_module finit_module delete_module"),
            _refuse(ENOSYS, "create_module get_kernel_syms query_module"),
        ),
    ),
    Capability(
        "kexec", "replaces the running kernel", (_refuse(EPERM, "kexec_load kexec_file_load"),)
    ),
    Capability("reboot", "stops the machine", (_refuse(EPERM, "reboot"),)),
    Capability("swap", "changes the host's swap", (_refuse(EPERM, "swapon swapoff"),)),
    Capability(
        "clock",
        "sets the host's clock",
        (_refuse(EPERM, "settimeofday clock_settime clock_adjtime adjtimex"),),
    ),
    Capability("raw_io", "drives hardware ports directly", (_refuse(EPERM, "iopl ioperm"),)),
    Capability(
        "file_handles",
        "opens files by inode, past every path and mount",
        (_refuse(EPERM, "open_by_handle_at"),),
    ),
    Capability(
        "fanotify",
        "watches whole file systems, also beyond the sandbox's mounts",
        (_refuse(EPERM, "fanotify_init fanotify_mark"),),
    ),
    Capability(
        "quota",
        "changes disk quotas that may hold the sandbox",
        (_refuse(EPERM, "quotactl quotactl_fd"),),
    ),
    Capability("acct", "records every process of the host", (_refuse(EPERM, "acct"),)),
    Capability("syslog", "reads and clears the kernel's log", (_refuse(EPERM, "syslog"),)),
    Capability(
        "obsolete",
        "calls no current program makes; old, little-read code",
        (
            _refuse(
                ENOSYS,
                "lookup_dcookie nfsservctl uselib _sysctl ustat sysfs getpmsg putpmsg"
                " afs_syscall tuxcall security vserver epoll_ctl_old epoll_wait_old",
            ),
        ),
    ),
    Capability("vhangup", "hangs up the controlling terminal", (_refuse(EPERM, "vhangup"),)),
    Capability(
        "modify_ldt",
        "sets up 16-bit segments; a source of kernel exploits",
        (_refuse(ENOSYS, "modify_ldt"),),
    ),
    Capability(
        "hostname",
        "changes the name of the machine",
        (_refuse(EPERM, "sethostname setdomainname"),),
    ),
    Capability(
        "migrate",
        "moves the memory of processes between nodes",
        (_refuse(ENOSYS, "move_pages migrate_pages"),),
    ),
    Capability(
        "devices",
        "makes device nodes, which outlive the sandbox in the project",
        (
            _refuse(EPERM, "mknod", Condition(1, (S_IFCHR, S_IFBLK), S_IFMT)),
            _refuse(EPERM, "mknodat", Condition(2, (S_IFCHR, S_IFBLK), S_IFMT)),
            # Leaves an overlay's mark of deletion behind, which is a device node.
            _refuse(EINVAL, "renameat2", Condition(4, mask=RENAME_WHITEOUT)),
        ),
    ),
    Capability(
        "terminal",
        "types into, redirects or rewires a terminal",
        (_refuse(EPERM, "ioctl", Condition(1, (TIOCSTI, TIOCLINUX, TIOCCONS, TIOCSETD))),),
    ),
    Capability(
        "vsock",
        "reaches the hypervisor and other machines on it, past every network namespace",
        (_refuse(EAFNOSUPPORT, "socket", Condition(0, (AF_VSOCK,))),),
    ),
    Capability(
        "packet",
        "sends and sees packets of any form: AF_PACKET, SOCK_PACKET and raw internet sockets",
        (
            _refuse(EPERM, "socket", Condition(0, (AF_PACKET,))),
            _refuse(
                EPERM,
                "socket",
                Condition(0, INTERNET),
                Condition(1, (SOCK_RAW, SOCK_PACKET), SOCK_TYPE_MASK),
            ),
        ),
    ),
    Capability(
        "netlink",
        "configures the kernel: audit, netfilter, crypto and device events; routes stay readable",
        (
            _refuse(
                EPROTONOSUPPORT,
                "socket",
                Condition(0, (AF_NETLINK,)),
                Condition(2, (NETLINK_ROUTE,), negated=True),
            ),
        ),
    ),
    Capability(
        "protocols",
        "internet protocols beside TCP, UDP and ICMP (MPTCP, SCTP, DCCP, SMC): rules for TCP"
        " miss them, and the kernel loads their modules on demand",
        (
            _refuse(
                ESOCKTNOSUPPORT,
                "socket",
                Condition(0, INTERNET),
                Condition(1, (*_TYPES, SOCK_RAW, SOCK_PACKET), SOCK_TYPE_MASK, negated=True),
            ),
            _refuse(
                EPROTONOSUPPORT,
                "socket",
                Condition(0, INTERNET),
                Condition(1, _TYPES, SOCK_TYPE_MASK),
                Condition(2, _PROTOCOLS, negated=True),
            ),
        ),
    ),
    Capability(
        "address_families",
        "every other kind of socket (AF_ALG, AF_CAN, AF_BLUETOOTH, AF_TIPC and more)",
        (
            _refuse(EAFNOSUPPORT, "socket", Condition(0, _FAMILIES, negated=True)),
            _refuse(EAFNOSUPPORT, "socketpair", Condition(0, (AF_UNIX,), negated=True)),
        ),
    ),
)

CAPABILITIES: dict[str, Capability] = {capability.name: capability for capability in _CAPABILITIES}
"""Everything refused unless the policy gives it back, by name, in the order of the manual."""

_SET_ID = S_ISUID | S_ISGID

DIRECT = (
    _refuse(EPERM, "chmod fchmod creat mkdir mknod", Condition(1, mask=_SET_ID)),
    _refuse(EPERM, "fchmodat fchmodat2 mkdirat mknodat", Condition(2, mask=_SET_ID)),
    _refuse(EPERM, "open", Condition(1, mask=O_CREATES), Condition(2, mask=_SET_ID)),
    _refuse(EPERM, "openat", Condition(2, mask=O_CREATES), Condition(3, mask=_SET_ID)),
    # Its mode is in memory, where a filter cannot look.
    _refuse(ENOSYS, "openat2"),
)
"""With edits going straight to the host: no set-user-ID or set-group-ID file may be left there."""

PIN_CPUS = (_refuse(EPERM, "sched_setaffinity"),)
"""With the CPU limit held by an affinity mask: the mask stays."""

NO_SOCKETS = (_refuse(EPERM, "socket"),)
"""Without a network namespace: only connected pairs of sockets can be made, see socketpair(2)."""
