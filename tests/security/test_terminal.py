"""Promise: nothing can be typed into the user's terminal, nor more be had of it than was given."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
import termios
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.security.arena import Arena, python, shell
from tests.support.command_line import COMMAND

PUSH = """
import fcntl, os, struct, sys, termios
done = []
for number in (0, 1, 2):
    for character in b"echo pwned\\n":
        try: fcntl.ioctl(number, termios.TIOCSTI, bytes([character])); done.append("TIOCSTI")
        except OSError: pass
    for name, call, argument in (("TIOCLINUX", 0x541C, bytes([3])), ("TIOCCONS", 0x541D, 0),
                                 ("TIOCSETD", 0x5423, struct.pack("i", 0))):
        try: fcntl.ioctl(number, call, argument); done.append(name)
        except OSError: pass
for path in ("/dev/tty", "/proc/self/fd/0", "/dev/console"):
    try:
        descriptor = os.open(path, os.O_RDWR)
        for character in b"echo pwned\\n":
            fcntl.ioctl(descriptor, termios.TIOCSTI, bytes([character]))
        done.append(path)
    except OSError: pass
print("REPORT", sorted(set(done)), flush=True)
"""


class Terminal:
    """A terminal of the test's own; the far end stands for the user."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()

    def run(
        self,
        command: Sequence[str | Path],
        arena: Arena,
        *,
        streams: str = "012",
        timeout: float = 30,
    ) -> str:
        """Run a command as the leader of a session on the terminal; what it printed.

        `streams` are those connected to the terminal; the others are pipes or empty.
        """

        def control() -> None:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

        given = {
            "stdin": self.slave if "0" in streams else subprocess.DEVNULL,
            "stdout": self.slave if "1" in streams else subprocess.PIPE,
            "stderr": self.slave if "2" in streams else subprocess.DEVNULL,
        }
        process = subprocess.Popen(
            [*map(str, command)],
            cwd=arena.project,
            preexec_fn=control,  # noqa: PLW1509 - no thread is running yet
            **given,  # type: ignore[call-overload]
        )
        shown = b""
        deadline = time.monotonic() + timeout
        with process:
            try:
                while process.poll() is None and time.monotonic() < deadline:
                    shown += self.read(0.05)
                assert process.poll() is not None, "it hangs"
            finally:
                process.kill()
            if process.stdout is not None:
                shown += process.stdout.read()
        return (shown + self.read(0.05)).decode(errors="backslashreplace")

    def read(self, seconds: float) -> bytes:
        """What the terminal shows by now."""
        data = b""
        while select.select([self.master], [], [], seconds)[0]:
            try:
                data += os.read(self.master, 65536)
            except OSError:
                break
            seconds = 0
        return data

    def typed(self) -> bytes:
        """What waits to be read from the terminal as if the user had typed it."""
        attributes = termios.tcgetattr(self.slave)
        attributes[3] &= ~termios.ICANON
        termios.tcsetattr(self.slave, termios.TCSANOW, attributes)
        os.set_blocking(self.slave, False)
        try:
            return os.read(self.slave, 1000)
        except BlockingIOError:
            return b""
        finally:
            os.set_blocking(self.slave, True)

    def close(self) -> None:
        """Hang up."""
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """A terminal; a signal of its hanging up is nobody's business here."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    made = Terminal()
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            made.close()
        signal.signal(signal.SIGHUP, before)


def run(*command: str | Path) -> list[str | Path]:
    """The command line of `casemate run`."""
    return [*COMMAND, "run", "-q", "--", *command]


@pytest.mark.parametrize("streams", ["012", "0", "02", "2"])
def test_e38_nothing_is_typed(arena: Arena, terminal: Terminal, streams: str) -> None:
    """No character gets into the terminal's input, whichever streams are connected to it."""
    push = python(PUSH)
    legacy = Path("/proc/sys/dev/tty/legacy_tiocsti")
    possible = os.getuid() == 0 or not legacy.exists() or legacy.read_text().strip() == "1"

    bare = terminal.run(push, arena, streams=streams)
    typed_bare = terminal.typed()
    inside = terminal.run(run(*push), arena, streams=streams)
    typed = terminal.typed()

    if possible:
        assert "TIOCSTI" in bare and b"pwned" in typed_bare
    if streams != "2":
        assert "REPORT []" in inside
    assert b"pwned" not in typed


def test_one_direction_stays_one(arena: Arena, terminal: Terminal) -> None:
    """A terminal given as input cannot be written to, nor reopened for it."""
    write = python(
        "import os\n"
        "for number, path in ((0, ''), (3, '/proc/self/fd/0'), (4, '/dev/tty'), (5, '/dev/stdin')):\n"
        "    try: os.write(os.open(path, os.O_RDWR) if path else number, b'WRITTEN')\n"
        "    except OSError: pass\n"
    )

    bare = terminal.run(write, arena, streams="0")
    inside = terminal.run(run(*write), arena, streams="0")

    assert "WRITTEN" in bare
    assert "WRITTEN" not in inside


def test_the_terminal_comes_back_as_it_was(arena: Arena, terminal: Terminal) -> None:
    """Whatever modes the command sets, the terminal has its own again afterwards."""
    before = termios.tcgetattr(terminal.slave)
    spoil = shell("stty raw -echo -isig; stty intr X; printf done")

    terminal.run(spoil, arena)
    bare = termios.tcgetattr(terminal.slave)
    termios.tcsetattr(terminal.slave, termios.TCSANOW, before)
    terminal.run(run(*spoil), arena)

    assert bare != before
    assert termios.tcgetattr(terminal.slave) == before


def test_a_flood_in_the_background(arena: Arena, terminal: Terminal) -> None:
    """A process that goes on writing when the command has ended keeps nobody waiting."""
    flood = shell("yes & yes & sleep 0.2; exit 0")

    shown = terminal.run(run(*flood), arena, timeout=25)

    assert "y" in shown


def test_the_device_of_the_terminal(arena: Arena, terminal: Terminal) -> None:
    """The user's terminal cannot be found under any name, nor other terminals of the host."""
    look = shell("ls /dev/pts; echo end; tty; ls -l /proc/self/fd")

    inside = terminal.run(run(*look), arena)

    assert os.ttyname(terminal.slave) not in inside or "/dev/pts/0" in os.ttyname(terminal.slave)
    assert {*inside.partition("end")[0].split()} == {"0", "ptmx"}
