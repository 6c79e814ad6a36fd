"""The filter against an interpreter of its code and a plain restatement of what it must do."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.plan.bpf_interpreter import execute

from casemate.errors import PolicyError, UnsupportedError
from casemate.plan.capabilities import DIRECT, PIN_CPUS
from casemate.plan.seccomp import CAPABILITIES, compile_filter
from casemate.plan.syscalls import ARCHITECTURES, AUDIT, NEWEST, SYSCALLS, number

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
EPERM, EINVAL, ENOSYS = 1, 22, 38
EPROTONOSUPPORT, ESOCKTNOSUPPORT, EAFNOSUPPORT = 93, 94, 97
I386, ARM = 0x40000003, 0x40000028
X32 = 0x40000000
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
MANUAL = Path(__file__).parents[3] / "docs" / "kernel-surface.md"
SUPERVISOR = """
    clone execve wait4 ppoll recvmsg sendmsg read openat statx getdents64 prlimit64 setsid dup3
    close_range fcntl rt_sigaction ioctl kill chdir fstatfs lseek pread64 readlinkat fgetxattr
    fchmodat signalfd4 mmap munmap futex exit_group write close pipe2 newfstatat
"""

WHOLE = {
    "io_uring": (ENOSYS, "io_uring_setup io_uring_enter io_uring_register"),
    "bpf": (EPERM, "bpf"),
    "perf": (EPERM, "perf_event_open"),
    "userfaultfd": (EPERM, "userfaultfd"),
    "keyring": (ENOSYS, "add_key request_key keyctl"),
    "mount": (
        EPERM,
        """mount umount2 pivot_root chroot move_mount open_tree open_tree_attr fsopen fsconfig
        fsmount fspick mount_setattr""",
    ),
    "ptrace": (
        EPERM,
        "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise",
    ),
    "kexec": (EPERM, "kexec_load kexec_file_load"),
    "reboot": (EPERM, "reboot"),
    "swap": (EPERM, "swapon swapoff"),
    "clock": (EPERM, "settimeofday clock_settime clock_adjtime adjtimex"),
    "raw_io": (EPERM, "iopl ioperm"),
    "file_handles": (EPERM, "open_by_handle_at"),
    "fanotify": (EPERM, "fanotify_init fanotify_mark"),
    "quota": (EPERM, "quotactl quotactl_fd"),
    "acct": (EPERM, "acct"),
    "syslog": (EPERM, "syslog"),
    "obsolete": (
        ENOSYS,
        """lookup_dcookie nfsservctl uselib _sysctl ustat sysfs getpmsg putpmsg afs_syscall
        tuxcall security vserver epoll_ctl_old epoll_wait_old""",
    ),
    "vhangup": (EPERM, "vhangup"),
    "modify_ldt": (ENOSYS, "modify_ldt"),
    "hostname": (EPERM, "sethostname setdomainname"),
    "migrate": (ENOSYS, "move_pages migrate_pages"),
}


def socket_errno(family: int, kind: int, protocol: int, allow: set[str]) -> int:
    """What socket(2) fails with by the rules, 0 if it is let through."""
    kind &= 0xF
    match family:
        case 1:
            return 0
        case 2 | 10:
            if kind in (3, 10):
                return 0 if "packet" in allow else EPERM
            if "protocols" in allow:
                return 0
            if kind not in (1, 2):
                return ESOCKTNOSUPPORT
            return 0 if protocol in (0, 1, 6, 17, 58) else EPROTONOSUPPORT
        case 16:
            return 0 if protocol == 0 or "netlink" in allow else EPROTONOSUPPORT
        case 17:
            return 0 if "packet" in allow else EPERM
        case 40:
            return 0 if "vsock" in allow else EAFNOSUPPORT
    return 0 if "address_families" in allow else EAFNOSUPPORT


def model(name: str, arguments: list[int], allow: set[str], direct: bool, pin: bool) -> int:
    """The errno a call must fail with, 0 if it is let through."""
    first, second, third, fourth, fifth, *_ = (argument & 0xFFFFFFFF for argument in arguments)
    for capability, (errno, calls) in WHOLE.items():
        if capability not in allow and name in calls.split():
            return errno
    kind, set_id = 0o170000, 0o6000
    creates = 0o20000100
    device = "devices" not in allow
    match name:
        case "init_module" | "finit_module" | "delete_module":
            return 0 if "modules" in allow else EPERM
        case "create_module" | "get_kernel_syms" | "query_module":
            return 0 if "modules" in allow else ENOSYS
        case "unshare" | "setns":
            return 0 if "namespaces" in allow else EPERM
        case "clone3":
            return 0 if "namespaces" in allow else ENOSYS
        case "clone":
            new = any(first >> bit & 1 for bit in (17, 25, 26, 27, 28, 29, 30))
            return EPERM if new and "namespaces" not in allow else 0
        case "socket":
            return socket_errno(first, second, third, allow)
        case "socketpair":
            return EAFNOSUPPORT if first != 1 and "address_families" not in allow else 0
        case "ioctl":
            bad = second in (0x5412, 0x541C, 0x541D, 0x5423) and "terminal" not in allow
            return EPERM if bad else 0
        case "mknod" if device and second & kind in (0o020000, 0o060000):
            return EPERM
        case "mknodat" if device and third & kind in (0o020000, 0o060000):
            return EPERM
        case "renameat2":
            return EINVAL if device and fifth & 4 else 0
        case "chmod" | "fchmod" | "creat" | "mkdir" | "mknod":
            return EPERM if direct and second & set_id else 0
        case "fchmodat" | "fchmodat2" | "mkdirat" | "mknodat":
            return EPERM if direct and third & set_id else 0
        case "open":
            return EPERM if direct and second & creates and third & set_id else 0
        case "openat":
            return EPERM if direct and third & creates and fourth & set_id else 0
        case "openat2":
            return ENOSYS if direct else 0
        case "sched_setaffinity":
            return EPERM if pin else 0
    return 0


INTERESTING = (
    (0, 1, 2, 3, 5, 6, 10, 15, 16, 17, 38, 40, 41, 43, 132, 262, 0x80001, 0x80801, 0x80803)
    + (0x5412, 0x5413, 0x541C, 0x541D, 0x5423, 0o20644, 0o60644, 0o100644, 0o10644, 0o140644)
    + (0o4755, 0o2755, 0o1777, 0o755, 0o101, 0o20200002, 0o4100, 0xFFFFFFFF, 0x80, 0x11, 0x4111)
    + tuple(1 << bit for bit in range(32))
)
LOW = st.one_of(st.sampled_from(INTERESTING), st.integers(0, 0xFFFFFFFF))
HIGH = st.one_of(st.just(0), st.sampled_from((1, 0x80000000)), st.integers(0, 0xFFFFFFFF))
ARGUMENTS = st.lists(
    st.builds(lambda low, high: high << 32 | low, LOW, HIGH), min_size=6, max_size=6
)
POLICY = st.tuples(
    st.one_of(st.just(frozenset()), st.frozensets(st.sampled_from(sorted(CAPABILITIES)))),
    st.booleans(),
    st.booleans(),
)
FILTERS: dict[tuple[str, frozenset[str], bool, bool], bytes] = {}


def build(
    architecture: str, allow: frozenset[str] = frozenset(), direct: bool = False, pin: bool = False
) -> bytes:
    """A filter, compiled once."""
    key = (architecture, allow, direct, pin)
    if key not in FILTERS:
        FILTERS[key] = compile_filter(
            architecture, tuple(sorted(allow)), direct=direct, pin_cpus=pin
        )
    return FILTERS[key]


@given(st.sampled_from(ARCHITECTURES), st.sampled_from(sorted(SYSCALLS)), ARGUMENTS, POLICY)
def test_listed_calls_follow_the_rules(
    architecture: str, name: str, arguments: list[int], policy: tuple[frozenset[str], bool, bool]
) -> None:
    """Every call in the table, with any arguments and policy, ends as the rules say."""
    call = number(architecture, name)
    if call is None:
        return
    allow, direct, pin = policy
    errno = model(name, arguments, set(allow), direct, pin)

    verdict, _ = execute(build(architecture, *policy), AUDIT[architecture], call, arguments)

    assert verdict == (ERRNO | errno if errno else ALLOW)


@given(st.sampled_from(ARCHITECTURES), ARGUMENTS, POLICY)
def test_sockets_follow_the_rules(
    architecture: str, arguments: list[int], policy: tuple[frozenset[str], bool, bool]
) -> None:
    """Any family, type and protocol of socket(2) ends as the rules say."""
    call = number(architecture, "socket")
    assert call is not None
    errno = model("socket", arguments, set(policy[0]), *policy[1:])

    verdict, _ = execute(build(architecture, *policy), AUDIT[architecture], call, arguments)

    assert verdict == (ERRNO | errno if errno else ALLOW)


@given(st.sampled_from(ARCHITECTURES), st.integers(0, 0xFFFFFFFF), ARGUMENTS, POLICY)
def test_unlisted_numbers_pass_up_to_the_newest(
    architecture: str, call: int, arguments: list[int], policy: tuple[frozenset[str], bool, bool]
) -> None:
    """A number in no table passes if it is known, and is answered with ENOSYS if it is not."""
    if call in {number(architecture, name) for name in SYSCALLS}:
        return

    verdict, _ = execute(build(architecture, *policy), AUDIT[architecture], call, arguments)

    assert verdict == (ALLOW if call <= NEWEST[architecture] else ERRNO | ENOSYS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_known_number_is_decided(architecture: str) -> None:
    """All numbers around the known range, one by one, with no arguments: no neighbour is hit."""
    names = {number(architecture, name): name for name in SYSCALLS}
    code = build(architecture, direct=True, pin=True)

    for call in range(NEWEST[architecture] + 300):
        errno = model(names.get(call, ""), [0] * 6, set(), True, True)
        if call > NEWEST[architecture]:
            errno = ENOSYS
        verdict, _ = execute(code, AUDIT[architecture], call, [0] * 6)
        assert verdict == (ERRNO | errno if errno else ALLOW), call


@given(st.sampled_from(ARCHITECTURES), st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF))
def test_any_other_architecture_is_killed(architecture: str, other: int, call: int) -> None:
    """A call through a foreign entry kills the process, whatever its number."""
    if other == AUDIT[architecture]:
        return

    for foreign in (other, I386, ARM):
        assert execute(build(architecture), foreign, call, [0] * 6)[0] == KILL


def test_x32_calls_do_not_exist() -> None:
    """The x32 numbers of x86_64, also the 512-547 range without the bit, get ENOSYS."""
    code = build("x86_64", frozenset(CAPABILITIES))

    for call in (X32, X32 | 39, X32 | 59, X32 | 520, 512, 547, 0xFFFFFFFF):
        assert execute(code, AUDIT["x86_64"], call, [0] * 6)[0] == ERRNO | ENOSYS


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("upper", [1 << 32, 1 << 63, 0xFFFFFFFF << 32])
def test_upper_halves_do_not_hide_an_argument(architecture: str, upper: int) -> None:
    """The kernel drops the upper half of an int argument, so setting it changes nothing."""
    code = build(architecture, direct=True)
    refused = {
        "ioctl": [0, 0x5412, 0, 0, 0, 0],
        "clone": [0x10000000, 0, 0, 0, 0, 0],
        "socket": [40, 1, 0, 0, 0, 0],
        "mknodat": [0, 0, 0o20644, 0, 0, 0],
        "fchmodat": [0, 0, 0o4755, 0, 0, 0],
    }
    for name, arguments in refused.items():
        call = number(architecture, name)
        assert call is not None
        plain, _ = execute(code, AUDIT[architecture], call, arguments)
        high, _ = execute(code, AUDIT[architecture], call, [a | upper for a in arguments])
        assert plain == high != ALLOW, name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_supervisor_can_work(architecture: str) -> None:
    """Nothing PID 1 and its children call before exec is refused under the strictest filter."""
    numbers = header(architecture)
    code = build(architecture, direct=True, pin=True)
    special = {
        "clone": [[0x4111], [0x11], [0x3D0F00]],
        "ioctl": [[0, request] for request in (0x540E, 0x5414, 0x5441, 0x40045431, 0x40045436)],
        "fchmodat": [[0, 0, 0o755]],
        "openat": [[0, 0, 0o101, 0o644], [0, 0, 0o2000000, 0o7777]],
    }
    for name in SUPERVISOR.split():
        if name == "newfstatat" and name not in numbers:
            continue
        for arguments in special.get(name, [[]]):
            padded = arguments + [0] * (6 - len(arguments))
            verdict, _ = execute(code, AUDIT[architecture], numbers[name], padded)
            assert verdict == ALLOW, (name, arguments)


def header(architecture: str) -> dict[str, int]:
    """The kernel's own table, if its headers are installed."""
    path = HEADERS[architecture]
    if not path.exists():
        pytest.skip(f"needs {path}")
    found = re.findall(r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$", path.read_text(), re.MULTILINE)
    return {name: int(value) for name, value in found if name != "syscalls"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_numbers_are_the_kernels(architecture: str) -> None:
    """Each number equals the header's; a call without one is not in the header at all."""
    numbers = header(architecture)
    newest = max(numbers.values())

    for name in SYSCALLS:
        call = number(architecture, name)
        if call is None or call <= newest:
            assert numbers.get(name) == call, name


def test_every_rule_names_known_calls() -> None:
    """No rule holds a misspelt call, and no call is in the table without a rule."""
    refusals = [refusal for item in CAPABILITIES.values() for refusal in item.refusals]
    used = {name for refusal in (*refusals, *DIRECT, *PIN_CPUS) for name in refusal.syscalls}

    assert used == set(SYSCALLS)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("direct", [False, True])
def test_the_kernel_would_take_the_code(architecture: str, direct: bool) -> None:
    """The program is short, jumps stay inside it, and only permitted instructions are used."""
    code = build(architecture, direct=direct, pin=direct)
    program = list(struct.iter_unpack("<HBBI", code))

    assert len(program) < 256
    assert program[-1][0] == 0x06
    for place, (operation, then, otherwise, value) in enumerate(program):
        assert operation in (0x20, 0x54, 0x05, 0x15, 0x35, 0x45, 0x06)
        if operation == 0x20:
            assert value in range(0, 64, 4)
        furthest = value if operation == 0x05 else max(then, otherwise)
        assert place + 1 + furthest < len(program) or operation == 0x06


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_common_calls_are_cheap(architecture: str) -> None:
    """The calls programs live on take few instructions."""
    numbers = header(architecture)
    for name in ("read", "write", "openat", "mmap", "close", "futex", "execve", "wait4"):
        _, steps = execute(build(architecture), AUDIT[architecture], numbers[name], [0] * 6)
        assert steps <= 12, name


def test_compiling_is_a_pure_function() -> None:
    """Order and repetition in `allow` do not matter; each capability changes the code."""
    plain = compile_filter("x86_64", (), direct=False, pin_cpus=False)
    for name in CAPABILITIES:
        assert compile_filter("x86_64", (name,), direct=False, pin_cpus=False) != plain, name
    both = compile_filter("x86_64", ("bpf", "perf"), direct=False, pin_cpus=False)

    assert both == compile_filter("x86_64", ("perf", "bpf", "bpf"), direct=False, pin_cpus=False)


def test_an_unknown_capability_names_the_nearest() -> None:
    """A slip in the policy is answered with the key and the name that was likely meant."""
    with pytest.raises(PolicyError) as caught:
        compile_filter("x86_64", ("bpf", "ptrase"), direct=False, pin_cpus=False)

    assert caught.value.key == "kernel.allow[1]"
    assert '"ptrase"' in caught.value.problem and '"ptrace"' in caught.value.problem


def test_an_unknown_architecture_is_unsupported() -> None:
    """No table, no filter: the launch must not go on without one."""
    with pytest.raises(UnsupportedError, match="riscv64"):
        compile_filter("riscv64", (), direct=False, pin_cpus=False)


def test_the_manual_describes_exactly_the_capabilities() -> None:
    """docs/kernel-surface.md has one row per capability, in order, naming its system calls."""
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \|", MANUAL.read_text(), re.MULTILINE)

    assert [name for name, _ in rows] == list(CAPABILITIES)
    for name, refused in rows:
        assert set(re.findall(r"`(\w+)`", refused)) >= set(CAPABILITIES[name].syscalls), name
