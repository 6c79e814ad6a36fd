"""Handles on commands that run: what sync and async have in common, and the sync ones."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from casemate.errors import SandboxError
from casemate.sdk.dispatcher import Dispatcher
from casemate.sdk.result import Result
from casemate.sdk.running import Running
from casemate.sdk.streams import Lines, Output


class Handle:
    """A command in a sandbox: what can be told and asked without waiting."""

    def __init__(self, dispatcher: Dispatcher, running: Running) -> None:
        self._dispatcher = dispatcher
        self._running = running

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<{type(self).__name__} {self.id} {state}: {' '.join(self.command)}>"

    @property
    def id(self) -> int:
        """The number of the command in its sandbox."""
        return self._running.identifier

    @property
    def command(self) -> tuple[str, ...]:
        """The words of the command."""
        return self._running.command

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        self._dispatcher.running()
        return self._running.ended is None

    def send_signal(self, number: int) -> None:
        """Signals the command's process group; nothing happens if it has ended. kill(2)"""
        self._dispatcher.signal(self._running, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, for the command and every process that came of it."""
        self.send_signal(signal.SIGKILL)

    def _live(self) -> list[Output]:
        """The streams that have something to tell or have not ended."""
        return [o for o in self._running.outputs if not o.ended or o.holds]

    def _taken(self, outputs: list[Output]) -> list[tuple[str, bytes]]:
        taken = [(o.name, self._dispatcher.take(self._running, o)) for o in outputs if o.ready]
        return [(name, data) for name, data in taken if data]

    def _ended(self) -> bool:
        return self._running.ended is not None

    def _flushed(self) -> bool:
        return not self._running.pending or self._running.input_over or self._ended()

    def _find(self, name: str) -> Output:
        return next(output for output in self._running.outputs if output.name == name)


class Stream:
    """One output stream as it comes: iterate for lines of text, or take the bytes.

    A command that writes faster than it is read waits, as with any pipe.
    """

    def __init__(self, dispatcher: Dispatcher, running: Running, output: Output) -> None:
        self._dispatcher = dispatcher
        self._running = running
        self._output = output

    def __iter__(self) -> Iterator[str]:
        lines = Lines(self._running.encoding)
        for data in self.chunks():
            yield from lines.feed(data)
        yield from lines.feed(b"")

    def chunks(self) -> Iterator[bytes]:
        """The bytes in pieces, each as soon as it is there."""
        while data := self.receive():
            yield data

    def receive(self, timeout: float | None = None) -> bytes:
        """The next bytes, at least one; empty at the end.

        Raises `SandboxError` with the code "timeout" if none come for `timeout` seconds.
        """
        if not self._dispatcher.until(self._running, lambda: self._output.ready, timeout):
            raise SandboxError("nothing came in time", code="timeout")
        return self._dispatcher.take(self._running, self._output)

    def read(self) -> bytes:
        """Everything up to the end."""
        return b"".join(self.chunks())


class Process(Handle):
    """A command that runs while the program goes on. Safe to use from several threads."""

    @property
    def stdout(self) -> Stream:
        """Standard output, live."""
        return Stream(self._dispatcher, self._running, self._find("stdout"))

    @property
    def stderr(self) -> Stream:
        """Standard error, live."""
        return Stream(self._dispatcher, self._running, self._find("stderr"))

    def stream(self) -> Iterator[tuple[str, bytes]]:
        """Both streams as they come: ("stdout" or "stderr", bytes), until both have ended."""
        while live := self._live():
            self._dispatcher.until(self._running, lambda: any(o.ready for o in live))
            yield from self._taken(live)

    def write(self, data: bytes | str) -> None:
        """Gives the command something to read (it must have been started with `stdin=True`).

        Returns when the command's pipe has taken it all.
        """
        text = data.encode(self._running.encoding) if isinstance(data, str) else data
        self._dispatcher.write(self._running, text)
        self._dispatcher.until(self._running, self._flushed)

    def close_stdin(self) -> None:
        """Ends what the command reads."""
        self._dispatcher.write(self._running, b"", close=True)

    def wait(self, timeout: float | None = None) -> Result:
        """Waits for the end and collects what nobody has read of the output.

        Raises `SandboxError` with the code "timeout" if it takes longer than `timeout` seconds;
        the command goes on then.
        """
        self._dispatcher.collect(self._running)
        if not self._dispatcher.until(self._running, self._ended, timeout):
            raise SandboxError(f"the command still runs after {timeout} s", code="timeout")
        return self._dispatcher.result(self._running)


class Terminal(Handle):
    """A command on a terminal of its own. pty(7)"""

    def send(self, data: bytes | str) -> None:
        """Types something."""
        text = data.encode(self._running.encoding) if isinstance(data, str) else data
        self._dispatcher.write(self._running, text)
        self._dispatcher.until(self._running, self._flushed)

    def receive(self, timeout: float | None = None) -> bytes:
        """What the terminal shows next; empty once the command has ended and all was shown.

        Raises `SandboxError` with the code "timeout" if nothing comes for `timeout` seconds.
        """
        return self.output.receive(timeout)

    @property
    def output(self) -> Stream:
        """All that the terminal shows."""
        return Stream(self._dispatcher, self._running, self._find("output"))

    def resize(self, rows: int, columns: int) -> None:
        """Changes its size, in characters; the command is told by SIGWINCH."""
        self._dispatcher.resize(self._running, rows, columns)

    def wait(self, timeout: float | None = None) -> Result:
        """Waits for the end; `stdout_bytes` is what was shown and not received.

        Raises `SandboxError` with the code "timeout" if it takes longer than `timeout` seconds.
        """
        self._dispatcher.collect(self._running)
        if not self._dispatcher.until(self._running, self._ended, timeout):
            raise SandboxError(f"the command still runs after {timeout} s", code="timeout")
        return self._dispatcher.result(self._running)
