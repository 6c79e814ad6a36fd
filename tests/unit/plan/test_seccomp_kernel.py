"""The filter in the running kernel: real loads, real errnos, real programs."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from casemate.plan.capabilities import CLONE_NEW
from casemate.plan.seccomp import CAPABILITIES, compile_filter
from casemate.plan.syscalls import number

MACHINE = platform.machine()
if sys.platform != "linux" or MACHINE not in ("x86_64", "aarch64"):
    pytest.skip("needs Linux on x86_64 or aarch64", allow_module_level=True)

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
AT_FDCWD = -100
CLONE_NEWUSER, CLONE_FS = 0x10000000, 0x200
LIBC = ctypes.CDLL(None, use_errno=True)
ALL = tuple(CAPABILITIES)
WHOLE = {
    name: refusal.errno
    for capability in CAPABILITIES.values()
    for refusal in capability.refusals
    for name in refusal.syscalls
    if not refusal.conditions
}
STRICTEST = compile_filter(MACHINE, (), direct=True, pin_cpus=True)


class Program(ctypes.Structure):
    """struct sock_fprog"""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load(code: bytes) -> None:
    """Puts this process under the filter, for good."""
    program = Program(len(code) // 8, code)
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if LIBC.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def call(place: int, *arguments: int) -> int:
    """One raw system call: its result, or its errno as a negative number."""
    result = LIBC.syscall(ctypes.c_long(place), *(ctypes.c_ulong(item) for item in arguments))
    return -ctypes.get_errno() if result == -1 else int(result)


def in_child(action: Callable[[], int], code: bytes = b"") -> int | signal.Signals:
    """What `action` returns in a child process under a filter, or the signal that ended it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if code:
                load(code)
            os.write(writer, struct.pack("<q", action()))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status))
    return int(struct.unpack("<q", answer)[0])


UPPER = 1 << 32
REFUSED: list[tuple[str, tuple[int, ...], int]] = [
    ("io_uring_setup", (0, 0), errno.ENOSYS),
    ("keyctl", (0xFFFF,), errno.ENOSYS),
    ("perf_event_open", (0, 0, 0, 0, 0), errno.EPERM),
    ("unshare", (0,), errno.EPERM),
    ("setns", (-1, 0), errno.EPERM),
    ("clone", (CLONE_NEWUSER | CLONE_FS, 0, 0, 0, 0), errno.EPERM),
    ("clone", (UPPER | CLONE_NEWUSER | CLONE_FS, 0, 0, 0, 0), errno.EPERM),
    ("clone3", (0, 0), errno.ENOSYS),
    ("mount", (0, 0, 0, 0, 0), errno.EPERM),
    ("umount2", (0, 0xFFFF), errno.EPERM),
    ("open_tree", (AT_FDCWD, 0, 0), errno.EPERM),
    ("chroot", (0,), errno.EPERM),
    ("ptrace", (0, 0, 0, 0), errno.EPERM),
    ("process_vm_readv", (0, 0, 0, 0, 0, 0), errno.EPERM),
    ("pidfd_getfd", (-1, -1, 0), errno.EPERM),
    ("clock_settime", (0, 0), errno.EPERM),
    ("modify_ldt", (0, 0, 0), errno.ENOSYS),
    ("ioctl", (-1, 0x5412, 0), errno.EPERM),
    ("ioctl", (-1, UPPER | 0x5412, 0), errno.EPERM),
    ("mknodat", (AT_FDCWD, 0, 0o20644, 0), errno.EPERM),
    ("mknodat", (AT_FDCWD, 0, UPPER | 0o60644, 0), errno.EPERM),
    ("socketpair", (2, 1, 0, 0), errno.EAFNOSUPPORT),
    ("socket", (2, 1, 262), errno.EPROTONOSUPPORT),
    ("socket", (16, 3, 15), errno.EPROTONOSUPPORT),
    ("socket", (UPPER | 16, UPPER | 3, UPPER | 15), errno.EPROTONOSUPPORT),
    ("socket", (2, 3, 1), errno.EPERM),
    ("socket", (17, 3, 0), errno.EPERM),
    ("socket", (38, 5, 0), errno.EAFNOSUPPORT),
    ("socket", (40, 1, 0), errno.EAFNOSUPPORT),
    ("chmod", (0, 0o4755), errno.EPERM),
    ("fchmodat", (AT_FDCWD, 0, 0o2755), errno.EPERM),
    ("openat", (AT_FDCWD, 0, os.O_CREAT, 0o4755), errno.EPERM),
    ("openat2", (AT_FDCWD, 0, 0, 0), errno.ENOSYS),
    ("sched_setaffinity", (0, 0, 0), errno.EPERM),
]
"""Calls that the kernel answers in another way when it gets to see them."""


