"""On a terminal the command behaves as it would without casemate."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import COMMAND
from tests.support.perimeter import Perimeter
from tests.support.terminal import Terminal

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

Open = Callable[..., Terminal]


@pytest.fixture
def run(perimeter: Perimeter) -> Iterator[Open]:
    """Opens a terminal with `casemate run -- COMMAND` in it."""
    opened: list[Terminal] = []

    def start(*command: str, env: dict[str, str] | None = None, **settings: Any) -> Terminal:
        settings["env"] = os.environ | {"TERM": "xterm"} | (env or {})
        line = perimeter.line(*command, options=settings.pop("options", ()))
        opened.append(Terminal(line, **settings))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.__exit__()


def test_streams_are_a_terminal(run: Open) -> None:
    """All three standard streams are the terminal, which is the controlling one."""
    terminal = run(
        "python3",
        "-c",
        "import os; print([os.isatty(n) for n in (0, 1, 2)], os.ttyname(0), "
        "os.tcgetpgrp(0) == os.getpgrp(), os.isatty(os.open('/dev/tty', os.O_RDWR)))",
    )

    terminal.expect("[True, True, True] /dev/pts/0 True True")
    assert terminal.status() == 0
    assert terminal.restored()


def test_window_size(run: Open) -> None:
    """The command's terminal has the caller's size and follows it, with a signal each time."""
    terminal = run(
        "python3",
        "-uc",
        "import os, signal\n"
        "def show(*_): print('size', *os.get_terminal_size(0), 'end')\n"
        "signal.signal(signal.SIGWINCH, show); show()\n"
        "while True: signal.pause()",
        rows=33,
        columns=111,
    )
    terminal.expect("size 111 33 end")
    terminal.resize(50, 132)
    terminal.expect("size 132 50 end")
    terminal.type(b"\x03")

    assert terminal.status() == 130


def test_interrupt(run: Open) -> None:
    """Ctrl-C ends the command with status 130 and leaves the terminal as it was."""
    terminal = run("sh", "-c", "echo up; exec sleep 1000")
    terminal.expect("up")
    terminal.type(b"\x03")

    assert terminal.status() == 130
    assert terminal.restored()


def test_interrupt_that_is_caught(run: Open) -> None:
    """A program that handles Ctrl-C goes on, and casemate with it."""
    terminal = run(
        "python3", "-uc",
        "import time\n"
        "try:\n"
        "    print('up')\n"
        "    while True: time.sleep(0.05)\n"
        "except KeyboardInterrupt: print('caught'); raise SystemExit(7)",
    )  # fmt: skip
    terminal.expect("up")
    terminal.type(b"\x03")
    terminal.expect("caught")

    assert terminal.status() == 7


def test_quit(run: Open) -> None:
    """Ctrl-\\ ends the command with status 131."""
    terminal = run("sh", "-c", "echo up; exec sleep 1000")
    terminal.expect("up")
    terminal.type(b"\x1c")

    assert terminal.status() == 131


def test_end_of_input(run: Open) -> None:
    """Ctrl-D ends what reads the terminal, after the line before it arrived."""
    terminal = run("sh", "-c", "echo up; cat; echo done")
    terminal.expect("up")
    terminal.type("line\n\x04")
    terminal.expect("line\r\nline\r\n")
    terminal.expect("done")

    assert terminal.status() == 0
    assert terminal.restored()


def test_line_editing(run: Open) -> None:
    """Erase works in line mode; echo can be switched off for a password."""
    terminal = run("sh", "-c", "echo up; read a; echo \"got <$a>\"; stty -echo; echo now; read b;"
                   "stty echo; echo \"then <$b>\"")  # fmt: skip
    terminal.expect("up")
    terminal.type("abX\x7fc\n")
    terminal.expect("got <abc>")
    terminal.expect("now")
    terminal.type("hidden\n")
    assert "hidden" not in terminal.expect("then <")
    terminal.expect("hidden>")

    assert terminal.status() == 0


WATCH = """
import os, signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)
before = None
while True:
    now = os.tcgetpgrp(0) == os.getpgrp()
    if now != before:
        print("in front" if now else "behind")
    before = now
    time.sleep(0.01)
