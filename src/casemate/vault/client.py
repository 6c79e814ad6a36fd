"""The broker's side of the vault: one process for all its sessions, many questions at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Sequence

from casemate.errors import ProtocolError, RefusedError
from casemate.vault import protocol

Header = tuple[bytes, bytes]
PIECE_MAX = 1 << 20
GONE = "the vault is gone: nothing can be sent where it would have to be asked"


class Vault:
    """The vault's process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[list[bytes]]] = {}
        self._number = 0
        self._decoder = protocol.Decoder()
        self._sending = asyncio.Lock()
        self._receiver = self._loop.create_task(self._receive())

    @classmethod
    def start(cls) -> Vault:
        """Start the process. Raises `OSError`."""
        ours, theirs = socket.socketpair()
        with theirs:
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-m", "casemate.vault.process"],
                {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
            )
        ours.setblocking(False)
        return cls(ours)

    @property
    def gone(self) -> bool:
        """Whether it answers no more."""
        return self._receiver.done()

    async def open(self, session: str, descriptor: int) -> SecretSession:
        """Hand over the secrets of a session: the memory file is passed on unread."""
        fields = [b"%d" % protocol.VERSION, session.encode()]
        await self.ask(protocol.OPEN, fields, [descriptor])
        return SecretSession(self, session.encode())

    async def ask(
        self, kind: int, fields: list[bytes], descriptors: Sequence[int] = ()
    ) -> list[bytes]:
        """One question. Raises `RefusedError`."""
        if self.gone:
            raise RefusedError(GONE, code="vault")
        self._number = (self._number + 1) & 0xFFFFFFFF
        number = self._number
        answer: asyncio.Future[list[bytes]] = self._loop.create_future()
        self._waiting[number] = answer
        try:
            async with self._sending:
                await self._send(protocol.pack(kind, number, fields), descriptors)
            return await answer
        except OSError as error:
            raise RefusedError(GONE, code="vault") from error
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """End the process, and every secret with it."""
        self._receiver.cancel()
        self._connection.close()

    async def _send(self, data: bytes, descriptors: Sequence[int]) -> None:
        if descriptors:
            sent = socket.send_fds(self._connection, [data], list(descriptors))
            data = data[sent:]
        await self._loop.sock_sendall(self._connection, data)

    async def _receive(self) -> None:
        try:
            while data := await self._loop.sock_recv(self._connection, 1 << 18):
                for kind, number, fields in self._decoder.feed(data):
                    self._settle(kind, number, fields)
        except (OSError, ProtocolError):
            pass
        finally:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(RefusedError(GONE, code="vault"))

    def _settle(self, kind: int, number: int, fields: list[bytes]) -> None:
        answer = self._waiting.get(number)
        if answer is None or answer.done():
            return
        if kind == protocol.DONE:
            answer.set_result(fields)
        elif kind == protocol.REFUSED and len(fields) == 2:
            code, message = (field.decode("utf-8", "replace") for field in fields)
            answer.set_exception(RefusedError(message, code=code))
        else:
            raise ProtocolError("the vault's answer makes no sense")


class SecretSession:
    """The secrets of one sandbox."""

    def __init__(self, vault: Vault, session: bytes) -> None:
        self._vault = vault
        self._session = session
        self._streams = 0

    async def request(
        self, host: str, path: bytes, headers: list[Header]
    ) -> tuple[bytes, list[Header]]:
        """Path and headers as they may go out. Raises `RefusedError`."""
        parts = [part for header in headers for part in header]
        answer = await self._vault.ask(
            protocol.REQUEST, [self._session, host.encode(), path, *parts]
        )
        if len(answer) % 2 == 0:
            raise RefusedError(GONE, code="vault")
        return answer[0], list(zip(answer[1::2], answer[2::2], strict=True))

    def screen(self, way: bytes, host: str, encoding: bytes) -> Screen:
        """For one body; `way` is `protocol.OUT` or `protocol.IN`."""
        self._streams += 1
        return Screen(
            self._vault, [self._session, b"%d" % self._streams, way, host.encode(), encoding]
        )

    async def close(self) -> None:
        """Forget the secrets."""
        with contextlib.suppress(RefusedError):
            await self._vault.ask(protocol.CLOSE, [self._session])


class Screen:
    """A body that the vault looks through as it passes."""

    def __init__(self, vault: Vault, head: list[bytes]) -> None:
        self._vault = vault
        self._head = head

    async def feed(self, data: bytes) -> bytes:
        """What may go on of the next piece. Raises `RefusedError`."""
        found = []
        for at in range(0, len(data), PIECE_MAX):
            found += await self._ask(b"", data[at : at + PIECE_MAX])
        return b"".join(found)

    async def finish(self) -> bytes:
        """What was held back. Raises `RefusedError`."""
        return b"".join(await self._ask(b"1", b""))

    async def _ask(self, last: bytes, data: bytes) -> list[bytes]:
        return await self._vault.ask(protocol.FEED, [*self._head, last, data])
