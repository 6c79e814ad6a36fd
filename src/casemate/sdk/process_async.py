"""Handles on commands for an event loop: the same state and rules, awaited instead of waited for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

from casemate.errors import SandboxError
from casemate.sdk.dispatcher import Dispatcher
from casemate.sdk.process import Handle
from casemate.sdk.result import Result
from casemate.sdk.running import Running
from casemate.sdk.streams import Lines, Output


async def until(
    dispatcher: Dispatcher,
    running: Running,
    done: Callable[[], bool],
    timeout: float | None = None,
) -> bool:
    """`Dispatcher.until` for the event loop that calls `Dispatcher.step`."""
    loop = asyncio.get_running_loop()
    thread = threading.get_ident()
    try:
        async with asyncio.timeout(timeout):
            while True:
                changed = loop.create_future()

                def wake(changed: asyncio.Future[None] = changed) -> None:
                    if threading.get_ident() == thread:
                        _resolve(changed)
                    else:
                        loop.call_soon_threadsafe(_resolve, changed)

                if not dispatcher.when_changed(running, done, wake):
                    return True
                await changed
    except TimeoutError:
        return False


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class AsyncStream:
    """One output stream as it comes: iterate for lines of text, or take the bytes.

    A command that writes faster than it is read waits, as with any pipe.
    """

    def __init__(self, dispatcher: Dispatcher, running: Running, output: Output) -> None:
        self._dispatcher = dispatcher
        self._running = running
        self._output = output

    async def __aiter__(self) -> AsyncIterator[str]:
        lines = Lines(self._running.encoding)
        async for data in self.chunks():
            for line in lines.feed(data):
                yield line
        for line in lines.feed(b""):
            yield line

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes in pieces, each as soon as it is there."""
        while data := await self.receive():
            yield data

    async def receive(self, timeout: float | None = None) -> bytes:
        """The next bytes, at least one; empty at the end.

        Raises `SandboxError` with the code "timeout" if none come for `timeout` seconds.
        """
        if not await until(self._dispatcher, self._running, lambda: self._output.ready, timeout):
            raise SandboxError("nothing came in time", code="timeout")
        return self._dispatcher.take(self._running, self._output)

    async def read(self) -> bytes:
        """Everything up to the end."""
        return b"".join([data async for data in self.chunks()])


class _AsyncHandle(Handle):
    async def _send(self, data: bytes | str) -> None:
        text = data.encode(self._running.encoding) if isinstance(data, str) else data
        self._dispatcher.write(self._running, text)
        await until(self._dispatcher, self._running, self._flushed)

    async def wait(self, timeout: float | None = None) -> Result:
        """Waits for the end and collects what nobody has read of the output.

        Raises `SandboxError` with the code "timeout" if it takes longer than `timeout` seconds;
        the command goes on then.
        """
        self._dispatcher.collect(self._running)
        if not await until(self._dispatcher, self._running, self._ended, timeout):
            raise SandboxError(f"the command still runs after {timeout} s", code="timeout")
        return self._dispatcher.result(self._running)


class AsyncProcess(_AsyncHandle):
    """A command that runs while the program goes on."""

    @property
    def stdout(self) -> AsyncStream:
        """Standard output, live."""
        return AsyncStream(self._dispatcher, self._running, self._find("stdout"))

    @property
    def stderr(self) -> AsyncStream:
        """Standard error, live."""
        return AsyncStream(self._dispatcher, self._running, self._find("stderr"))

    async def stream(self) -> AsyncIterator[tuple[str, bytes]]:
        """Both streams as they come: ("stdout" or "stderr", bytes), until both have ended."""
        while live := self._live():
            await until(self._dispatcher, self._running, _any_ready(live))
            for name, data in self._taken(live):
                yield name, data

    async def write(self, data: bytes | str) -> None:
        """Gives the command something to read; returns when its pipe has taken it all."""
        await self._send(data)

    def close_stdin(self) -> None:
        """Ends what the command reads."""
        self._dispatcher.write(self._running, b"", close=True)


class AsyncTerminal(_AsyncHandle):
    """A command on a terminal of its own. pty(7)"""

    async def send(self, data: bytes | str) -> None:
        """Types something."""
        await self._send(data)

    async def receive(self, timeout: float | None = None) -> bytes:
        """What the terminal shows next; empty once the command has ended and all was shown.

        Raises `SandboxError` with the code "timeout" if nothing comes for `timeout` seconds.
        """
        return await self.output.receive(timeout)

    @property
    def output(self) -> AsyncStream:
        """All that the terminal shows."""
        return AsyncStream(self._dispatcher, self._running, self._find("output"))

    def resize(self, rows: int, columns: int) -> None:
        """Changes its size, in characters; the command is told by SIGWINCH."""
        self._dispatcher.resize(self._running, rows, columns)


def _any_ready(outputs: list[Output]) -> Callable[[], bool]:
    return lambda: any(output.ready for output in outputs)