@pytest.mark.parametrize(("name", "arguments", "expected"), REFUSED)
def test_refused_with_the_stated_errno(
    name: str, arguments: tuple[int, ...], expected: int
) -> None:
    """The kernel's own answer without the filter; the filter's errno with it."""
    place = number(MACHINE, name)
    if place is None:
        pytest.skip(f"{MACHINE} has no {name}")
    without = in_child(lambda: call(place, *arguments))
    if without == -expected:
        pytest.skip(f"this kernel refuses {name} by itself")

    assert in_child(lambda: call(place, *arguments), STRICTEST) == -expected


def test_each_capability_given_back_reaches_the_kernel() -> None:
    """With every capability allowed the kernel answers as without a filter."""
    code = compile_filter(MACHINE, ALL, direct=False, pin_cpus=False)
    for name, arguments, _ in REFUSED:
        place = number(MACHINE, name)
        if place is not None:
            without = in_child(lambda p=place, a=arguments: call(p, *a))  # type: ignore[misc]
            within = in_child(lambda p=place, a=arguments: call(p, *a), code)  # type: ignore[misc]
            assert without == within, name


def test_ordinary_sockets_work() -> None:
    """Unix, internet and route sockets open under the filter, as getifaddrs needs them."""
    place = number(MACHINE, "socket")
    assert place is not None
    for family, kind in ((1, 1), (1, 0x80002), (2, 0x80801), (2, 2), (16, 0x80003)):
        result = in_child(lambda f=family, k=kind: call(place, f, k, 0), STRICTEST)  # type: ignore[misc]
        assert isinstance(result, int) and result >= 0, (family, kind)


def test_plain_modes_work(tmp_path: Path) -> None:
    """Files, directories, pipes and mode changes without set-ID bits work in direct mode."""
    path = str(tmp_path / "file")

    def work() -> int:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
        os.chmod(path, 0o1755)
        os.mkfifo(path + ".pipe")
        os.mkdir(path + ".directory", 0o1777)
        # The mode register is noise where open does not read it.
        place = number(MACHINE, "openat")
        assert place is not None
        name = ctypes.create_string_buffer(path.encode())
        return min(0, call(place, AT_FDCWD, ctypes.addressof(name), os.O_RDONLY, 0o7777))

    assert in_child(work, STRICTEST) == 0


def test_set_id_bits_cannot_be_set_in_direct_mode(tmp_path: Path) -> None:
    """A set-user-ID file can be made without the filter and in no way with it."""
    path = str(tmp_path / "file")
    ways: list[Callable[[], object]] = [
        lambda: os.chmod(path, 0o4755),
        lambda: os.fchmod(os.open(path, os.O_RDONLY), 0o2755),
        lambda: os.close(os.open(path + ".new", os.O_CREAT | os.O_WRONLY, 0o4755)),
        lambda: os.close(os.open(str(tmp_path), os.O_TMPFILE | os.O_WRONLY, 0o4755)),
        lambda: os.mknod(path + ".node", 0o104755),
    ]

    def outcome(way: Callable[[], object]) -> int:
        try:
            way()
        except OSError as error:
            return error.errno or -1
        return 0

    for way in ways:
        for leftover in tmp_path.iterdir():
            leftover.unlink()
        Path(path).touch()
        assert in_child(lambda w=way: outcome(w)) == 0  # type: ignore[misc]
        for leftover in tmp_path.glob("file.*"):
            leftover.unlink()
        Path(path).chmod(0o644)
        assert in_child(lambda w=way: outcome(w), STRICTEST) == errno.EPERM  # type: ignore[misc]
        assert all(not item.stat().st_mode & 0o6000 for item in tmp_path.iterdir())


def test_terminal_input_cannot_be_faked() -> None:
    """TIOCSTI works on one's own terminal without the filter, not even disguised with it."""
    place = number(MACHINE, "ioctl")
    assert place is not None

    def inject(request: int) -> int:
        os.setsid()
        _, terminal = pty.openpty()
        LIBC.ioctl(terminal, termios.TIOCSCTTY, 0)
        key = ctypes.create_string_buffer(b"x")
        return call(place, terminal, request, ctypes.addressof(key))

    disguised = UPPER | termios.TIOCSTI
    if in_child(lambda: inject(disguised)) != 0:
        pytest.skip("this kernel has TIOCSTI switched off")

    assert in_child(lambda: inject(termios.TIOCSTI), STRICTEST) == -errno.EPERM
    assert in_child(lambda: inject(disguised), STRICTEST) == -errno.EPERM


