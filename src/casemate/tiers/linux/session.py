"""One live sandbox of the process tier: the host's end of the supervisor.

On the start-up path of `casemate run`: only what the interpreter has loaded anyway, and `_socket`
(the C half of `socket`, which would cost ten milliseconds more).
"""

from __future__ import annotations

import os
from _socket import (
    AF_UNIX,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    SCM_RIGHTS,
    SHUT_WR,
    SOCK_STREAM,
    SOL_SOCKET,
    socketpair,
)

from casemate.errors import ProtocolError, SandboxError, UnsupportedError
from casemate.supervisor import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket
    from collections.abc import Iterable, Sequence
    from typing import Any, Protocol

    class Network(Protocol):
        """Whoever accepts what the listeners bring."""

        def finish(self) -> dict[str, Any]:
            """End it, and tell what happened."""

        def close(self) -> None:
            """End it at once."""


DESCRIPTOR = 3
"""Where the supervisor finds its socket."""

NOTICES_MAX, NOTICE_MAX = 100, 1000
"""Notices kept of a session, and characters of each."""


class Saved:
    """What the session left. `errno` is not 0 when the archive could not be written (yet)."""

    __slots__ = ("bytes", "errno", "records")

    def __init__(self, errno: int, size: int, records: int) -> None:
        self.errno = errno
        self.bytes = size
        self.records = records


