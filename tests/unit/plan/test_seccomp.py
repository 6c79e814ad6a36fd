"""The system call filter: against a plain model, against the headers, and loaded for real."""

from __future__ import annotations

import errno
import os
import platform
import re
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from casemate.errors import PolicyError
from casemate.plan.seccomp import ALLOW, KILL_PROCESS, compile_filter
from casemate.plan.syscalls import CAPABILITIES, LAST, Architecture, numbers
from casemate.policy.model import KERNEL_CAPABILITIES

AUDIT_ARCH: dict[Architecture, int] = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ARCHITECTURES: list[Architecture] = ["x86_64", "aarch64"]


def run(program: bytes, arch: int, number: int, arguments: tuple[int, ...]) -> int:
    """Interpret a classic BPF program over struct seccomp_data, as the kernel would."""
    data = struct.pack("<IIQ6Q", number, arch, 0, *arguments)
    instructions = list(struct.iter_unpack("<HBBI", program))
    accumulator, position = 0, 0
    while True:
        code, yes, no, k = instructions[position]
        position += 1
        if code == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif code == 0x54:
            accumulator &= k
        elif code == 0x06:
            return int(k)
        elif code == 0x05:
            position += k
        elif code in (0x15, 0x35, 0x45):
            taken = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}
            position += yes if taken[code] else no
        else:
            raise AssertionError(f"instruction {code:#x}")


def fail(code: int) -> int:
    return 0x50000 | code


def expected(
    architecture: Architecture,
    arch: int,
    number: int,
    raw: tuple[int, ...],
    allow: tuple[str, ...],
    direct: bool,
    pin_cpus: bool,
) -> int:
    """The same policy, written as plainly as can be."""
    if arch != AUDIT_ARCH[architecture]:
        return KILL_PROCESS
    if number > LAST[architecture]:
        return fail(errno.ENOSYS)
    names = {found: name for name, found in numbers(architecture).items()}
    name = names.get(number, "")
    a = [argument & 0xFFFFFFFF for argument in raw]
    for capability, group in CAPABILITIES.items():
        if name in group.calls and capability not in allow:
            return fail(group.errno)
    if name == "clone" and "namespaces" not in allow and a[0] & 0x7E020000:
        return fail(errno.EPERM)
    if name == "clone3" and "namespaces" not in allow:
        return fail(errno.ENOSYS)
    if name == "ioctl" and "terminal" not in allow and a[1] in (0x5412, 0x541C, 0x541D, 0x5423):
        return fail(errno.EPERM)
    if name == "socketpair":
        return ALLOW if a[0] == 1 else fail(errno.EAFNOSUPPORT)
    if name == "socket":
        family, kind, protocol = a[0], a[1] & 0xF, a[2]
        if family == 16:
            right = kind in (2, 3) and protocol == 0
            return ALLOW if right else fail(errno.EPROTONOSUPPORT)
        if family not in (1, 2, 10):
            return fail(errno.EAFNOSUPPORT)
        if kind not in (1, 2, 5):
            return fail(errno.EPERM)
        if family != 1 and protocol not in (0, 6, 17):
            return fail(errno.EPROTONOSUPPORT)
        return ALLOW
    mode = {"mknod": 1, "mknodat": 2, "chmod": 1, "fchmod": 1, "fchmodat": 2, "fchmodat2": 2}
    mode |= {"creat": 1, "mkdir": 1, "mkdirat": 2, "open": 2, "openat": 3}
    if name in ("mknod", "mknodat") and a[mode[name]] & 0o170000 in (0o020000, 0o060000):
        return fail(errno.EPERM)
    if direct and name == "openat2":
        return fail(errno.ENOSYS)
    if direct and name in mode and a[mode[name]] & 0o6000:
        creates = a[mode[name] - 1] & 0o20000100
        if name not in ("open", "openat") or creates:
            return fail(errno.EPERM)
    if pin_cpus and name == "sched_setaffinity":
        return fail(errno.EPERM)
    return ALLOW


INTERESTING = st.sampled_from(
    [0, 1, 2, 3, 5, 6, 10, 16, 17, 38, 40, 262, 0x5412, 0x541C, 0x541D, 0x5423, 0x80802, 0x80003]
    + [0o020600, 0o060600, 0o010600, 0o100644, 0o104755, 0o102755, 0o41, 0o100, 0o20200000]
    + [
        0x10000000,
        0x40000000,
        0x20000,
        0x80,
        0x3D0F00,
        0x1200011,
        (1 << 32) | 0x5412,
        (7 << 32) | 17,
    ]
)
ARGUMENT = st.one_of(INTERESTING, INTERESTING, st.integers(0, (1 << 64) - 1))
NUMBER = st.one_of(
    st.integers(0, 480),
    st.sampled_from(sorted({n for a in ARCHITECTURES for n in numbers(a).values()})),
    st.sampled_from([0x40000000, 0x40000001, 0x40000200, 0xFFFFFFFF, 470, 1 << 20]),
)


