"""The broker: one process per user in which every connection of every sandbox ends.

Started by the first sandbox that has endpoints, kept warm, gone when idle. A sandbox belongs to
the connection that registered it: when that closes, for whatever reason, all of the sandbox's
connections are reset, and nobody listens any more. So no network outlives who answers for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import sys
from typing import Any

from casemate.audit.journal import Journal, JournalError
from casemate.egress.connection import Connection
from casemate.egress.proxy import serve_proxy
from casemate.egress.registration import (
    FRAME_MAX,
    VERSION,
    network_from_json,
    pack,
    secrets_from_json,
)
from casemate.egress.resolver import Datagrams, serve_stream
from casemate.egress.session import CONNECTIONS_MAX, Session
from casemate.errors import CasemateError, ProtocolError, RefusedError
from casemate.vault.client import SecretSession, Vault

IDLE_SECONDS = 300.0
SYNC_SECONDS = 1.0
ACCEPT_BATCH = 64
PAUSE_SECONDS = 0.1
"""Without descriptors left, accepting waits: the kernel's queue holds the connections."""
LISTENERS_MAX = 256
_PR_SET_DUMPABLE = 4


class Listener:
    """One listening socket of a sandbox."""

    def __init__(self, session: Session, listening: socket.socket, kind: str) -> None:
        self.session = session
        self.listening = listening
        self.kind = kind
        self.loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        self.loop.add_reader(listening.fileno(), self._accept)

    def close(self) -> None:
        """Nobody is let in any more."""
        if self._timer is not None:
            self._timer.cancel()
        else:
            self.loop.remove_reader(self.listening.fileno())
        self.listening.close()

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            if len(self.session.tasks) >= CONNECTIONS_MAX:
                self._pause()
                return
            try:
                client, _ = self.listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause()
                    return
                continue
            client.setblocking(False)
            task = self.loop.create_task(_serve(self.session, client, self.kind))
            self.session.tasks.add(task)
            task.add_done_callback(self.session.tasks.discard)

    def _pause(self) -> None:
        self.loop.remove_reader(self.listening.fileno())
        self._timer = self.loop.call_later(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        self._timer = None
        self.loop.add_reader(self.listening.fileno(), self._accept)


async def _serve(session: Session, client: socket.socket, kind: str) -> None:
    connection = Connection(session, client, "transparent")
    try:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if kind == "proxy":
            await serve_proxy(connection)
        elif kind == "names":
            await serve_stream(session, client)
        else:
            local = client.getsockname()
            host = str(local[0]).removeprefix("::ffff:")
            await connection.run(session.target(host, local[1]))
    except RefusedError as error:
        await connection.refuse(error)
    except (OSError, TimeoutError):
        connection.reset()
    finally:
        connection.close()


class Registrar:
    """One program's connection to the broker, and the sandbox that belongs to it."""

    def __init__(self, broker: Broker, client: socket.socket) -> None:
        self.broker = broker
        self.client = client
        self.session: Session | None = None
        self.listeners: list[Listener | Datagrams] = []
        self.descriptors: list[int] = []

    async def run(self) -> None:
        """Serves the program until it goes."""
        try:
            while (message := await self._receive()) is not None:
                await self._handle(message)
        except (CasemateError, OSError, ValueError) as error:
            problem = (
                error.as_json() if isinstance(error, CasemateError) else {"message": str(error)}
            )
            with contextlib.suppress(OSError):
                await self._send({"error": problem})
        finally:
            await self._close()

    async def _close(self) -> None:
        for listener in self.listeners:
            listener.close()
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.client.close()
        if self.session is not None:
            await self.session.close()
            if self.session.secrets is not None:
                self.broker.forget(self.session.secrets)

    async def _handle(self, message: dict[str, Any]) -> None:
        if "register" in message and self.session is None:
            await self._register(message["register"])
        elif "listeners" in message and self.session is not None:
            self._listen(message["listeners"])
        elif "finish" in message and self.session is not None:
            await self._finish()
        else:
            raise ProtocolError("a message to the broker makes no sense")

    async def _register(self, wanted: dict[str, Any]) -> None:
        if wanted.get("version") != VERSION:
            raise ProtocolError("the broker is of another version")
        network = network_from_json(wanted["network"])
        secrets = secrets_from_json(wanted["secrets"])
        journal = Journal(
            str(wanted["journal"]), str(wanted["session"]), policy=str(wanted["policy"])
        )
        self.session = Session(str(wanted["session"]), network, secrets, journal)
        self.session.trust = tuple(str(path) for path in wanted["trust"])
        self.session.teaches = bool(wanted["inspect"])
        if secrets:
            if len(self.descriptors) != 1:
                raise ProtocolError("the values of the secrets are missing")
            vault = await self.broker.vault()
            self.session.secrets = await vault.open(
                self.session.identifier, wanted["secrets"], self.descriptors.pop()
            )
        certificate = self.session.authority.certificate if wanted["inspect"] else ""
        await self._send({"ready": True, "certificate": certificate})

    def _listen(self, wanted: list[dict[str, Any]]) -> None:
        assert self.session is not None
        if len(wanted) != len(self.descriptors) or len(wanted) > LISTENERS_MAX:
            raise ProtocolError("the listeners do not match their descriptors")
        descriptors, self.descriptors = self.descriptors, []
        for item, descriptor in zip(wanted, descriptors, strict=True):
            listening = socket.socket(fileno=descriptor)
            if item["kind"] == "names-udp":
                self.listeners.append(Datagrams(self.session, listening))
            else:
                self.listeners.append(Listener(self.session, listening, str(item["kind"])))

    async def _finish(self) -> None:
        assert self.session is not None
        for listener in self.listeners:
            listener.close()
        self.listeners.clear()
        await self.session.close()
        if self.session.secrets is not None:
            with contextlib.suppress(RefusedError):
                await self.session.secrets.close()
            self.session.secrets = None
        await self._send({"summary": self.session.summary()})

    async def _send(self, message: dict[str, Any]) -> None:
        await asyncio.get_running_loop().sock_sendall(self.client, pack(message))

    async def _receive(self) -> dict[str, Any] | None:
        head = await self._take(4)
        if not head:
            return None
        size = int.from_bytes(head, "little")
        if size > FRAME_MAX:
            raise ProtocolError("a message to the broker is too long")
        import json

        message = json.loads(await self._take(size))
        if not isinstance(message, dict):
            raise ProtocolError("a message to the broker makes no sense")
        return message

    async def _take(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = await self._receive_some(size - len(data))
            if not piece:
                if data:
                    raise ProtocolError("a message to the broker was cut off")
                return b""
            data += piece
        return data

    async def _receive_some(self, size: int) -> bytes:
        while True:
            try:
                data, descriptors, flags, _ = socket.recv_fds(
                    self.client, min(size, 65536), 253, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await _readable(self.client)
                continue
            self.descriptors += descriptors
            if flags & socket.MSG_CTRUNC or len(self.descriptors) > LISTENERS_MAX + 1:
                raise ProtocolError("a message to the broker brings too many descriptors")
            return data


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection.fileno(), lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        loop.remove_reader(connection.fileno())


class Broker:
    """Accepts the programs of one user, and ends when nobody has been there for a while."""

    def __init__(self, listening: socket.socket, path: str, idle: float) -> None:
        self.listening = listening
        self.path = path
        self.idle = idle
        self.leaving = False
        self._knocked = asyncio.Event()
        self.registrars: dict[asyncio.Task[None], Registrar] = {}
        self._vault: Vault | None = None
        self._starting = asyncio.Lock()
        self._forgetting: set[asyncio.Task[None]] = set()

    async def vault(self) -> Vault:
        """The vault; started when the first secret comes, and again if it died: its secrets are
        gone then, and their sessions refused."""
        async with self._starting:
            if self._vault is None or self._vault.ended:
                self._vault = await Vault.start()
        return self._vault

    def forget(self, secrets: SecretSession) -> None:
        """The session of these secrets is over."""

        async def close() -> None:
            with contextlib.suppress(RefusedError):
                await secrets.close()

        task = asyncio.get_running_loop().create_task(close())
        self._forgetting.add(task)
        task.add_done_callback(self._forgetting.discard)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        self.listening.setblocking(False)
        loop.add_reader(self.listening, self._answer)
        syncing = loop.create_task(self._sync())
        stopping = loop.create_task(stop.wait())
        try:
            while not stopping.done():
                knocked = loop.create_task(self._knocked.wait())
                done, _ = await asyncio.wait(
                    {knocked, stopping, *self.registrars},
                    timeout=None if self.registrars else self.idle,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                knocked.cancel()
                self._knocked.clear()
                if not done and self._leave():
                    return
        finally:
            for task in (syncing, stopping, *self.registrars):
                task.cancel()
            await asyncio.gather(*self.registrars, return_exceptions=True)
            if self._vault is not None:
                self._vault.close()

    def _answer(self) -> None:
        """Lets in whoever is at the door. Never cancelled half-way: that would lose a client."""
        try:
            client, _ = self.listening.accept()
        except OSError as error:
            loop = asyncio.get_running_loop()
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                loop.remove_reader(self.listening)
                loop.call_later(PAUSE_SECONDS, loop.add_reader, self.listening, self._answer)
        else:
            self._welcome(client)
            self._knocked.set()

    def _leave(self) -> bool:
        """Closes the door; False while somebody is on the way in.

        Programs connect with the lock held, so none is left outside a door that just closed.
        """
        if not self.leaving:
            lock = os.open(os.path.dirname(self.path) + "/lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(self.path)
                self.leaving = True
            except OSError:
                return not os.path.exists(self.path)
            finally:
                os.close(lock)
        try:
            client, _ = self.listening.accept()
        except OSError:
            return True
        self._welcome(client)
        return False

    def _welcome(self, client: socket.socket) -> None:
        client.setblocking(False)
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, uid, _ = struct.unpack("=iII", credentials)
        if uid != os.geteuid():
            client.close()
            return
        registrar = Registrar(self, client)
        task = asyncio.get_running_loop().create_task(registrar.run())
        self.registrars[task] = registrar
        task.add_done_callback(lambda done: self.registrars.pop(done, None))

    async def _sync(self) -> None:
        """Makes what the journals hold durable, off the loop's time."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            for registrar in list(self.registrars.values()):
                if registrar.session is not None:
                    with contextlib.suppress(JournalError, OSError):
                        registrar.session.journal.gather()
                        await loop.run_in_executor(None, registrar.session.journal.flush)


def harden() -> None:
    """Nothing of this process can be read by another of the same user, or be left on a disk."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.umask(0o077)
    os.chdir("/")


def main() -> None:
    """The process: the listening socket is standard input, its path the argument."""
    harden()
    # Whatever else the starting program had open is no business of this one.
    os.closerange(3, 1 << 16)
    listening = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    idle = float(os.environ.get("CASEMATE_BROKER_IDLE", IDLE_SECONDS))
    asyncio.run(Broker(listening, sys.argv[1], idle).run())


if __name__ == "__main__":
    main()
