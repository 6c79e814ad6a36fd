"""The way to the broker, for whoever opens a sandbox. On the start-up path of `casemate run`.

Starts the broker where none is there. The door is made here and handed to it, so that a
registration waits in it until the broker has come up, and the sandbox does not wait at all.
"""

from __future__ import annotations

import fcntl
import os
import sys
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket

from casemate.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

BACKLOG = 512
FRAME_MAX = 8 << 20
DESCRIPTORS_MAX = 128
"""Sent with one frame: below the kernel's 253. unix(7)"""
ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "CASEMATE_BROKER_IDLE")
"""What the broker is given of the caller's variables: where certificates are, and for tests."""


_started: list[int] = []
"""Brokers that are children of this process."""


class Link:
    """A sandbox's registration at the broker: while it is open, the sandbox has a network."""

    __slots__ = ("_answer", "_connection")

    def __init__(self, connection: socket) -> None:
        self._connection = connection
        self._answer = ""

    def certificate(self) -> bytes:
        """The session's certificate authority in PEM. Waits for the broker.

        Raises `SandboxError` where the broker refuses or is gone.
        """
        return _field(self._ready(), "certificate").replace("\\n", "\n").encode("ascii")

    def attach(self, listeners: Sequence[tuple[str, int]]) -> None:
        """Hand over the listeners of a sandbox: kind and descriptor, which is closed here."""
        try:
            for start in range(0, len(listeners), DESCRIPTORS_MAX):
                batch = listeners[start : start + DESCRIPTORS_MAX]
                items = ",".join([f'{{"kind":"{kind}"}}' for kind, _ in batch])
                self._send(f'{{"listeners":[{items}]}}', [descriptor for _, descriptor in batch])
        finally:
            for _, descriptor in listeners:
                os.close(descriptor)

    def finish(self) -> dict[str, Any]:
        """End the session's network and get what there is to tell. {} where the broker is gone."""
        import json

        try:
            self._ready()
            self._send('{"finish":true}')
            answer = json.loads(self._receive())
        except (SandboxError, ValueError) as error:
            return {"error": str(error)}
        finally:
            self._connection.close()
        summary = answer.get("summary")
        return summary if isinstance(summary, dict) else {"error": str(answer)}

    def close(self) -> None:
        """End the session's network at once."""
        self._connection.close()
        reap()

    def _ready(self) -> str:
        """The broker's answer to the registration."""
        if not self._answer:
            self._answer = self._receive()
        if not self._answer.startswith('{"ready":true'):
            raise SandboxError(f"the broker refused the session: {_field(self._answer, 'message')}")
        return self._answer

    def _send(self, text: str, descriptors: Sequence[int] = ()) -> None:
        data = text.encode("ascii")
        data = len(data).to_bytes(4, "little") + data
        packed = b"".join([fd.to_bytes(4, "little") for fd in descriptors])
        ancillary = [(SOL_SOCKET, SCM_RIGHTS, packed)] if descriptors else []
        try:
            sent = self._connection.sendmsg([data], ancillary)
            if sent < len(data):  # Nothing at all would fail where the answer is there already.
                self._connection.sendall(data[sent:])
        except OSError as error:
            raise SandboxError(f"the broker is gone: {error.strerror}") from error

    def _receive(self) -> str:
        size = int.from_bytes(self._take(4), "little")
        if size > FRAME_MAX:
            raise SandboxError("the broker's answer makes no sense")
        return self._take(size).decode("ascii")

    def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            try:
                piece = self._connection.recv(size - len(data))
            except OSError as error:
                raise SandboxError(f"the broker is gone: {error.strerror}") from error
            if not piece:
                raise SandboxError("the broker is gone")
            data += piece
        return data


def connect(state: str, registration: str, descriptors: Sequence[int] = ()) -> Link:
    """Register a session at the broker of this user. Raises `SandboxError`."""
    directory = runtime_directory(state)
    place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=place)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = _knock(place, directory)
        finally:
            os.close(lock)
    except OSError as error:
        raise SandboxError(f"the broker cannot be started: {error.strerror}") from error
    finally:
        os.close(place)
    link = Link(connection)
    link._send(registration, descriptors)
    return link


def runtime_directory(state: str) -> str:
    """Where the broker's door is: private to the user. Raises `SandboxError`."""
    base = os.environ.get("XDG_RUNTIME_DIR", "")
    directory = (
        f"{base}/casemate" if base.startswith("/") and os.path.isdir(base) else f"{state}/run"
    )
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        status = os.stat(directory)
    except OSError as error:
        raise SandboxError(f"cannot make {directory}: {error.strerror}") from error
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise SandboxError(
            f"{directory} is not private to this user", hint=f"chmod 700 {directory}"
        )
    return directory


def identity() -> str:
    """A name that changes with the code, so that an old broker is never spoken to."""
    from casemate import __version__

    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    newest = 0
    for name in ("egress", "vault", "audit", "policy"):
        with os.scandir(f"{package}/{name}") as entries:
            for entry in entries:
                if entry.name.endswith(".py"):
                    newest = max(newest, entry.stat().st_mtime_ns)
    return f"broker-{__version__}-{os.stat(package).st_ino:x}-{newest:x}"


def _knock(place: int, directory: str) -> socket:
    """A connection to the broker; a broker where there was none. The caller holds the lock."""
    name = identity()
    # By way of the directory's descriptor: a socket's address has room for 107 bytes. unix(7)
    address = f"/proc/self/fd/{place}/{name}"
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        connection.connect(address)
    except (FileNotFoundError, ConnectionRefusedError):
        try:
            os.unlink(name, dir_fd=place)
        except FileNotFoundError:
            pass
        door = socket(AF_UNIX, SOCK_STREAM)
        door.bind(address)
        door.listen(BACKLOG)
        _start(door, f"{directory}/{name}", place)
        door.close()
        connection.connect(address)
    return connection


def _start(door: socket, path: str, place: int) -> None:
    variables = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    log = os.open("broker.log", flags, 0o600, dir_fd=place)
    reap()
    try:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-I", "-m", "casemate.egress.broker", path],
            {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **variables},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, door.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
        )
    finally:
        os.close(log)
    _started.append(pid)


def reap() -> None:
    """Takes leave of brokers that this process started and that have ended."""
    for pid in [*_started]:
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            ended = True
        if ended:
            _started.remove(pid)


def _field(answer: str, name: str) -> str:
    """A plain string of the broker's answer, still escaped."""
    _, _, rest = answer.partition(f'"{name}":"')
    return rest.partition('"')[0]
