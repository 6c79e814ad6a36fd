"""One TCP connection as chunks of bytes, with TLS put on where it is wanted.

Chunks come as the kernel gave them and are never joined; reading stops while nobody takes them,
writing waits while nobody reads them, so memory stays bounded. TLS runs over `ssl.MemoryBIO`, so
that bytes already taken off the socket (a ClientHello that was looked at) can still begin it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import TypeVar

BUFFER_MAX = 256 << 10
"""Bytes read ahead of who takes them, at most (and one chunk)."""
CHUNK = 64 << 10

T = TypeVar("T")


class _Pipe(asyncio.Protocol):
    """The raw bytes of a socket, with back pressure both ways."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.chunks: deque[bytes] = deque()
        self.size = 0
        self.ended = False
        self.lost: Exception | None = None
        self.gone = False
        self._paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(BUFFER_MAX)

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.size += len(data)
        if self.size >= BUFFER_MAX and not self._paused:
            self._paused = True
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self.ended = True
        self._wake()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.ended = self.gone = True
        self.lost = error
        self._wake()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def read(self) -> bytes:
        while not self.chunks:
            if self.lost is not None:
                raise ConnectionError(str(self.lost)) from self.lost
            if self.ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        chunk = self.chunks.popleft()
        self.size -= len(chunk)
        if self._paused and self.size < BUFFER_MAX // 2:
            self._paused = False
            self.transport.resume_reading()
        return chunk

    def push_back(self, data: bytes) -> None:
        self.chunks.appendleft(data)
        self.size += len(data)

    async def drain(self) -> None:
        if not self._writable.is_set():
            await self._writable.wait()
        if self.gone:
            raise ConnectionError("the connection is closed")

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Stream:
    """A connection. `open` takes a connected, non-blocking socket over."""

    def __init__(self, pipe: _Pipe) -> None:
        self._pipe = pipe
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._plain: deque[bytes] = deque()

    @classmethod
    async def open(cls, connected: socket.socket, initial: bytes = b"") -> Stream:
        """The stream of a socket from which `initial` was read already."""
        loop = asyncio.get_running_loop()
        _, pipe = await loop.connect_accepted_socket(_Pipe, connected)
        if initial:
            pipe.push_back(initial)
        return cls(pipe)

    @property
    def alpn(self) -> str | None:
        """The protocol that both sides of TLS chose."""
        return self._tls.selected_alpn_protocol() if self._tls is not None else None

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises `OSError`."""
        if self._plain:
            return self._plain.popleft()
        if self._tls is None:
            return await self._pipe.read()
        while True:
            try:
                data = self._tls.read(CHUNK)
            except ssl.SSLWantReadError:
                self._send()
                await self._receive()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                # Post-handshake messages may want an answer.
                self._send()
                return data

    def unread(self, data: bytes) -> None:
        """Give back what was read too much."""
        if data:
            self._plain.appendleft(data)

    async def read_until(self, parse: Callable[[bytes], tuple[T, int] | None]) -> T | None:
        """Feeds what comes to `parse` until it answers; None where the stream ends before the
        first byte. Raises what `parse` raises, and `ConnectionError` for an end in between."""
        buffer = b""
        while True:
            piece = await self.read()
            if not piece:
                if buffer:
                    raise ConnectionError("the connection ended in the middle of a message")
                return None
            buffer += piece
            found = parse(buffer)
            if found is not None:
                self.unread(buffer[found[1] :])
                return found[0]

    def write(self, data: bytes) -> None:
        """Send; `drain` waits until there is room again."""
        if self._pipe.gone:
            return
        if self._tls is None:
            self._pipe.transport.write(data)
        elif data:
            self._tls.write(data)
            self._send()

    async def drain(self) -> None:
        """Waits while the other side does not read. Raises `ConnectionError`."""
        await self._pipe.drain()

    async def start_tls(
        self, context: ssl.SSLContext, *, server: bool, name: str | None = None
    ) -> None:
        """Shake hands. Raises `ssl.SSLError` or `OSError`."""
        for piece in reversed(self._plain):
            self._pipe.push_back(piece)
        self._plain.clear()
        tls = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=name
        )
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._send()
                await self._receive()
            except ssl.SSLError:
                # The alert tells the other side why.
                self._send()
                raise
        self._send()
        self._tls = tls

    def write_end(self) -> None:
        """Nothing more will be written."""
        if self._pipe.gone:
            return
        if self._tls is not None:
            self._say_goodbye()
        if self._pipe.transport.can_write_eof():
            self._pipe.transport.write_eof()

    def close(self) -> None:
        """Close once everything was sent."""
        if self._tls is not None and not self._pipe.gone:
            self._say_goodbye()
        self._pipe.transport.close()

    def abort(self) -> None:
        """Close at once, with a reset where something was unsent."""
        self._pipe.transport.abort()

    def _say_goodbye(self) -> None:
        assert self._tls is not None
        try:
            self._tls.unwrap()
        except (ssl.SSLError, OSError):
            # It does not wait for the answer.
            pass
        self._send()

    def _send(self) -> None:
        if self._outgoing.pending and not self._pipe.gone:
            self._pipe.transport.write(self._outgoing.read())

    async def _receive(self) -> None:
        data = await self._pipe.read()
        if data:
            self._incoming.write(data)
        elif self._incoming.eof:
            raise ConnectionError("the connection ended within TLS")
        else:
            self._incoming.write_eof()
