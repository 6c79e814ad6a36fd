"""The broker's side of the vault: starts the process and asks it, many questions at once."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import casemate
from casemate.errors import ProtocolError, RefusedError
from casemate.policy.hosts import covers
from casemate.vault import protocol
from casemate.vault.protocol import CHUNK, u32

Headers = list[tuple[bytes, bytes]]

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from casemate.vault.process import main; main(int(sys.argv[2]))"
)
_RECEIVE = 256 << 10
START_TIMEOUT = 10.0
"""Seconds that the process may take until it is ready."""


class Vault:
    """A running vault process, and the calls it has not answered yet."""

    def __init__(self, process: subprocess.Popen[bytes], channel: socket.socket) -> None:
        self._process, self._channel = process, channel
        self._loop = asyncio.get_running_loop()
        self._frames = protocol.Frames()
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[list[bytes]]] = {}
        self._queue: deque[tuple[memoryview, int]] = deque()
        self._closed = False
        self._ready: asyncio.Future[None] = self._loop.create_future()
        channel.setblocking(False)
        self._loop.add_reader(channel, self._read)

    @classmethod
    async def start(cls) -> Vault:
        """Starts the process and waits until it has confined itself. Raises `RefusedError`."""
        process, ours = _spawn()
        vault = cls(process, ours)
        try:
            await asyncio.wait_for(asyncio.shield(vault._ready), START_TIMEOUT)
        except BaseException:
            vault.close()
            raise
        return vault

    @property
    def ended(self) -> bool:
        """Whether it answers no more."""
        return self._closed

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    async def open(
        self, session_id: str, secrets: Sequence[Mapping[str, Any]], values: int
    ) -> SecretSession:
        """Hands a session's secrets over. `values` is the sealed file, passed on unread and closed.

        `secrets` are the definitions of `sources.definition`. Raises `RefusedError`.
        """
        handle = next(self._numbers) & 0xFFFFFFFF
        fields = [u32(handle)]
        try:
            for secret in secrets:
                flags = protocol.OWN_ONLY if secret.get("own_only") else 0
                texts = (secret["name"], secret["form"], secret["form_name"])
                fields += [text.encode("ascii") for text in texts]
                fields += [u32(flags), " ".join(secret["to"]).encode("ascii")]
        except (KeyError, TypeError, AttributeError, UnicodeError) as error:
            os.close(values)
            raise RefusedError("the session's secrets make no sense", code="vault") from error
        await self.call(protocol.OPEN, fields, values)
        hosts = tuple(host for secret in secrets for host in secret["to"])
        return SecretSession(self, session_id, handle, hosts)

    def call(
        self, kind: int, fields: Iterable[bytes], descriptor: int = -1
    ) -> asyncio.Future[list[bytes]]:
        """Asks; the answer arrives in the future, or a `RefusedError`. The descriptor is closed."""
        future: asyncio.Future[list[bytes]] = self._loop.create_future()
        number = next(self._numbers) & 0xFFFFFFFF
        # First: sending may find that the vault has ended, and then refuses all that wait.
        self._waiting[number] = future
        try:
            self.tell(kind, fields, descriptor, number)
        except RefusedError as error:
            del self._waiting[number]
            future.set_exception(error)
        return future

    def tell(self, kind: int, fields: Iterable[bytes], descriptor: int = -1, call: int = 0) -> None:
        """Sends what has no answer. Raises `RefusedError`."""
        try:
            frame = protocol.frame(kind, call, fields)
        except ProtocolError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise RefusedError(error.message, code="too-large") from error
        if self._closed:
            if descriptor >= 0:
                os.close(descriptor)
            raise _ended()
        self._queue.append((memoryview(frame), descriptor))
        if len(self._queue) == 1:
            self._write()

    def number(self) -> int:
        """A number that no other stream of this vault has."""
        return next(self._numbers) & 0xFFFFFFFF

    def close(self) -> None:
        """Closes the socket, with which the process ends, and waits for that."""
        self._end()
        try:
            self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        try:
            data = self._channel.recv(_RECEIVE)
            frames = self._frames.feed(data)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ProtocolError):
            self._end()
            return
        if not data:
            self._end()
        for kind, call, fields in frames:
            if kind == protocol.READY:
                if not self._ready.done():
                    self._ready.set_result(None)
                continue
            future = self._waiting.pop(call, None)
            if future is None or future.done():
                continue
            if kind == protocol.DONE:
                future.set_result(fields)
            else:
                future.set_exception(_refusal(fields))

    def _write(self) -> None:
        while self._queue:
            data, descriptor = self._queue[0]
            try:
                if descriptor >= 0:
                    sent = socket.send_fds(self._channel, [data], [descriptor])
                    os.close(descriptor)
                else:
                    sent = self._channel.send(data)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._channel, self._write)
                return
            except OSError:
                self._end()
                return
            if sent < len(data):
                self._queue[0] = (data[sent:], -1)
            else:
                self._queue.popleft()
        self._loop.remove_writer(self._channel)

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._channel)
        self._loop.remove_writer(self._channel)
        self._channel.close()
        for _, descriptor in self._queue:
            if descriptor >= 0:
                os.close(descriptor)
        self._queue.clear()
        if not self._ready.done():
            self._ready.set_exception(_ended())
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(_ended())
        self._waiting.clear()


def _spawn() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """The process and our end of its socket. Its environment is empty, its arguments no secret."""
    ours, theirs = socket.socketpair()
    package = os.path.dirname(os.path.dirname(os.path.abspath(casemate.__file__)))
    command = [sys.executable, "-I", "-S", "-B", "-c", _PROGRAM, package, str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env={},
            cwd="/",
        )
    return process, ours


class SecretSession:
    """One session's secrets as the broker sees them: by what may be asked, never by value."""

    def __init__(self, vault: Vault, session_id: str, handle: int, hosts: tuple[str, ...]) -> None:
        self.session_id = session_id
        self._vault, self._handle, self._hosts = vault, handle, hosts

    def bound(self, host: str) -> bool:
        """Whether some secret may go to the host."""
        return any(covers(pattern, host) for pattern in self._hosts)

    async def outgoing(
        self,
        host: str,
        port: int,
        method: bytes | str,
        path: bytes,
        headers: Headers,
        body: bytes | None = None,
    ) -> tuple[bytes, Headers]:
        """Path and headers with secrets in the place of placeholders.

        `body` is the whole body where it is at hand (SigV4 without a payload header needs it).
        `headers` must hold Host; HTTP/2 adds it for this call. Raises `RefusedError` with the
        codes secret-leak, secret-host, foreign-credential, sigv4-body, sigv4-streaming.
        """
        del port  # Secrets belong to hosts; which ports those have is the rules' concern.
        verb = method.encode() if isinstance(method, str) else method
        flags = 0 if body is None else protocol.HAS_BODY
        fields = [u32(self._handle), host.encode(), verb, path, u32(flags), body or b""]
        reply = await self._vault.call(protocol.OUTGOING, [*fields, *_flat(headers)])
        return reply[0], protocol.pairs(reply[1:])

    async def scrub_headers(self, headers: Headers, host: str = "") -> Headers:
        """Headers of an answer with placeholders in the place of secrets. Raises `RefusedError`."""
        fields = [u32(self._handle), host.encode(), *_flat(headers)]
        return protocol.pairs(await self._vault.call(protocol.HEADERS, fields))

    def body(self, host: str, content_encoding: str = "") -> BodyFilter:
        """A filter for one request's body."""
        return BodyFilter(self._vault, self._handle, protocol.REQUEST, host, content_encoding)

    def response(self, host: str, content_encoding: str = "") -> BodyFilter:
        """A filter for one answer's body."""
        return BodyFilter(self._vault, self._handle, protocol.RESPONSE, host, content_encoding)

    async def close(self) -> None:
        """The vault forgets the session's secrets."""
        await self._vault.call(protocol.CLOSE, [u32(self._handle)])


