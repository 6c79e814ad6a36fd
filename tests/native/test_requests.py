"""Hostile requests to the supervisor itself: it refuses them, ends, and leaves nothing."""

from __future__ import annotations

import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.perimeter import Perimeter, descendants

from casemate.cli.prepare import prepare
from casemate.cli.run import parse
from casemate.supervisor import protocol
from casemate.supervisor.binary import supervisor_path
from casemate.tiers.linux import open as opening
from casemate.tiers.linux import session

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

PATIENCE = 30.0
BROKEN = 134
slow = settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


class Supervisor:
    """A real supervisor, spoken to in bytes."""

    def __init__(self, archive: Path) -> None:
        self.archive = os.open(archive, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.pid, self.socket = session._spawn([supervisor_path()])

    def send(self, data: bytes, descriptors: list[int] | None = None) -> None:
        """Send bytes; that the other end is gone already is no error."""
        packed = b"".join(fd.to_bytes(4, "little") for fd in descriptors or ())
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, packed)] if packed else []
        try:
            sent = self.socket.sendmsg([data], extra)
            self.socket.sendall(data[sent:])
        except OSError:
            pass

    def ready(self) -> None:
        """Wait for READY."""
        assert self.socket.recv(65536)[4] == protocol.READY

    def end(self) -> int:
        """Hang up; the exit status, or minus the signal. Fails when it goes on living."""
        self.socket.close()
        os.close(self.archive)
        end = time.monotonic() + PATIENCE
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                for child in [*descendants(self.pid), self.pid]:
                    os.kill(child, 9)
                os.waitpid(self.pid, 0)
                raise AssertionError("the supervisor goes on though its host hung up")
            time.sleep(0.002)


@pytest.fixture
def specification(
    perimeter: Perimeter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., bytes]:
    """Makes the launch specification of a run with these options, for a new session each time."""

    def make(*options: str) -> bytes:
        launch = prepare(parse(["-C", str(perimeter.project), *options, "--", "true"]))
        seen: list[bytes] = []

        def record(_path: str, payload: bytes, *_: Any) -> None:
            seen.append(payload)

        monkeypatch.setattr(opening, "Session", record)
        opening.open_session(launch, f"test-{os.getpid()}-{random.randrange(1 << 30)}", 0)
        return seen[0]

    return make


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Callable[[], Supervisor]]:
    """Starts supervisors."""
    yield lambda: Supervisor(tmp_path / "changes")


Start = Callable[[], Supervisor]
Make = Callable[..., bytes]


def opened(start: Start, payload: bytes) -> Supervisor:
    """A supervisor that has opened a session."""
    running = start()
    running.send(protocol.frame(protocol.INIT, payload, 1), [running.archive])
    running.ready()
    return running


def test_an_honest_session(supervisor: Start, specification: Make) -> None:
    """What the other tests break works when it is not broken."""
    assert opened(supervisor, specification()).end() == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\xff" * 64,
        struct.pack("<IBBH", 0xFFFFFFFF, 1, 0, 0),
        struct.pack("<IBBH", (8 << 20) + 1, 1, 0, 0),
        struct.pack("<IBBH", 0, 1, 1, 0),
        struct.pack("<IBBH", 0, 1, 0, 7),
        struct.pack("<IBBH", 0, 2, 0, 0),
        struct.pack("<IBBH", 4, 1, 0, 0) + b"\1\0\0\0",
    ],
)
def test_bad_beginnings(supervisor: Start, data: bytes) -> None:
    """Anything but a launch specification ends it before it did anything."""
    running = supervisor()
    running.send(data)

    assert running.end() == 1


def test_every_truncation(supervisor: Start, specification: Make) -> None:
    """A specification cut short anywhere in its head, and at random further on, is refused."""
    payload = specification()
    for length in [*range(0, 160, 7), *random.sample(range(160, len(payload)), 40)]:
        running = supervisor()
        running.send(protocol.frame(protocol.INIT, payload[:length], 1), [running.archive])
        assert running.end() == 1, length


def test_a_missing_archive(supervisor: Start, specification: Make) -> None:
    """Without the file to save changes to nothing starts."""
    running = supervisor()
    running.send(protocol.frame(protocol.INIT, specification()))

    assert running.end() == 1


def test_too_many_descriptors(supervisor: Start, specification: Make) -> None:
    """More descriptors than a frame may have end the session."""
    running = opened(supervisor, specification())
    for _ in range(5):
        running.send(protocol.frame(protocol.PING, bytes(8)), [running.archive] * 10)

    assert running.end() in (0, 1)


