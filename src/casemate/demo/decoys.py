"""What the stand-in agent is let loose on: secrets, neighbours, listeners and a process, all false.

Everything lies below one temporary directory or on the loopback interface, and is gone at the end.
"""

from __future__ import annotations

import os
import secrets
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from casemate.demo.attempts import ATTEMPTS, TRAPS

VARIABLE = "DEMO_API_TOKEN"

BASE_MAX = 48
"""Bytes of the longest temporary directory that leaves room for the names below it."""


@dataclass(frozen=True, slots=True)
class Caps:
    """Bytes and files in the layer, and processes. An attack goes for a quarter more."""

    disk: int
    files: int
    processes: int


SMALL = Caps(24 << 20, 1500, 80)
ROOMY = Caps(256 << 20, 20_000, 512)
"""Enough for the tests of most projects."""

_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n"
_SLEEP = "import time; time.sleep(120)"


class Decoys:
    """The stage. `home` is the false home directory, `directory` holds it and the projects."""

    def __init__(self, python: str) -> None:
        self.python = python
        # The name of a unix socket in it holds 107 bytes at most. unix(7)
        base = tempfile.gettempdir() if len(tempfile.gettempdir()) < BASE_MAX else "/tmp"
        self.directory = os.path.realpath(tempfile.mkdtemp(prefix="casemate-demo-", dir=base))
        self.home = os.path.join(self.directory, "home")
        self.neighbour = os.path.join(self.directory, "neighbour")
        self.mark = f"casemate-demo-{secrets.token_hex(8)}"
        names = [attempt.name for attempt in ATTEMPTS if attempt.proof == "secret"]
        self.secrets = {name: f"{name}-{secrets.token_hex(8)}" for name in names}
        self.decoy_name = f"{self.mark}-decoy"
        self.straggler_name = f"{self.mark}-straggler"
        self._decoy: subprocess.Popen[bytes] | None = None
        self._listeners: Listeners | None = None

    def __enter__(self) -> Self:
        for directory in (".ssh", ".aws"):
            os.makedirs(os.path.join(self.home, directory), mode=0o700)
        os.mkdir(self.neighbour)
        self._write(self.home, ".ssh/id_ed25519", _KEY.format(self.secrets["ssh_key"]))
        credentials = f"[default]\naws_secret_access_key = {self.secrets['cloud_credentials']}\n"
        self._write(self.home, ".aws/credentials", credentials)
        self._listeners = Listeners(os.path.join(self.home, ".agent.sock"), self.mark)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill_stragglers()
        self._end_decoy()
        if self._listeners is not None:
            self._listeners.close()

    def remove(self) -> None:
        """Deletes the temporary directory."""
        shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of the caller on this stage: its home and its secret."""
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}
        own = {"HOME": self.home, VARIABLE: self.secrets["caller_environment"]}
        return kept | own | {"PYTHONDONTWRITEBYTECODE": "1"}

    def reset(self, project: str) -> None:
        """Puts everything back that an attack may have used up, and plants the project's secret."""
        self._write(project, ".env", f"TOKEN={self.secrets['project_secrets']}\n")
        self._write(self.home, ".bashrc", "# nothing yet\n")
        self._write(self.neighbour, "notes.txt", f"{self.secrets['neighbour_read']}\n")
        if self._listeners is not None:
            self._listeners.seen.clear()
        self._end_decoy()
        self._decoy = subprocess.Popen(
            [self.python, "-I", "-S", "-c", _SLEEP, self.decoy_name, self.secrets["process_list"]],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def targets(self, project: str, caps: Caps) -> dict[str, object]:
        """What the agent is told of the decoys, and how much to ask for."""
        assert self._listeners is not None and self._decoy is not None
        return self._listeners.addresses | {
            "home": self.home,
            "project": project,
            "neighbour": self.neighbour,
            "mark": self.mark,
            "secret": self.mark.rpartition("-")[2],
            "variable": VARIABLE,
            "decoy": self._decoy.pid,
            "decoy_name": self.decoy_name,
            "straggler_name": self.straggler_name,
            "bytes": caps.disk * 5 // 4,
            "files": caps.files * 5 // 4,
            "processes": caps.processes * 5 // 4,
        }

    def traces(self, project: str) -> dict[str, bool]:
        """What can be seen from outside of the attempts since `reset`, traps and end excepted."""
        assert self._listeners is not None and self._decoy is not None
        self._listeners.settle()
        found = {name: name in self._listeners.seen for name in LISTENING}
        found["process_kill"] = self._decoy.poll() is not None
        found["shell_startup"] = self._marked(self.home, ".bashrc")
        found["neighbour_write"] = self._marked(self.neighbour, "notes.txt")
        return found

    def traps(self, project: str) -> dict[str, bool]:
        """Which of the traps lie in the project: files with the agent's text, links to the home."""
        return {name: self._is_trap(os.path.join(project, path)) for name, path in TRAPS.items()}

    def _is_trap(self, path: str) -> bool:
        try:
            if os.path.islink(path):
                return os.readlink(path).startswith(self.home)
            with open(path, errors="replace") as file:
                return self.mark in file.read()
        except OSError:
            return False

    def stragglers(self) -> list[int]:
        """Process ids, on the host, of what the agent left running."""
        return _processes_named(self.straggler_name)

    def kill_stragglers(self) -> None:
        """Ends what an attack without a sandbox left running."""
        for process in self.stragglers():
            os.kill(process, signal.SIGKILL)

    def _end_decoy(self) -> None:
        if self._decoy is not None:
            self._decoy.kill()
            self._decoy.wait()

    def _marked(self, directory: str, name: str) -> bool:
        with open(os.path.join(directory, name)) as file:
            return self.mark in file.read()

    @staticmethod
    def _write(directory: str, name: str, text: str) -> None:
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)
        os.chmod(os.path.join(directory, name), 0o600)


