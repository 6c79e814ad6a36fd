"""One command in a sandbox, as the dispatcher keeps it: descriptors, pending input, how it ended."""

from __future__ import annotations

import os
import select
from collections.abc import Sequence

from casemate.sdk.result import Result, result_of
from casemate.sdk.streams import Output
from casemate.supervisor.protocol import Exit


class Running:
    """A command from its start to its end. Everything happens under the dispatcher's lock."""

    __slots__ = (
        "cap",
        "command",
        "encoding",
        "ended",
        "identifier",
        "input",
        "input_closing",
        "input_over",
        "outputs",
        "pending",
        "registered",
        "taken",
    )

    def __init__(self, command: Sequence[str], encoding: str, cap: int) -> None:
        self.command = tuple(command)
        self.encoding = encoding
        self.cap = cap
        """Bytes kept of each stream for the result."""
        self.identifier = 0
        self.outputs: list[Output] = []
        self.input = -1
        """Where `pending` is written to; the terminal itself for a command that has one."""
        self.pending = memoryview(b"")
        self.input_closing = False
        """Whether the input ends with what is pending."""
        self.input_over = False
        """Whether the input is to be closed now."""
        self.ended: Exit | None = None
        self.taken: Result | None = None
        self.registered: dict[int, int] = {}

    def interests(self) -> dict[int, int]:
        """The descriptors to wait on now, and for what. epoll(7)"""
        wanted = {
            output.descriptor: select.EPOLLIN
            for output in self.outputs
            if not output.ended and not output.paused
        }
        if self.pending and self.input >= 0 and not self.input_over:
            wanted[self.input] = wanted.get(self.input, 0) | select.EPOLLOUT
        return wanted

    def ready(self, descriptor: int, events: int) -> None:
        """Reads from, or writes to, a descriptor that epoll has reported."""
        if events & ~select.EPOLLOUT:
            for output in self.outputs:
                if output.descriptor == descriptor and not output.ended:
                    output.fill()
        if descriptor == self.input and events & ~select.EPOLLIN:
            self.feed()

    def feed(self) -> None:
        """Writes what is pending, as much as the command takes."""
        try:
            written = os.write(self.input, self.pending)
        except BlockingIOError:
            return
        except OSError:
            # Nobody reads it any more; the command may well succeed all the same.
            self.pending = memoryview(b"")
            self.input_over = True
            return
        self.pending = self.pending[written:]
        self.input_over = self.input_closing and not self.pending

    def write(self, data: bytes, *, close: bool) -> None:
        """Adds to what is pending."""
        if self.input < 0 or self.input_closing:
            return
        self.pending = memoryview(bytes(self.pending) + data)
        self.input_closing = close
        if self.pending:
            self.feed()
        else:
            self.input_over = close

    def close_input(self) -> None:
        """Ends standard input. A terminal stays: the same descriptor is its output."""
        if self.input >= 0 and all(self.input != output.descriptor for output in self.outputs):
            os.close(self.input)
        self.input = -1

    def collect(self) -> None:
        """From now on everything is read: somebody waits for the end."""
        for output in self.outputs:
            output.collecting = True

    def finish(self, ended: Exit) -> None:
        """Takes in how it ended, and what it wrote last."""
        self.ended = ended
        for output in self.outputs:
            if not output.ended:
                output.drain()

    def close(self) -> None:
        """Closes every descriptor; to be called when none is registered any more."""
        self.close_input()
        for output in self.outputs:
            output.close()

    def result(self) -> Result:
        """The result, made once: it takes what the streams still hold."""
        if self.taken is None:
            assert self.ended is not None
            streams = [output.take() for output in self.outputs]
            self.taken = result_of(
                self.command,
                self.ended,
                streams[0] if streams else b"",
                streams[1] if len(streams) > 1 else b"",
                truncated=any(output.truncated for output in self.outputs),
                encoding=self.encoding,
            )
        return self.taken
