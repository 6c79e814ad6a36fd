"""However casemate ends, the sandbox ends with it and what the agent wrote is kept."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.perimeter import Perimeter, Watched, control_groups, descendants, mounts_below

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

FILES = 40
WRITE = (
    f"i=0; while [ $i -lt {FILES} ]; do echo content $i > new$i; i=$((i + 1)); done;"
    "(setsid sleep 1000 &); sleep 1000 & echo ready; exec sleep 1000"
)
BUSY = (
    "import os, subprocess, sys\n"
    "n = 0\n"
    "while True:\n"
    "    open(f'file{n % 50}', 'w').write(str(n)); n += 1\n"
    "    if n % 10 == 0: subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "    if n > 200: n = 0\n"
)


class Crash:
    """Starts watched runs and looks for what they leave."""

    def __init__(self, perimeter: Perimeter) -> None:
        self.perimeter = perimeter
        self.started: list[Watched] = []

    def start(self, *command: str, **settings: Any) -> Watched:
        """A run in the perimeter."""
        self.started.append(Watched(self.perimeter.arguments(*command), **settings))
        return self.started[-1]

    def nothing_left(self) -> None:
        """Fail if a mount, a control group or a private directory of a session remains."""
        assert mounts_below(self.perimeter.home.parent) == []
        assert control_groups({session.id for session in self.perimeter.sessions()}) == []
        ours = {f"casemate-{session.id}" for session in self.perimeter.sessions()}
        assert not ours & set(os.listdir("/tmp"))
        assert not [name for name in os.listdir(self.perimeter.project) if "casemate" in name]


@pytest.fixture
def crash(perimeter: Perimeter) -> Iterator[Crash]:
    """A place for runs that end badly."""
    place = Crash(perimeter)
    yield place
    for watched in place.started:
        watched.end()


def start_ready(crash: Crash, script: str = WRITE) -> Watched:
    """A run of a shell script that has said "ready"."""
    marker = crash.perimeter.home / "ready"
    marker.unlink(missing_ok=True)
    watched = crash.start("sh", "-c", script, output=marker)
    end = time.monotonic() + 30
    while not (marker.exists() and marker.read_text()):
        assert time.monotonic() < end, "the command did not start"
        time.sleep(0.01)
    return watched


def test_kill(crash: Crash) -> None:
    """kill -9 of casemate: every process ends, and the archive holds what was written."""
    watched = start_ready(crash)
    watched.signal(signal.SIGKILL)

    assert watched.status() == -signal.SIGKILL
    assert watched.gone()
    crash.nothing_left()
    (session,) = crash.perimeter.sessions()
    assert session.state == "open"
    for number in range(FILES):
        assert crash.perimeter.content(f"new{number}") == f"content {number}\n".encode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_orderly_signals(crash: Crash, number: int) -> None:
    """SIGTERM, SIGHUP and SIGINT reach the command; the session ends in order and keeps its files."""
    watched = start_ready(crash)
    watched.signal(number)

    assert watched.status() == 128 + number
    assert watched.gone()
    crash.nothing_left()
    (session,) = crash.perimeter.sessions()
    assert (session.state, session.exit_status) == ("open", 128 + number)
    assert len([name for name in crash.perimeter.changes() if name.startswith("new")]) == FILES


def test_a_command_that_ignores_the_signal(crash: Crash) -> None:
    """A command may ignore SIGTERM, as without casemate; SIGKILL of casemate still ends it."""
    watched = start_ready(crash, "trap '' TERM; echo ready; while :; do sleep 1; done")
    watched.signal(signal.SIGTERM)
    watched.signal(signal.SIGTERM)
    assert len(descendants(watched.pid)) >= 2
    watched.signal(signal.SIGKILL)

    assert watched.gone()


def test_killing_the_keeper(crash: Crash) -> None:
    """Without its keeper the sandbox ends at once, and casemate says so with its own status."""
    watched = start_ready(crash)
    keeper = descendants(watched.pid)[0]
    assert "casemate-superv" in Path(f"/proc/{keeper}/comm").read_text()
    os.kill(keeper, signal.SIGKILL)

    assert watched.status() == 125
    assert watched.gone()
    # The layer was in the memory of the processes that were killed: it is lost, and listed as such.
    assert [session.state for session in crash.perimeter.sessions()] in ([], ["incomplete"])


def test_killing_the_first_process(crash: Crash) -> None:
    """Without PID 1 everything inside ends; the keeper still saves what was written."""
    watched = start_ready(crash)
    first = descendants(watched.pid)[1]
    os.kill(first, signal.SIGKILL)

    assert watched.status() == 125
    assert watched.gone()
    crash.nothing_left()
    (session,) = crash.perimeter.sessions()
    assert session.state == "open"
    assert len([name for name in crash.perimeter.changes() if name.startswith("new")]) == FILES


def kill_at_random(crash: Crash, times: int, seed: int) -> None:
    """Kill casemate after a random time, from before its start to deep in its work."""
    source = random.Random(seed)
    for _ in range(times):
        command = source.choice((("python3", "-c", BUSY), ("true",), ("sh", "-c", "echo x > x")))
        watched = crash.start(*command)
        time.sleep(source.choice((0.03, 0.1, 0.3)) * source.random())
        # It may have come to its end by itself just before.
        with contextlib.suppress(ProcessLookupError):
            watched.signal(signal.SIGKILL)
        assert watched.status() in (-signal.SIGKILL, 0)
        assert watched.gone(), "a process outlived casemate"
    crash.nothing_left()
    for session in crash.perimeter.sessions():
        assert session.state in ("open", "incomplete", "damaged"), session
        # Damaged is only what was cut off before anything ran: it holds nothing to lose.
        assert session.state == "open" or session.size == 0, session


def test_killed_at_random_moments(crash: Crash) -> None:
    """Fifteen kills at random moments leave no process, mount, group or directory."""
    kill_at_random(crash, 15, seed=random.randrange(1 << 32))


@pytest.mark.soak
def test_killed_at_two_hundred_random_moments(crash: Crash) -> None:
    """Two hundred kills at random moments leave no process, mount, group or directory."""
    kill_at_random(crash, 200, seed=random.randrange(1 << 32))


def test_many_sessions_are_independent(crash: Crash) -> None:
    """Of fifty sessions at once half are killed; the others end well, each with its own files."""
    sessions = [
        crash.start("sh", "-c", f"echo {n} > mine; sleep 1; grep -qx {n} mine") for n in range(50)
    ]
    time.sleep(1)
    for watched in sessions[::2]:
        try:
            watched.signal(signal.SIGKILL)
        except ProcessLookupError:
            pass
    statuses = [watched.status() for watched in sessions]

    assert all(watched.gone(60) for watched in sessions)
    assert statuses[1::2] == [0] * 25
    crash.nothing_left()
    kept = [session for session in crash.perimeter.sessions() if session.exit_status == 0]
    numbers = {crash.perimeter.content("mine", session) for session in kept}
    assert {f"{n}\n".encode() for n in range(1, 50, 2)} <= numbers
