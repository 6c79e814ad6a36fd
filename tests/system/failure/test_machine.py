"""Machines that lack something: a clear error, nothing lost, nothing left."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support import capabilities
from tests.support.perimeter import Perimeter, Watched

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

BARE = ("--waive", "isolation", "--waive", "hide", "--waive", "protect")


@pytest.fixture
def watch(perimeter: Perimeter) -> Iterator[Callable[..., Watched]]:
    """Starts runs whose every process is accounted for, and ended with the test."""
    started: list[Watched] = []

    def start(*command: str, options: tuple[str, ...] = (), **settings: Any) -> Watched:
        started.append(Watched(perimeter.arguments(*command, options=options), **settings))
        return started[-1]

    yield start
    for watched in started:
        watched.end()


@pytest.fixture
def state(perimeter: Perimeter) -> Path:
    """The state directory, made and used once."""
    assert perimeter.run("true").returncode == 0
    return perimeter.state


def test_full_disk_at_the_start(perimeter: Perimeter, state: Path) -> None:
    """Without room for the session's record nothing starts, and the error says where to make it."""
    for directory, _, _ in os.walk(state):
        os.chmod(directory, 0o700)
    result = perimeter.run("touch", "ran", lacking=("tiny", state))

    assert result.returncode == 125
    assert b"No space left on device" in result.stderr
    assert str(state).encode() in result.stderr and b"XDG_STATE_HOME" in result.stderr


def test_full_disk_at_the_end(
    perimeter: Perimeter, state: Path, watch: Callable[..., Watched]
) -> None:
    """Without room for the changes casemate says so at once, and a process keeps them."""
    said = perimeter.home / "said"
    with said.open("wb") as errors:
        watched = watch(
            *("sh", "-c", "head -c 300000 /dev/urandom > new"),
            lacking=("small", state, "100k"),
            stderr=errors,
        )

    assert watched.status() == 125
    assert not watched.gone(timeout=1), "nobody keeps the changes"
    text = said.read_text()
    assert "the changes are not saved yet: No space left on device" in text
    assert "free some space" in text


def test_room_is_made_in_time(perimeter: Perimeter, state: Path) -> None:
    """Changes that did not fit are saved as soon as there is room."""
    script = (
        'head -c 60000 /dev/zero > "$0/ballast"; "$@"; echo $?; rm "$0/ballast";'
        'for i in $(seq 300); do for f in "$0"/sessions/*/changes; do'
        ' [ "$(tail -c 1 "$f")" = . ] && wc -c < "$f" && exit; done; sleep 0.1; done'
    )
    line = perimeter.line("sh", "-c", "head -c 50000 /dev/urandom > new")
    output = perimeter.outside(
        "sh", "-c", script, str(state), *line, lacking=("small", state, "100k")
    )

    status, size = output.split()
    assert status == "125"
    assert int(size) > 50_000


def test_read_only_state(perimeter: Perimeter, state: Path) -> None:
    """A state directory that cannot be written is named."""
    result = perimeter.run("true", lacking=("readonly", state))

    assert result.returncode == 125
    assert b"Read-only file system" in result.stderr and str(state).encode() in result.stderr


def test_read_only_home(perimeter: Perimeter) -> None:
    """So is one that cannot be made at all."""
    result = perimeter.run("true", lacking=("readonly", perimeter.home))

    assert result.returncode == 125
    assert b"error: cannot keep the session" in result.stderr
    assert b"XDG_STATE_HOME" in result.stderr


def test_no_shared_memory_directory(perimeter: Perimeter) -> None:
    """The sandbox has its own /dev/shm, whatever the host's is like."""
    result = perimeter.run(
        "sh", "-c", "echo shared > /dev/shm/x && cat /dev/shm/x", lacking=("empty", "/dev/shm")
    )

    assert result.stdout == b"shared\n", result.stderr


def test_covered_proc(perimeter: Perimeter) -> None:
    """Where parts of /proc are covered, as in containers, the error names the way out.

    Root needs no unobstructed /proc, and is not stopped.
    """
    result = perimeter.run("true", lacking=("cover", "/proc/version"))

    if os.geteuid() == 0:
        assert result.returncode == 0, result.stderr
        return
    assert result.returncode == 125
    assert b"mount file system proc" in result.stderr and b"systempaths" in result.stderr
    assert perimeter.sessions() == ()


def test_no_landlock(perimeter: Perimeter) -> None:
    """Namespaces hold the files without Landlock."""
    secret = perimeter.home / "secret"
    secret.write_text("hunter2")
    result = perimeter.run("cat", str(secret), "README.md", lacking=("without", "landlock"))

    assert result.stdout == b"# A project\n"
    assert b"No such file" in result.stderr


