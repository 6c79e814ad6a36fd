"""Bytes go through standard input and output unchanged, whatever they are and however many."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
from tests.support.command_line import COMMAND
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

SIZE = 100 << 20
COUNT = (
    "import hashlib, sys; h = hashlib.sha256(); n = 0\n"
    "while b := sys.stdin.buffer.read(1 << 20): h.update(b); n += len(b)\n"
    "print(n, h.hexdigest())\n"
)
PRODUCE = (
    "import os, sys, hashlib; h = hashlib.sha256(); block = os.urandom(1 << 20)\n"
    f"for n in range({SIZE >> 20}):\n"
    "    b = n.to_bytes(4, 'big') + block[4:]; h.update(b); os.write(1, b) == len(b) or exit(1)\n"
    "sys.stderr.write(h.hexdigest())\n"
)
CLOSING = (
    "import os, sys; [os.close(n) for n in eval(sys.argv[1])]; os.execvp(sys.argv[2], sys.argv[2:])"
)


def test_a_hundred_megabytes_out(perimeter: Perimeter) -> None:
    """100 MiB written to standard output arrive whole and unchanged."""
    process = perimeter.popen("python3", "-c", PRODUCE, stdout=-1, stderr=-1)
    assert process.stdout and process.stderr
    digest, size = hashlib.sha256(), 0
    while block := process.stdout.read(1 << 20):
        digest.update(block)
        size += len(block)

    assert process.stderr.read().decode() == digest.hexdigest()
    assert (size, process.wait()) == (SIZE, 0)
    process.stdout.close()
    process.stderr.close()


def test_a_hundred_megabytes_in(perimeter: Perimeter) -> None:
    """100 MiB written to standard input arrive whole and unchanged."""
    process = perimeter.popen("python3", "-c", COUNT, stdin=-1, stdout=-1)
    assert process.stdin and process.stdout
    digest, block = hashlib.sha256(), bytearray(os.urandom(1 << 20))
    for number in range(SIZE >> 20):
        block[:4] = number.to_bytes(4, "big")
        digest.update(block)
        process.stdin.write(block)
    output, _ = process.communicate()

    assert output.decode().split() == [str(SIZE), digest.hexdigest()]


def test_every_byte_value_both_ways(perimeter: Perimeter) -> None:
    """All byte values pass through a pipe in either direction."""
    every = bytes(range(256)) * 257

    assert perimeter.run("cat", input=every).stdout == every


def test_errors_are_apart_from_output(perimeter: Perimeter) -> None:
    """Standard error and standard output are not mixed up."""
    result = perimeter.run("sh", "-c", "echo out; echo err >&2")

    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_output_into_one_pipe_keeps_its_order(perimeter: Perimeter) -> None:
    """With both on one pipe, what was written first comes first."""
    result = perimeter.run(
        "sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; done", stderr=subprocess.STDOUT
    )

    assert result.stdout.split() == [b"o1", b"e1", b"o2", b"e2", b"o3", b"e3"]


def test_a_reader_that_goes_away(perimeter: Perimeter) -> None:
    """A command whose reader leaves dies of SIGPIPE, as it would without casemate."""
    read, write = os.pipe()
    process = perimeter.popen("yes", stdout=write)
    os.close(write)
    os.read(read, 10)
    os.close(read)

    assert process.wait(30) == 128 + 13


def test_files_as_streams(perimeter: Perimeter) -> None:
    """A file as input is read from its offset, and one as output is appended to."""
    source, target = perimeter.home / "in", perimeter.home / "out"
    source.write_bytes(b"0123456789")
    target.write_bytes(b"before ")
    with source.open("rb", buffering=0) as stdin, target.open("ab") as stdout:
        stdin.seek(4)
        assert perimeter.run("cat", stdin=stdin, stdout=stdout).returncode == 0

    assert target.read_bytes() == b"before 456789"


def test_input_from_nowhere(perimeter: Perimeter) -> None:
    """Standard input from /dev/null is at its end at once."""
    assert perimeter.output("cat") == ""


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
def test_closed_streams(perimeter: Perimeter, closed: tuple[int, ...]) -> None:
    """A stream that is closed for casemate is /dev/null inside, never some other file."""
    probe = "import os; open('seen', 'w').write(' '.join(os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2)))"
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CLOSING,
            repr(closed),
            *COMMAND,
            *perimeter.arguments("python3", "-c", probe),
        ],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = perimeter.content("seen").decode().split()

    assert {seen[number] for number in closed} == {"/dev/null"}


def test_errors_with_closed_streams(perimeter: Perimeter) -> None:
    """With nowhere to write to, casemate still ends with its status and no other noise."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSING, "(0, 1, 2)", *COMMAND, "run", "--no-such-option"],
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (125, b"", b"")
    assert perimeter.sessions() == ()


def test_no_other_descriptor_comes_along(perimeter: Perimeter) -> None:
    """Descriptors that casemate itself inherited do not reach the command."""
    with open("/etc/hostname") as secret:
        seen = perimeter.output("sh", "-c", "ls -l /proc/self/fd", pass_fds=(secret.fileno(),))

    assert "hostname" not in seen
    assert len([line for line in seen.splitlines() if "->" in line]) == 4
