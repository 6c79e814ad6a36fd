"""Promise: the kernel's dangerous doors are shut, and its switches cannot be moved."""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from tests.security.arena import ATTACKS, Arena, attack, python, shell

MODES = pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
WRITABLE = pytest.mark.parametrize("mode", ["overlay", "direct"])


@MODES
def test_e37_kernel_switches(arena: Arena, mode: str) -> None:
    """No setting of the kernel, no trigger, control group or device node can be written or made."""
    bare = arena.bare(attack("kernel_files")).json
    inside = arena.inside(attack("kernel_files"), mode=mode).json

    if os.getuid() == 0:
        assert {"/proc/sys/kernel/core_pattern", "mknod null in ."} <= {*bare}
    assert "/proc/kallsyms" in bare
    # Its addresses are zeros to a reader without privilege.
    assert {*inside} <= {"/proc/kallsyms"}


def test_e37_kernel_addresses(arena: Arena) -> None:
    """The kernel's symbols carry no addresses."""
    inside = arena.inside(
        shell("cut -d' ' -f1 /proc/kallsyms 2>/dev/null | tr -d 0 | sort -u | tr -d '\\n'")
    )

    assert inside.out == ""


def test_e38_system_calls(arena: Arena) -> None:
    """io_uring, bpf, perf, userfaultfd, keyrings, namespaces, mounts, tracing, handles, clocks and
    calls that nobody has judged are refused."""
    bare = arena.bare(attack("calls")).json
    inside = arena.inside(attack("calls")).json

    assert {"io_uring_setup", "add_key", "unshare user", "ptrace", "pidfd_getfd", "kcmp"} <= {*bare}
    assert inside == []


@pytest.mark.needs("gcc")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="an entry that only x86_64 has")
def test_e38_entry_of_another_architecture(arena: Arena) -> None:
    """A call through the 32-bit entry, where numbers mean other calls, ends the program."""
    program = arena.project / "int80"
    build: list[str | Path] = ["gcc", "-w", "-o", program, ATTACKS / "int80.c"]
    subprocess.run(build, check=True)
    target = arena.project / "README.md"

    bare = arena.bare([program, target])
    inside = arena.inside([program, target])

    if bare.out != "opened\n":
        pytest.skip("this kernel has no 32-bit entry")
    assert inside.out == ""
    assert inside.status == 128 + 31


def test_no_privilege_is_held(arena: Arena) -> None:
    """The command has no capability, can gain none, and is under the filter; by root too."""
    inside = arena.inside(shell("grep -E 'Cap|NoNewPrivs|Seccomp:|Uid|Groups' /proc/self/status"))
    status = dict(line.split(":", 1) for line in inside.out.splitlines())

    assert {int(status[name], 16) for name in status if name.startswith("Cap")} == {0}
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    assert "0" not in status["Uid"].split()
    assert status["Groups"].strip() in ("", status["Uid"].split()[0], "65534")


def test_root_is_not_root(arena: Arena) -> None:
    """On the host the command runs as nobody who owns anything, even when root started it."""
    if os.getuid() != 0:
        pytest.skip("the tests do not run as root")
    with arena.started(shell("echo ready; read x")) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        supervisor = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pending, seen = [*supervisor], []
        while pending:
            pid = pending.pop()
            uid = Path(f"/proc/{pid}").stat().st_uid
            status = Path(f"/proc/{pid}/status").read_text()
            seen.append(int(status.split("Uid:")[1].split()[0]))
            pending += Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            assert uid >= 0
        assert process.stdin is not None
        process.stdin.close()

    # The keeper is root and takes no word from inside; everything below it is a stranger.
    assert len(seen) >= 3
    assert all(uid >= 0x70000000 for uid in seen[1:])


SETUID = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def tried(action):
    try: action()
    except OSError: pass
open("tool", "w").close()
tried(lambda: os.chmod("tool", 0o6777))
tried(lambda: os.close(os.open("opened", os.O_CREAT | os.O_WRONLY, 0o6777)))
tried(lambda: os.mkdir("group", 0o2777))
tried(lambda: os.chmod("group", 0o2777))
tried(lambda: libc.syscall(452, -100, b"tool", 0o6777, 0))
descriptor = os.open("tool", os.O_RDWR)
tried(lambda: os.fchmod(descriptor, 0o6777))
tried(lambda: os.mknod("node", 0o106777))
tried(lambda: libc.syscall(437, -100, b"how", (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o6777, 0), 24))
tried(lambda: os.setxattr("tool", "security.capability", bytes.fromhex("0100000200ffffff0000000000000000") + bytes(4)))
os.umask(0)
tried(lambda: os.chmod(".", 0o2777))
"""


@WRITABLE
def test_e44_setuid_bits(arena: Arena, mode: str) -> None:
    """No file or directory that belongs to the user gets a setuid or setgid bit or a capability."""

    def run(inside: bool) -> list[str]:
        arena.renew()
        _ = arena.inside(python(SETUID), mode=mode) if inside else arena.bare(python(SETUID))
        found = [
            path
            for path in (arena.project, *arena.project.rglob("*"))
            if path.lstat().st_mode & (stat.S_ISUID | stat.S_ISGID)
        ]
        found += [
            path
            for path in arena.project.rglob("*")
            if path.is_file() and "security.capability" in os.listxattr(path)
        ]
        arena.project.chmod(0o755)
        return sorted(path.name for path in found)

    assert {"tool", "opened", "group"} <= {*run(inside=False)}
    assert run(inside=True) == []


@WRITABLE
def test_e44_setuid_programs_gain_nothing(arena: Arena, mode: str) -> None:
    """Programs with setuid bits, in the system and in the project, run without them."""
    if os.getuid() == 0:
        owner = arena.project / "root-id"
        shutil.copy(shutil.which("id") or "/usr/bin/id", owner)
        owner.chmod(0o4755)
        inside = arena.inside(["./root-id", "-u"], mode=mode)
        assert inside.out.strip() != "0"
    inside = arena.inside(
        shell(
            "grep NoNewPrivs /proc/self/status; findmnt -n -o OPTIONS . 2>/dev/null; "
            'grep " $PWD " /proc/self/mounts'
        ),
        mode=mode,
    )

    assert "NoNewPrivs:\t1" in inside.out
    assert "nosuid" in inside.out and "nodev" in inside.out


def test_e44_a_file_given_as_output(arena: Arena) -> None:
    """A file that the caller gave as output does not come back as a setuid program of the caller's."""

    def run(inside: bool) -> int:
        output = arena.outside / "output"
        output.write_bytes(b"")
        output.chmod(0o600)
        change = python("import os; print('#!/bin/sh', flush=True); os.fchmod(1, 0o6777)")
        with output.open("wb") as stream:
            _ = (arena.inside if inside else arena.bare)(change, stdout=stream)
        return stat.S_IMODE(output.stat().st_mode)

    assert run(inside=False) & 0o6000
    assert not run(inside=True) & 0o6000


WHITEOUT = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
open("victim", "w").close()
libc.syscall(316, -100, b"victim", -100, b"moved", 4)
try: os.mknod("node", 0o020000, 0)
except OSError: pass
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of renameat2 differs")
def test_whiteouts_in_direct_mode(arena: Arena) -> None:
    """No device node, such as an overlay's mark of deletion, is left in the project."""

    def devices() -> list[str]:
        return [path.name for path in arena.project.iterdir() if stat.S_ISCHR(path.lstat().st_mode)]

    arena.bare(python(WHITEOUT))
    bare = devices()
    arena.renew()
    arena.inside(python(WHITEOUT), mode="direct")

    assert bare
    assert devices() == []