@pytest.mark.needs("ordinary user")
class TestWithoutNamespaces:
    """A host that refuses user namespaces."""

    lacking = ("without", "namespaces")

    def test_overlay(self, perimeter: Perimeter) -> None:
        """There is no copy-on-write layer: the run stops and names the modes that remain."""
        result = perimeter.run("true", lacking=self.lacking)

        assert result.returncode == 125
        assert b"refuses namespaces" in result.stderr
        assert b'workspace.mode = "direct"' in result.stderr and b"doctor" in result.stderr
        assert perimeter.sessions() == ()

    def test_not_waived(self, perimeter: Perimeter) -> None:
        """What cannot be held stops the launch by name until it is waived."""
        result = perimeter.run("true", options=("--workspace", "direct"), lacking=self.lacking)

        assert result.returncode == 125
        assert all(word in result.stderr for word in (b"isolation", b"protect", b"waive = ["))

    def test_hidden_file(self, perimeter: Perimeter) -> None:
        """A file that should be hidden and cannot be stops the launch."""
        options = ("--workspace", "readonly", "--waive", "isolation")
        result = perimeter.run("true", options=options, lacking=self.lacking)

        assert result.returncode == 125
        assert b"`.env`" in result.stderr and b'waive = ["hide"]' in result.stderr

    def test_read_only(self, perimeter: Perimeter) -> None:
        """The weaker mode reads the project and nothing of the home, and writes neither."""
        secret = perimeter.home / "secret"
        secret.write_text("hunter2")
        script = (
            f"cat README.md; cat {secret}; echo x > new; echo y > {perimeter.home}/new;"
            "echo z > $HOME/mine; cat $HOME/mine; echo t > $TMPDIR/t && echo tmp; exit 3"
        )
        options = ("--workspace", "readonly", *BARE)
        result = perimeter.run("sh", "-c", script, options=options, lacking=self.lacking)

        assert result.stdout.split(b"\n") == [b"# A project", b"z", b"tmp", b""], result.stderr
        assert result.returncode == 3
        assert not (perimeter.project / "new").exists()
        assert not (perimeter.home / "new").exists()

    def test_direct(self, perimeter: Perimeter, watch: Callable[..., Watched]) -> None:
        """In direct mode the project is written live, and nothing else is; all processes end."""
        script = (
            f"echo x > new; echo y > {perimeter.home}/new; (setsid sleep 1000 &); sleep 1000 &"
            f"kill -0 {os.getpid()} 2>/dev/null || echo no > signal"
        )
        options = ("--workspace", "direct", *BARE)
        watched = watch("sh", "-c", script, options=options, lacking=self.lacking, stderr=-3)

        assert watched.status() == 0
        assert watched.gone()
        assert (perimeter.project / "new").read_text() == "x\n"
        assert (perimeter.project / "signal").read_text() == "no\n"
        assert not (perimeter.home / "new").exists()
        assert not [name for name in os.listdir(perimeter.home / ".run") if "casemate" in name]

    def test_killed(self, perimeter: Perimeter, watch: Callable[..., Watched]) -> None:
        """kill -9 of casemate ends every process here too, and removes the private directory."""
        script = "(setsid sleep 1000 &); sleep 1000 & echo > up; exec sleep 1000"
        options = ("--workspace", "direct", *BARE)
        watched = watch("sh", "-c", script, options=options, lacking=self.lacking, stderr=-3)
        while not (perimeter.project / "up").exists():
            time.sleep(0.01)
        watched.signal(signal.SIGKILL)

        assert watched.gone()
        assert not [name for name in os.listdir(perimeter.home / ".run") if "casemate" in name]

    def test_network(self, perimeter: Perimeter) -> None:
        """No socket can be made."""
        code = "import socket; socket.socket()"
        options = ("--workspace", "readonly", *BARE)
        result = perimeter.run("python3", "-c", code, options=options, lacking=self.lacking)

        assert result.returncode == 1 and b"PermissionError" in result.stderr

    def test_nor_landlock(self, perimeter: Perimeter) -> None:
        """With neither namespaces nor Landlock nothing can be held, and nothing starts."""
        result = perimeter.run(
            "touch", "ran",
            options=("--workspace", "direct", *BARE),
            lacking=(*self.lacking, "without", "landlock"),
        )  # fmt: skip

        assert result.returncode == 125
        assert b"Landlock" in result.stderr
        assert not (perimeter.project / "ran").exists()


@pytest.mark.skipif(bool(capabilities.missing("root")), reason="needs root")
def test_root_without_namespaces(perimeter: Perimeter) -> None:
    """Root that may not make namespaces is not confined by less: nothing starts."""
    options = ("--workspace", "direct", *BARE)
    result = perimeter.run("true", options=options, lacking=("without", "namespaces"))

    assert result.returncode == 125
    assert b"root" in result.stderr and b"CAP_SYS_ADMIN" in result.stderr