class BodyFilter:
    """One body on its way past the vault. `note`, at the end: why it was not understood, or ""."""

    def __init__(self, vault: Vault, session: int, direction: int, host: str, coding: str) -> None:
        self._vault = vault
        self._stream = u32(vault.number())
        self.note = ""
        coding = coding.encode("ascii", "replace").decode()[:200]
        fields = [u32(session), self._stream, u32(direction), host.encode(), coding.encode()]
        vault.tell(protocol.FILTER, fields)

    async def feed(self, data: bytes) -> bytes:
        """The bytes to pass on by now. Raises `RefusedError`; nothing of the rest may pass then."""
        if len(data) <= CHUNK:
            return (await self._vault.call(protocol.FEED, [self._stream, data]))[0]
        parts = [await self.feed(data[at : at + CHUNK]) for at in range(0, len(data), CHUNK)]
        return b"".join(parts)

    async def finish(self) -> bytes:
        """The last bytes. Raises `RefusedError`."""
        rest, note = await self._vault.call(protocol.FINISH, [self._stream])
        self.note = note.decode("ascii", "replace")
        return rest

    def drop(self) -> None:
        """Ends a body in the middle."""
        self._vault.tell(protocol.DROP, [self._stream])


def _flat(headers: Headers) -> list[bytes]:
    return [part for header in headers for part in header]


def _refusal(fields: list[bytes]) -> RefusedError:
    code, message, rule, allow, hint = (
        field.decode("utf-8", "replace") for field in [*fields, *[b""] * 5][:5]
    )
    return RefusedError(message, code=code, rule=rule, allow=allow, hint=hint)


def _ended() -> RefusedError:
    return RefusedError("the vault has ended; nothing that needs it leaves", code="vault")
