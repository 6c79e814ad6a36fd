"""Arguments, environment, directory and mask reach the command as they are."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.support.command_line import COMMAND
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

SHOW = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"


def test_odd_arguments(perimeter: Perimeter) -> None:
    """Empty strings, newlines, options, bytes that are not UTF-8: all arguments arrive."""
    words = [
        b"",
        b"a b",
        b"new\nline",
        b"--",
        b"-C",
        b"--help",
        b"\xff\xfe",
        "ä→".encode(),
        b"'\"$`\\",
    ]
    result = perimeter.run("python3", "-c", SHOW, *words)

    assert result.stdout.split(b"\0") == words


def test_a_megabyte_of_arguments(perimeter: Perimeter) -> None:
    """1 MiB of arguments, more than ten thousand of them, arrive."""
    words = [f"{n:0100d}" for n in range(10_500)]
    result = perimeter.run("python3", "-c", SHOW, *words)

    assert result.stdout.decode().split("\0") == words


def test_a_large_argument(perimeter: Perimeter) -> None:
    """One argument as long as the kernel allows arrives."""
    word = "x" * ((128 << 10) - 1)

    assert perimeter.output("python3", "-c", SHOW, word) == word


def test_a_large_environment(perimeter: Perimeter) -> None:
    """Half a megabyte of variables that the policy passes on arrives."""
    variables = {f"LARGE_{n}": "v" * 1000 for n in range(500)}
    seen = perimeter.python(
        "import os; print(sum(len(v) for k, v in os.environ.items() if k.startswith('LARGE_')))",
        options=("--set", 'environment.pass=["LARGE_*"]'),
        env=os.environ | variables,
    )

    assert seen == "500000\n"


def test_only_listed_variables_come_along(perimeter: Perimeter) -> None:
    """A variable that the policy does not name stays outside."""
    env = os.environ | {"AWS_SECRET_ACCESS_KEY": "hunter2", "LC_TIME": "C"}
    seen = perimeter.output("env", env=env)

    assert "hunter2" not in seen
    assert "LC_TIME=C" in seen.splitlines()
    assert "CASEMATE=1" in seen.splitlines()


def test_the_working_directory(perimeter: Perimeter) -> None:
    """The command starts where casemate did, also below the project's root and with odd names."""
    (perimeter.project / "casemate.toml").write_text("version = 1\n")
    deep = perimeter.project / "src/a b\nc"
    deep.mkdir()
    here = perimeter.output("pwd", cwd=deep, options=("-C", "."))
    root = perimeter.output("sh", "-c", "ls ../../README.md", cwd=deep, options=("-C", "."))

    assert here == f"{deep}\n"
    assert root == "../../README.md\n"


def test_a_working_directory_that_is_not_utf8(perimeter: Perimeter) -> None:
    """A directory's name may be any bytes."""
    odd = os.fsencode(perimeter.project) + b"/\xff\xfe"
    os.mkdir(odd)
    result = perimeter.run("sh", "-c", "pwd; touch here", cwd=odd, options=("-C", "."))

    assert result.stdout == odd + b"\n"
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002, 0])
def test_the_file_mode_mask(perimeter: Perimeter, mask: int) -> None:
    """umask(2) is that of the caller."""
    seen = perimeter.script("umask; : > made; stat -c %a made", umask=mask)

    assert seen.split() == [f"{mask:04o}", f"{0o666 & ~mask:o}"]


@pytest.mark.parametrize("mode", ["overlay", "direct"])
def test_odd_file_names(perimeter: Perimeter, mode: str) -> None:
    """Names with spaces, newlines and bytes that are not UTF-8 are read, written and kept."""
    odd = [
        b"a b",
        b"new\nline",
        b"\xff\xfe",
        b"-rf",
        "\u202e".encode(),
        b"'\"$`\\",
        b"*",
        b"x" * 255,
    ]
    for name in odd:
        Path(os.fsdecode(os.fsencode(perimeter.project) + b"/src/" + name)).write_bytes(name)
    result = perimeter.run(
        "python3",
        "-c",
        "import os\n"
        "for n in os.listdir(b'src'):\n"
        "    if n != b'app.py':\n"
        "        assert open(b'src/' + n, 'rb').read() == n; open(b'tests/' + n, 'wb').write(n)\n"
        "        os.remove(b'src/' + n)",
        options=("--workspace", mode),
    )
    assert result.returncode == 0, result.stderr

    if mode == "direct":
        tests = os.fsencode(perimeter.project) + b"/tests"
        assert {*os.listdir(tests)} == {*odd, b"test_app.py"}
        return
    records = perimeter.changes()
    made = {os.fsencode(name) for name, record in records.items() if record.type == 1}
    gone = {os.fsencode(name) for name, record in records.items() if record.type == 5}
    assert made == {b"tests/" + name for name in odd}
    assert gone == {b"src/" + name for name in odd}


def test_ignored_signals_of_the_caller(perimeter: Perimeter) -> None:
    """The command starts with signals at their defaults, whatever the caller blocked or ignored."""
    words = perimeter.arguments("grep", "-E", "SigBlk|SigIgn", "/proc/self/status")
    seen = subprocess.run(
        ["sh", "-c", "trap '' PIPE USR1; exec \"$@\"", "sh", *COMMAND, *words],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )

    assert [line.split()[1] for line in seen.stdout.splitlines()] == ["0000000000000000"] * 2