class Session:
    """A sandbox that runs commands until it is closed.

    Not thread-safe; `casemate.sandbox` is. Opening raises `SandboxError` (or `UnsupportedError`
    where the kernel refused) naming the step that failed.
    """

    __slots__ = (
        "_awaited",
        "_decoder",
        "_descriptors",
        "_next",
        "_pending",
        "_pid",
        "_socket",
        "exits",
        "hidden_paths",
        "landlock",
        "launch_us",
        "listeners",
        "network",
        "notices",
        "ready",
        "saved",
        "terminals",
        "variables",
    )

    def __init__(
        self,
        supervisor: str,
        specification: bytes,
        archive: int | None,
        wrapper: Sequence[str] = (),
        listeners: int = 0,
    ) -> None:
        self._decoder = protocol.Decoder()
        self._awaited = listeners
        self._descriptors: list[int] = []
        self._next = 1
        # Commands that have not ended, and whether a terminal of theirs may still come.
        self._pending: dict[int, bool] = {}
        self.exits: dict[int, protocol.Exit] = {}
        self.terminals: dict[int, int] = {}
        self.notices: list[tuple[int, str]] = []
        self.saved: Saved | None = None
        self.listeners: list[int] = []
        """Descriptors of the launch's listeners, in its order; whoever takes them closes them."""
        self.variables: list[tuple[bytes, bytes]] = []
        """Variables of this session alone, for each of its commands: placeholders of secrets."""
        self.network: Network | None = None
        """What keeps the sandbox's network; it ends with the session."""
        self.landlock = 0
        self.hidden_paths = 0
        self.ready = False
        self.launch_us: tuple[int, ...] = ()
        self._pid, self._socket = _spawn([*wrapper, supervisor])
        try:
            self._send(
                protocol.frame(protocol.INIT, specification, int(archive is not None)),
                [] if archive is None else [archive],
            )
            while not self.ready:
                self.receive()
        except BaseException:
            self._abandon()
            raise

    @property
    def pid(self) -> int:
        """The host's process id of the supervisor's outer half, the parent of PID 1."""
        return self._pid

    def fileno(self) -> int:
        """The socket's descriptor, to wait on; `receive` when it is readable."""
        return self._socket.fileno()

    def start(
        self,
        argv: Sequence[bytes],
        environment: Iterable[bytes],
        directory: bytes,
        *,
        stdio: tuple[int | None, int | None, int | None] = (0, 1, 2),
        terminal: bool = False,
        rows: int = 24,
        columns: int = 80,
        time_limit_ms: int = 0,
        resource_limits: Iterable[protocol.Limit] = (),
    ) -> int:
        """Asks for a command and returns its identifier; `exits` tells how it ended.

        `stdio` are descriptors for 0, 1 and 2; `None` is the terminal, or /dev/null without one.
        """
        identifier = self._next
        self._next += 1
        flags = protocol.EXEC_TERMINAL if terminal else 0
        passed = []
        for flag, descriptor in zip((2, 4, 8), stdio, strict=True):
            if descriptor is not None:
                flags |= flag
                passed.append(descriptor)
        request = protocol.exec_request(
            identifier,
            argv,
            environment,
            directory,
            flags=flags,
            rows=rows,
            columns=columns,
            time_limit_ms=time_limit_ms,
            resource_limits=resource_limits,
        )
        self._pending[identifier] = terminal
        self._send(request, passed)
        return identifier

    def wait(self, identifier: int) -> protocol.Exit:
        """Blocks until the command has ended."""
        while identifier not in self.exits:
            self.receive()
        return self.exits.pop(identifier)

    def signal(self, identifier: int, number: int) -> None:
        """Signals a command's process group; its whole tree for SIGKILL; all commands for 0."""
        self._send(protocol.signal_request(identifier, number))

    def resize(self, identifier: int, rows: int, columns: int) -> None:
        """Tells a command's terminal its new size, in characters."""
        self._send(protocol.resize_request(identifier, rows & 0xFFFF, columns & 0xFFFF))

    def snapshot(self, descriptor: int) -> int:
        """Asks for the change archive so far to be written to a file; wait for it like a command."""
        identifier = self._next
        self._next += 1
        self._pending[identifier] = False
        self._send(protocol.snapshot_request(identifier), [descriptor])
        return identifier

    def close(self, *, discard: bool = False) -> Saved:
        """Ends everything inside and waits until the changes are saved."""
        try:
            self._send(protocol.close_request(discard=discard))
            # The keeper sees this end close, and ends a PID 1 that does not do so by itself.
            self._socket.shutdown(SHUT_WR)
        except (SandboxError, OSError):
            # PID 1 is gone already; the keeper still saves and says so.
            pass
        try:
            while self.saved is None:
                self.receive()
        finally:
            self._abandon()
        return self.saved

    def receive(self) -> None:
        """Takes in what the supervisor sent, blocking for at least one piece.

        Raises `SandboxError` at its end, or when it reports that the launch failed.
        """
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(65536, 256, MSG_CMSG_CLOEXEC)
        except OSError as problem:
            raise SandboxError(f"the sandbox's supervisor is gone: {problem.strerror}") from problem
        for level, kind, payload in ancillary:
            if level == SOL_SOCKET and kind == SCM_RIGHTS:
                usable = len(payload) - len(payload) % 4
                for at in range(0, usable, 4):
                    self._descriptors.append(int.from_bytes(payload[at : at + 4], "little"))
        if len(self._descriptors) > 64 or flags & MSG_CTRUNC:
            raise ProtocolError("the supervisor sent descriptors nobody asked for")
        if not data:
            raise SandboxError("the sandbox's supervisor ended unexpectedly")
        for frame_kind, descriptors, body in self._decoder.feed(data):
            self._handle(frame_kind, descriptors, protocol.Reader(body))

    def _handle(self, kind: int, descriptors: int, payload: protocol.Reader) -> None:
        expected = kind in (protocol.STARTED, protocol.LISTENER)
        if descriptors > len(self._descriptors) or (descriptors and not expected):
            raise ProtocolError("the supervisor's descriptors do not match its frames")
        if kind == protocol.EXITED:
            identifier = payload.integer(4)
            if self._pending.pop(identifier, None) is None:
                raise ProtocolError("the supervisor reported on a command that was not running")
            self.exits[identifier] = protocol.Exit(payload)
        elif kind == protocol.STARTED:
            identifier = payload.integer(4)
            payload.integer(4)
            payload.finish()
            if descriptors:
                if not self._pending.get(identifier):
                    raise ProtocolError("the supervisor sent a terminal nobody asked for")
                self._pending[identifier] = False
                self.terminals[identifier] = self._descriptors.pop(0)
        elif kind == protocol.LISTENER:
            number = payload.integer(4)
            payload.finish()
            place = len(self.listeners)
            if self.ready or descriptors != 1 or number != place or place >= self._awaited:
                raise ProtocolError("the supervisor sent a listener nobody asked for")
            self.listeners.append(self._descriptors.pop(0))
        elif kind == protocol.READY:
            self.landlock = payload.integer(4)
            payload.integer(4)
            self.hidden_paths = payload.integer(4)
            self.launch_us = tuple(payload.integer(4) for _ in range(payload.integer(4) & 0xFF))
            payload.finish()
            if len(self.listeners) != self._awaited:
                raise ProtocolError("the supervisor is ready without the listeners asked for")
            self.ready = True
        elif kind == protocol.FAILED:
            raise launch_error(payload.integer(4), payload.text(), payload.text())
        elif kind == protocol.NOTICE:
            notice = (payload.integer(4), payload.text()[:NOTICE_MAX])
            if len(self.notices) < NOTICES_MAX:
                self.notices.append(notice)
        elif kind == protocol.SAVED:
            self.saved = Saved(payload.integer(4), payload.integer(8), payload.integer(8))
        elif kind != protocol.PONG:
            raise ProtocolError(f"the supervisor sent a frame of unknown type {kind}")

    def _send(self, data: bytes, descriptors: Sequence[int] = ()) -> None:
        ancillary = []
        if descriptors:
            packed = b"".join(fd.to_bytes(4, "little") for fd in descriptors)
            ancillary = [(SOL_SOCKET, SCM_RIGHTS, packed)]
        try:
            sent = self._socket.sendmsg([data], ancillary)
            if sent < len(data):
                self._socket.sendall(data[sent:])
        except OSError as problem:
            self._raise_reported()
            raise SandboxError(f"the sandbox's supervisor is gone: {problem.strerror}") from problem

    def _raise_reported(self) -> None:
        """A supervisor that failed says why before it goes: that beats a broken pipe."""
        while self.saved is None:
            try:
                self.receive()
            except SandboxError as problem:
                if problem.code != "sandbox" or not problem.message.startswith("the sandbox's"):
                    raise
                return

    def _abandon(self) -> None:
        if self.network is not None:
            self.network.close()
        self._socket.close()
        for descriptor in (*self._descriptors, *self.terminals.values(), *self.listeners):
            os.close(descriptor)
        self.listeners.clear()
        self._descriptors.clear()
        self.terminals.clear()
        # A keeper that could not save yet goes on trying, for longer than anyone wants to wait.
        trying = self.saved is not None and self.saved.errno != 0
        try:
            os.waitpid(self._pid, os.WNOHANG if trying else 0)
        except ChildProcessError:
            pass