def _processes_named(word: str) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                if word.encode() in file.read().split(b"\0"):
                    found.append(int(name))
        except OSError:
            continue
    return found


LISTENING = ("host_loopback", "direct_address", "dns_tunnel", "abstract_socket", "named_socket")


class Listeners:
    """Sockets of the host that note who reached them, served by a thread. unix(7), ip(7)

    `seen` holds the names of the attempts that arrived; `addresses` tells where they listen.
    """

    def __init__(self, path: str, mark: str) -> None:
        self.seen: set[str] = set()
        self._mark = mark
        own = own_address()
        stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
        self._sockets = {
            "host_loopback": _bound(socket.AF_INET, stream, ("127.0.0.1", 0)),
            "direct_address": _bound(socket.AF_INET, stream, (own, 0)),
            "dns_tunnel": _bound(socket.AF_INET, datagram, ("127.0.0.1", 0)),
            "abstract_socket": _bound(socket.AF_UNIX, stream, f"\0{mark}"),
            "named_socket": _bound(socket.AF_UNIX, stream, path),
        }
        self.addresses: dict[str, object] = {
            "tcp": self._sockets["host_loopback"].getsockname()[1],
            "direct": self._sockets["direct_address"].getsockname(),
            "dns": self._sockets["dns_tunnel"].getsockname()[1],
            "abstract": mark,
            "socket": path,
        }
        self._own = own
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def settle(self) -> None:
        """Returns when everything that had arrived before is in `seen`."""
        self._waker.send(b".")
        self._waker.recv(1)

    def close(self) -> None:
        """Stops the thread and closes all sockets."""
        self._waker.shutdown(socket.SHUT_WR)
        self._thread.join()
        for listening in (*self._sockets.values(), self._wake, self._waker):
            listening.close()

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            for name, listening in self._sockets.items():
                selector.register(listening, selectors.EVENT_READ, name)
            selector.register(self._wake, selectors.EVENT_READ, "")
            while True:
                ready = [key.data for key, _ in selector.select()]
                for name in filter(None, ready):
                    self._take(name)
                if "" in ready:
                    if not self._wake.recv(1):
                        return
                    self._wake.send(b".")

    def _take(self, name: str) -> None:
        listening = self._sockets[name]
        try:
            if name == "dns_tunnel":
                query, sender = listening.recvfrom(512)
                if self._mark.rpartition("-")[2].encode() in query:
                    self.seen.add(name)
                listening.sendto(query[:2] + b"\x81\x83" + query[4:], sender)
                return
            connection, peer = listening.accept()
            with connection:
                # Another machine may try this address in these seconds; it is not the agent.
                if name == "direct_address" and peer[0] != self._own:
                    return
                self.seen.add(name)
                connection.send(self._mark.encode())
        except OSError:
            return


def own_address() -> str:
    """An address of this machine that is not loopback's, or else another one of loopback's.

    Connecting a datagram socket looks up the route and sends nothing. connect(2)
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.2"


def _bound(family: int, kind: int, address: object) -> socket.socket:
    bound = socket.socket(family, kind)
    bound.bind(address)  # type: ignore[arg-type]
    bound.setblocking(False)
    if kind == socket.SOCK_STREAM:
        bound.listen(8)
    return bound