@given(
    st.sampled_from(ARCHITECTURES),
    st.sampled_from([*AUDIT_ARCH.values(), *AUDIT_ARCH.values(), 0x40000003, 0xC000003F]),
    NUMBER,
    st.tuples(*[ARGUMENT] * 6),
    st.lists(st.sampled_from(sorted(CAPABILITIES)), max_size=4, unique=True),
    st.booleans(),
    st.booleans(),
)
@settings(max_examples=500, deadline=None)
def test_the_filter_is_the_model(
    architecture: Architecture,
    arch: int,
    number: int,
    arguments: tuple[int, ...],
    allow: list[str],
    direct: bool,
    pin_cpus: bool,
) -> None:
    """For any call the program answers what the policy says."""
    program = compile_filter(architecture, tuple(allow), direct=direct, pin_cpus=pin_cpus)

    assert run(program, arch, number, arguments) == expected(
        architecture, arch, number, arguments, tuple(allow), direct, pin_cpus
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("direct", [False, True])
def test_every_number(architecture: Architecture, direct: bool) -> None:
    """No call in the table is missed, with arguments that are refused and ones that are not."""
    program = compile_filter(architecture, (), direct=direct, pin_cpus=True)
    arch = AUDIT_ARCH[architecture]
    for number in range(LAST[architecture] + 3):
        for arguments in ((0,) * 6, (0o26755,) * 6, (0x5412,) * 6, (1,) * 6):
            wanted = expected(architecture, arch, number, arguments, (), direct, True)
            assert run(program, arch, number, arguments) == wanted, number


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_filter_is_short(architecture: Architecture) -> None:
    """Far below the kernel's 4096 instructions, and ten comparisons deep at most."""
    program = compile_filter(architecture, (), direct=True, pin_cpus=True)
    instructions = list(struct.iter_unpack("<HBBI", program))

    assert len(instructions) < 400
    for number in range(LAST[architecture]):
        steps = 0
        position = 4
        while instructions[position][0] in (0x35, 0x05):
            code, yes, no, k = instructions[position]
            position += 1 + (k if code == 0x05 else yes if number >= k else no)
            steps += 1
        assert steps <= 10


def test_capability_names() -> None:
    """What the policy reader accepts is what the filter knows."""
    assert tuple(sorted(CAPABILITIES)) == KERNEL_CAPABILITIES
    for name in KERNEL_CAPABILITIES:
        compile_filter("x86_64", (name,), direct=False, pin_cpus=False)


def test_unknown_capability() -> None:
    """A misspelt capability is refused with the nearest."""
    with pytest.raises(PolicyError) as caught:
        compile_filter("x86_64", ("io-uring",), direct=False, pin_cpus=False)

    assert "io_uring" in caught.value.hint


def test_numbers_are_those_of_the_header() -> None:
    """The x86-64 table agrees with the system's own."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers")
    found = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    newest = max(map(int, found.values()))
    for name, number in numbers("x86_64").items():
        if number <= newest:
            assert found.get(name) == str(number), name


@pytest.mark.parametrize(("architecture", "table"), [("x86_64", "X64"), ("aarch64", "Arm64")])
def test_numbers_are_those_of_zig(architecture: Architecture, table: str) -> None:
    """Both tables agree with the ones the compiler of the supervisor brings."""
    spec = find_spec("ziglang")
    if spec is None or spec.origin is None:
        pytest.skip("the Zig wheel is not installed")
    path = Path(spec.origin).parent / "lib/std/os/linux/syscalls.zig"
    text = path.read_text().split(f"pub const {table} = enum", 1)[1].split("\n};", 1)[0]
    found = dict(re.findall(r'^ +(?:@")?(\w+)"? = (\d+),', text, re.MULTILINE))
    found |= {"umount2": found.get("umount2", found.get("umount", ""))}
    newest = max(int(number) for number in found.values() if int(number) < 100_000)
    for name, number in numbers(architecture).items():
        if number <= newest and name in found:
            assert found[name] == str(number), name
    assert len(set(numbers(architecture)) & set(found)) > 60


CHILD = """
import ctypes, errno, json, os, socket, struct, subprocess, sys
program = bytes.fromhex(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
buffer = ctypes.create_string_buffer(program, len(program))
head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, head) == 0, os.strerror(ctypes.get_errno())

def told(call, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(call, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
    return ctypes.get_errno() if result == -1 else 0

def attempt(action):
    try:
        action()
    except OSError as error:
        return error.errno
    return 0

answers = {
    "bpf": told(321, 0, 0, 0),
    "io_uring_setup": told(425, 1, 0),
    "unshare": told(272, 0x10000000),
    "clone_newuser": told(56, 0x10000011, 0, 0, 0, 0),
    "clone3": told(435, 0, 0),
    "keyctl": told(250, 0, -3, 0),
    "ptrace": told(101, 16, 0x3FFFFFFF, 0, 0),
    "mount": told(165, 0, 0, 0, 0, 0),
    "tiocsti": told(16, 0, 0x5412, b"x"),
    "tiocsti_high": told(16, 0, 0x5412 | 1 << 32, b"x"),
    "tioclinux": told(16, 0, 0x541C, b"x"),
    "fionread": told(16, 99, 0x541B, b"xxxxxxxx"),
    "vsock": attempt(lambda: socket.socket(40, socket.SOCK_STREAM)),
    "raw": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)),
    "mptcp": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)),
    "audit": attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)),
    "route": attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0).close()),
    "tcp": attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close()),
    "unix": attempt(lambda: [s.close() for s in socket.socketpair()]),
    "mknod": attempt(lambda: os.mknod("device", 0o020600, 0)),
    "fifo": attempt(lambda: os.mkfifo("fifo")),
    "file": attempt(lambda: os.close(os.open("plain", os.O_CREAT | os.O_WRONLY, 0o644))),
    "setuid_open": attempt(lambda: os.close(os.open("x", os.O_CREAT | os.O_WRONLY, 0o4755))),
    "setuid_chmod": attempt(lambda: os.chmod("plain", 0o4755)),
    "setuid_mknod": attempt(lambda: os.mknod("y", 0o104755)),
    "chmod": attempt(lambda: os.chmod("plain", 0o755)),
    "openat2": told(437, -100, b".", b"x" * 24, 24),
    "affinity": attempt(lambda: os.sched_setaffinity(0, {0})),
    "newest": told(470),
    "x32": told(0x40000000 | 39),
    "programs": subprocess.run(["/bin/sh", "-c", "echo a | cat; ls / >/dev/null"],
                               capture_output=True).stdout.decode(),
    "threads": __import__("concurrent.futures").futures.ThreadPoolExecutor(4).submit(lambda: 7).result(),
}
print(json.dumps(answers))
"""


def load(tmp_path: Path, allow: tuple[str, ...] = (), direct: bool = True) -> dict[str, object]:
    """What a child process under the filter was told."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        pytest.skip("the child speaks x86-64 Linux")
    import json

    program = compile_filter("x86_64", allow, direct=direct, pin_cpus=direct)
    done = subprocess.run(
        [sys.executable, "-I", "-c", CHILD, program.hex()],
        cwd=tmp_path,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    answers: dict[str, object] = json.loads(done.stdout)
    return answers


def test_loaded_for_real(tmp_path: Path) -> None:
    """The kernel takes the filter, refuses what it should, and programs and threads run."""
    assert load(tmp_path) == {
        "bpf": errno.EPERM,
        "io_uring_setup": errno.ENOSYS,
        "unshare": errno.EPERM,
        "clone_newuser": errno.EPERM,
        "clone3": errno.ENOSYS,
        "keyctl": errno.EPERM,
        "ptrace": errno.EPERM,
        "mount": errno.EPERM,
        "tiocsti": errno.EPERM,
        "tiocsti_high": errno.EPERM,
        "tioclinux": errno.EPERM,
        "fionread": errno.EBADF,
        "vsock": errno.EAFNOSUPPORT,
        "raw": errno.EPERM,
        "mptcp": errno.EPROTONOSUPPORT,
        "audit": errno.EPROTONOSUPPORT,
        "route": 0,
        "tcp": 0,
        "unix": 0,
        "mknod": errno.EPERM,
        "fifo": 0,
        "file": 0,
        "setuid_open": errno.EPERM,
        "setuid_chmod": errno.EPERM,
        "setuid_mknod": errno.EPERM,
        "chmod": 0,
        "openat2": errno.ENOSYS,
        "affinity": errno.EPERM,
        "newest": errno.ENOSYS,
        "x32": errno.ENOSYS,
        "programs": "a\n",
        "threads": 7,
    }
    assert not (tmp_path / "x").exists()


def test_given_back(tmp_path: Path) -> None:
    """What the policy gives back reaches the kernel again; the rest stays refused."""
    answers = load(tmp_path, ("keyring", "ptrace"), direct=False)

    # The calls are malformed on purpose: any answer but the filter's shows they got through.
    assert answers["keyctl"] != errno.EPERM
    assert answers["ptrace"] == errno.ESRCH
    assert answers["setuid_chmod"] == 0
    assert answers["affinity"] == 0
    assert answers["bpf"] == errno.EPERM
    assert os.stat(tmp_path / "plain").st_mode & 0o777 == 0o755


def test_foreign_architecture_is_killed() -> None:
    """A 32-bit call is not answered but ends the process."""
    program = compile_filter("x86_64", tuple(CAPABILITIES), direct=False, pin_cpus=False)

    assert run(program, 0x40000003, 1, (0,) * 6) == KILL_PROCESS