"""


def test_job_control(run: Open, project: Path) -> None:
    """A shell inside stops, lists, continues and foregrounds its jobs."""
    (project / "watch.py").write_text(WATCH)
    terminal = run("bash", "--norc", "--noprofile", "-i", env={"PS1": "$ "})
    terminal.type("set -o monitor; PS1='ready> '\n")
    terminal.expect("ready> ")
    terminal.type("python3 -u watch.py\n")
    terminal.expect("in front")
    terminal.type("\x1a")
    terminal.expect("Stopped")
    terminal.expect("ready> ")
    terminal.type("bg\n")
    terminal.expect("behind")
    terminal.type("jobs\n")
    terminal.expect("Running")
    terminal.type("fg\n")
    terminal.expect("in front")
    terminal.type("\x03")
    terminal.expect("ready> ")
    terminal.type("echo status $?; exit 5\n")
    terminal.expect("status 130")

    assert terminal.status() == 5
    assert terminal.restored()


def test_shell_verb(perimeter: Perimeter) -> None:
    """`casemate shell` is an interactive shell in the project, and ends with its status."""
    command = [*COMMAND, "shell", "-q", "-C", str(perimeter.project)]
    env = os.environ | {"TERM": "xterm", "SHELL": "/bin/sh", "PS1": "$ "}
    with Terminal(command, env=env) as terminal:
        terminal.type("echo inside=$CASEMATE; pwd; exit 4\n")
        terminal.expect("inside=1")
        terminal.expect(str(perimeter.project))

        assert terminal.status() == 4
        assert terminal.restored()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_restored_after_the_command_was_killed(run: Open, number: int) -> None:
    """A command that dies with the terminal in raw mode does not leave it so."""
    terminal = run(
        "python3", "-uc",
        f"import os, tty; tty.setraw(0); print('raw'); os.kill(os.getpid(), {number})",
    )  # fmt: skip
    terminal.expect("raw")

    assert terminal.status() == 128 + number
    assert terminal.restored()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_restored_after_casemate_was_told_to_end(run: Open, number: int) -> None:
    """A signal to casemate reaches the command; the terminal is as it was."""
    terminal = run("python3", "-uc", "import time; print('up'); time.sleep(1000)")
    terminal.expect("up")
    terminal.process.send_signal(number)

    assert terminal.status() in (128 + number, 1 if number == signal.SIGINT else 128 + number)
    assert terminal.restored()


def test_full_screen_program(run: Open) -> None:
    """A pager draws its screen, takes keys without Enter, and gives the terminal back."""
    terminal = run("sh", "-c", "seq 500 > numbers; exec less -S numbers", env={"LESS": ""}, rows=10)
    terminal.expect("9\r\n")
    terminal.type("G")
    terminal.expect("500")
    terminal.type("q")

    assert terminal.status() == 0
    assert terminal.restored()


def test_batch_listing_of_processes(run: Open) -> None:
    """top sees the processes of the sandbox and nothing else."""
    terminal = run("top", "-b", "-n", "1")
    if terminal.status() == 127:
        pytest.skip("needs top")
    rows = [line.split() for line in terminal.seen.decode().splitlines()]

    names = {row[-1] for row in rows if row and row[0].isdecimal()}
    assert "top" in names
    assert all(name == "top" or name.startswith("casemat") for name in names)


def test_terminal_in_pipe_out(run: Open) -> None:
    """With input from the terminal and output to a pipe, each stream is what it was."""
    terminal = run(
        "sh", "-c", "[ -t 0 ] && [ ! -t 1 ] && echo up >&2; read a; echo \"<$a>\"",
        stdout=subprocess.PIPE,
    )  # fmt: skip
    terminal.expect("up")
    terminal.type("typed\n")
    assert terminal.process.stdout
    output = terminal.process.stdout.read()
    terminal.process.stdout.close()

    assert output == b"<typed>\n"
    assert terminal.status() == 0
    assert terminal.restored()


def test_pipe_in_terminal_out(run: Open) -> None:
    """With input from a pipe and output to the terminal, each stream is what it was."""
    terminal = run("sh", "-c", "[ ! -t 0 ] && [ -t 1 ] && tr a-z A-Z", stdin=subprocess.PIPE)
    assert terminal.process.stdin
    terminal.process.stdin.write(b"shout\n")
    terminal.process.stdin.close()
    terminal.expect("SHOUT")

    assert terminal.status() == 0


@pytest.mark.parametrize("streams", ["stdin", "stdout"])
def test_interrupt_with_one_stream_piped(run: Open, streams: str) -> None:
    """Ctrl-C ends the command also where only one stream is the terminal."""
    terminal = run("sh", "-c", "echo up >&2; exec sleep 1000", **{streams: subprocess.PIPE})
    terminal.expect("up")
    terminal.type(b"\x03")
    status = terminal.status()
    for pipe in (terminal.process.stdin, terminal.process.stdout):
        if pipe:
            pipe.close()

    assert status == 130


def test_terminal_that_hangs_up(perimeter: Perimeter) -> None:
    """When the terminal goes away the command is told, and everything ends."""
    terminal = Terminal([*COMMAND, *perimeter.arguments("sh", "-c", "echo up; exec sleep 1000")])
    terminal.expect("up")
    os.close(terminal.master)
    os.close(terminal.slave)

    assert terminal.process.wait(30) in (129, -1)


def test_much_output_on_a_terminal(run: Open) -> None:
    """A megabyte of lines arrives whole and in order."""
    terminal = run("seq", "150000")
    assert terminal.status() == 0

    assert terminal.seen.decode().split() == [str(n) for n in range(1, 150_001)]


def test_capped_output_on_a_terminal(run: Open) -> None:
    """A cap on output holds on a terminal too."""
    terminal = run("yes", options=("--set", "limits.output=1MiB"))

    assert terminal.status() == 137
    assert b"wrote more than 1048576 bytes" in terminal.seen
    assert terminal.restored()


def test_much_input_on_a_terminal(run: Open) -> None:
    """A paste larger than the terminal's queue arrives whole."""
    terminal = run("sh", "-c", "stty -icanon -echo; echo up; head -c 200000 | wc -c")
    terminal.expect("up")
    os.set_blocking(terminal.master, False)
    left = b"x" * 200_000
    while left:
        select.select([], [terminal.master], [], 30)
        left = left[os.write(terminal.master, left[:4096]) :]
    os.set_blocking(terminal.master, True)
    terminal.expect("200000")

    assert terminal.status() == 0