@pytest.mark.skipif(MACHINE != "x86_64", reason="x86_64 has the i386 entry")
def test_the_i386_entry_kills() -> None:
    """`int 0x80` reaches the kernel without the filter and ends the process with it."""

    def getpid() -> int:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(bytes.fromhex("b814000000 cd80 c3"))  # mov eax, 20; int 0x80; ret
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)()) - os.getpid()

    if in_child(getpid) != 0:
        pytest.skip("this kernel has no i386 entry")

    assert in_child(getpid, STRICTEST) == signal.SIGSYS


@pytest.mark.skipif(MACHINE != "x86_64", reason="x86_64 has x32 numbers")
def test_x32_numbers_do_not_exist() -> None:
    """getpid by its x32 number is answered with ENOSYS whether or not the kernel has x32."""
    assert in_child(lambda: call(0x40000000 | 39), STRICTEST) == -errno.ENOSYS
    assert in_child(lambda: min(0, call(39)), STRICTEST) == 0


def test_children_cannot_shed_the_filter() -> None:
    """A fork and a second, permissive filter on top change nothing."""
    everything = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
    place = number(MACHINE, "unshare")
    assert place is not None

    def work() -> int:
        load(everything)
        result = in_child(lambda: call(place, CLONE_NEW))
        return int(result)

    assert in_child(work, STRICTEST) == -errno.EPERM


def run(directory: Path, *command: str) -> str:
    """The output of a program under the strictest filter."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "xterm"}
    done = subprocess.run(
        command,
        check=False,
        cwd=directory,
        env=environment,
        preexec_fn=lambda: load(STRICTEST),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
    )
    output = done.stdout.decode(errors="replace")
    assert done.returncode == 0, output
    return output


def require(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        pytest.skip(f"needs {program}")
    return path


def test_git_works(tmp_path: Path) -> None:
    """A repository can be made, committed to and repacked."""
    git = require("git")
    (tmp_path / "file").write_text("content")
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for arguments in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "First"), ("gc",)):
        run(tmp_path, git, *arguments)

    assert "First" in run(tmp_path, git, "log", "--oneline")


def test_python_multiprocessing_works(tmp_path: Path) -> None:
    """Pools by fork and by spawn, threads and shell commands work."""
    script = tmp_path / "pools.py"
    script.write_text(
        "import multiprocessing, subprocess, threading\n"
        "if __name__ == '__main__':\n"
        "    for method in ('fork', 'spawn', 'forkserver'):\n"
        "        with multiprocessing.get_context(method).Pool(2) as pool:\n"
        "            assert pool.map(abs, [-1, -2]) == [1, 2]\n"
        "    thread = threading.Thread(target=print, args=('thread',))\n"
        "    thread.start(); thread.join()\n"
        "    print(subprocess.run(['sh', '-c', 'echo shell'], capture_output=True).stdout)\n"
    )
    output = run(tmp_path, sys.executable, str(script))

    assert "thread" in output and "shell" in output


def test_node_works(tmp_path: Path) -> None:
    """Files, worker threads, child processes, loopback and interface listings work."""
    script = tmp_path / "all.js"
    script.write_text(
        "const {Worker} = require('worker_threads'), fs = require('fs'), net = require('net');\n"
        "fs.promises.writeFile('out', 'x').then(() => fs.promises.readFile('out')).then(() => {\n"
        "  require('os').networkInterfaces();\n"
        "  console.log(require('child_process').execSync('echo child').toString());\n"
        "  new Worker('console.log(\"worker\")', {eval: true}).on('exit', () => {\n"
        "    const server = net.createServer(s => s.end('served')).listen(0, '127.0.0.1', () =>\n"
        "      net.connect(server.address().port, '127.0.0.1')\n"
        "        .on('data', d => console.log(`${d}`)).on('close', () => server.close()));\n"
        "  });\n"
        "});\n"
    )
    output = run(tmp_path, require("node"), str(script))

    assert all(word in output for word in ("child", "worker", "served"))


def test_tmux_works(tmp_path: Path) -> None:
    """A terminal multiplexer opens a terminal and runs a shell in it."""
    tmux = (require("tmux"), "-S", str(tmp_path / "socket"), "-f", "/dev/null")
    inside = f"tty > {tmp_path}/out; {' '.join(tmux)} wait-for -S done; sleep 60"
    try:
        run(tmp_path, *tmux, "new-session", "-d", inside)
        run(tmp_path, *tmux, "wait-for", "done")
    finally:
        run(tmp_path, *tmux, "kill-server")

    assert (tmp_path / "out").read_text().startswith("/dev/pts/")


def test_every_whole_refusal_is_refused_by_the_kernel() -> None:
    """The loaded filter agrees with its table for every call refused whatever its arguments."""
    for name, refusal in WHOLE.items():
        place = number(MACHINE, name)
        if place is not None:
            result = in_child(lambda p=place: call(p, 0, 0, 0, 0, 0, 0), STRICTEST)  # type: ignore[misc]
            assert result == -refusal, name