def mutations(payload: bytes, source: random.Random) -> bytes:
    """The payload with a few changes of the kinds that break parsers."""
    changed = bytearray(payload)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(changed) or 1)
        kind = source.randrange(5)
        if kind == 0 and changed:
            changed[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            number = source.choice((0, 1, 255, 1 << 16, 0x7FFFFFFF, 0xFFFFFFFF, len(payload)))
            changed[at : at + 4] = struct.pack("<I", number)
        elif kind == 2:
            del changed[at : at + source.randint(1, 9)]
        elif kind == 3:
            changed[at:at] = source.randbytes(source.randint(1, 9))
        else:
            changed[at : at + 8] = struct.pack("<Q", source.choice((0, (1 << 64) - 1, 1 << 63)))
    return bytes(changed)


# As root a changed specification would be carried out with root's powers, on this machine.
@pytest.mark.needs("ordinary user")
@slow
@given(seed=st.integers(0, 1 << 62))
def test_changed_specifications(supervisor: Start, specification: Make, seed: int) -> None:
    """A specification with random changes is refused or carried out; it never breaks anything."""
    running = supervisor()
    payload = mutations(specification(), random.Random(seed))
    running.send(protocol.frame(protocol.INIT, payload, 1), [running.archive])

    assert running.end() in (0, 1)


def request(source: random.Random) -> tuple[bytes, int]:
    """A request that is nearly right, and how many descriptors travel with it."""
    kind = source.choice((2, 2, 2, 2, 3, 4, 5, 6, 7, source.randrange(256)))
    descriptors = source.choice((0, 0, 0, 1, 3))
    if kind == protocol.EXEC:
        whole = protocol.exec_request(
            source.randrange(4),
            [b"sh", b"-c", source.choice((b"exit 3", b"sleep 1", b"kill -9 $$", b"echo x > x"))],
            [b"PATH=/usr/bin:/bin"],
            source.choice((b"/", b"/tmp", b"/nowhere", b"")),
            flags=source.choice((0, 1, 15)) & ~(14 if descriptors != 3 else 0),
            rows=source.choice((0, 24, 65535)),
            columns=80,
            time_limit_ms=source.choice((0, 1, 1 << 63)),
            resource_limits=source.choice(((), ((7, 64, 64),), ((99, 1, 1),), ((0, 5, 1),))),
        )
        payload = whole[8:]
    else:
        sizes = {3: 8, 4: 8, 5: 4, 6: 8, 7: 4}
        payload = source.randbytes(sizes.get(kind, source.randrange(40)))
    if source.random() < 0.5:
        payload = mutations(payload, source)
    return struct.pack("<IBBH", len(payload), kind, descriptors, 0) + payload, descriptors


@slow
@given(seed=st.integers(0, 1 << 62))
def test_random_requests(supervisor: Start, specification: Make, seed: int) -> None:
    """Whatever is asked of a session, no check in PID 1 fails and it ends when its host does."""
    source = random.Random(seed)
    running = opened(supervisor, specification())
    for _ in range(source.randint(1, 12)):
        data, descriptors = request(source)
        running.send(data, [running.archive] * descriptors)

    assert running.end() in (0, 1)


@pytest.mark.fuzz
@given(seed=st.integers(0, 1 << 62))
@settings(suppress_health_check=list(HealthCheck))
def test_random_requests_at_length(supervisor: Start, specification: Make, seed: int) -> None:
    """The same for as long as the profile says."""
    source = random.Random(seed)
    running = opened(supervisor, specification())
    for _ in range(source.randint(1, 60)):
        data, descriptors = request(source)
        running.send(data, [running.archive] * descriptors)

    assert running.end() in (0, 1)


def test_more_commands_than_places(supervisor: Start, specification: Make) -> None:
    """Thousands of commands at once: those beyond the table are answered, not dropped."""
    running = opened(supervisor, specification())
    decoder, started, refused = protocol.Decoder(), 0, 0
    for number in range(1, 1101):
        running.send(
            protocol.exec_request(
                number, [b"sleep", b"1000"], [b"PATH=/usr/bin:/bin"], b"/", flags=0
            )
        )
        while started + refused < number:
            for kind, _, _ in decoder.feed(running.socket.recv(65536)):
                started += kind == protocol.STARTED
                refused += kind == protocol.EXITED

    assert started <= 1024
    assert refused >= 76
    assert running.end() == 0


def test_a_host_that_does_not_read(supervisor: Start, specification: Make) -> None:
    """Replies that nobody takes do not keep the session alive once the host is gone."""
    running = opened(supervisor, specification())
    running.socket.settimeout(1.0)
    try:
        for _ in range(200_000):
            running.socket.sendall(protocol.frame(protocol.PING, bytes(8)))
    except OSError:
        pass

    assert running.end() in (0, 1)
