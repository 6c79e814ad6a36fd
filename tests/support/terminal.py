"""A real terminal with a program in it, driven as a person at the keys would. pty(7)"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Any, Self

PATIENCE = 20.0
"""Seconds after which something that should have appeared is said to be missing."""


class Terminal:
    """A program on a terminal of its own, as its controlling one."""

    def __init__(
        self, command: Sequence[Any], *, rows: int = 24, columns: int = 80, **streams: Any
    ) -> None:
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.seen = b""
        self.process = subprocess.Popen(
            command,
            preexec_fn=self._take,  # noqa: PLW1509 (tests start no threads)
            **{"stdin": self.slave, "stdout": self.slave, "stderr": self.slave, **streams},
        )

    def _take(self) -> None:
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        """Change the window size; the program in the foreground gets SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str | bytes) -> None:
        """Press keys."""
        os.write(self.master, text.encode() if isinstance(text, str) else text)

    def expect(self, text: str, *, patience: float = PATIENCE) -> str:
        """Wait until the text has appeared, and forget everything up to its end."""
        wanted = text.encode()
        end = time.monotonic() + patience
        while wanted not in self.seen:
            if not select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{text!r} did not appear; the screen has {self.seen!r}")
            self._read()
        before, _, self.seen = self.seen.partition(wanted)
        return before.decode(errors="replace")

    def _read(self) -> None:
        try:
            self.seen += os.read(self.master, 65536)
        except OSError as error:
            raise AssertionError(f"the terminal hung up after {self.seen!r}") from error

    def status(self) -> int:
        """Wait for the program, drawing what it still shows; its exit status."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.02)[0]:
                self._read()
            assert time.monotonic() < end, f"still running; the screen has {self.seen!r}"
        while select.select([self.master], [], [], 0)[0]:
            self._read()
        return self.process.returncode

    def restored(self) -> bool:
        """Whether the terminal's attributes are as they were before the program."""
        return termios.tcgetattr(self.slave) == self.before