def _spawn(command: Sequence[str]) -> tuple[int, socket]:
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    # A wrapper (systemd-run) finds its service manager by these; it drops them for what it starts.
    names = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS") if len(command) > 1 else ()
    variables = {name: os.environ[name] for name in names if name in os.environ}
    try:
        pid = os.posix_spawn(
            command[0],
            list(command),
            variables,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), DESCRIPTOR)],
        )
    except OSError as problem:
        ours.close()
        raise SandboxError(f"cannot start {command[0]}: {problem.strerror}") from problem
    finally:
        theirs.close()
    return pid, ours


def launch_error(errno: int, stage: str, detail: str) -> SandboxError | UnsupportedError:
    """The supervisor's own words on a failed launch as an error for people."""
    reason = os.strerror(errno)
    where = f"{stage} {detail}".strip()
    message = f"the sandbox could not be started: {where}: {reason}"
    if stage in ("create namespaces", "create user namespace"):
        return UnsupportedError(
            message,
            code="namespaces",
            hint="`casemate doctor` names the host setting in the way and its remedy",
        )
    if (stage, detail) == ("mount file system", "proc"):
        return UnsupportedError(
            message,
            code="proc",
            hint="a container that covers parts of /proc forbids a new one inside; let it show them "
            "(docker run --security-opt systempaths=unconfined), or run outside it",
        )
    if stage == "hide":
        return UnsupportedError(
            f"`{detail}` matches a hide pattern, and without namespaces nothing can be hidden",
            code="hide",
            allow='waive = ["hide"]',
            hint="`casemate doctor` names the host setting in the way and its remedy",
        )
    return SandboxError(message)
