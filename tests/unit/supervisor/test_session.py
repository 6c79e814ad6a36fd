"""A session whose supervisor lies: errors of our family, and no descriptor kept."""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casemate.errors import CasemateError, ProtocolError, SandboxError, UnsupportedError
from casemate.tiers.linux.session import Session

IMPOSTOR = """
import array, json, os, socket
mine = socket.socket(fileno=3)
mine.settimeout(20)
mine.recv(65536)
asked = b""
with open({script!r}) as file:
    for data, descriptors in json.load(file):
        sent = array.array("i", [os.open("/dev/null", os.O_RDONLY) for _ in range(descriptors)])
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, sent)] if descriptors else []
        try: mine.sendmsg([bytes.fromhex(data)], extra)
        except OSError: break
        for fd in sent: os.close(fd)
        if data.startswith({ready!r}) and not asked: asked = mine.recv(65536) or b"nothing"
mine.shutdown(socket.SHUT_WR)
while mine.recv(65536): pass
"""

Message = tuple[bytes, int]


def frame(kind: int, payload: bytes = b"", descriptors: int = 0) -> bytes:
    """One frame towards the host."""
    return struct.pack("<IBBH", len(payload), kind, descriptors, 0) + payload


READY = frame(65, struct.pack("<IIII", 7, 0, 0, 0))
SAVED = frame(71, struct.pack("<IQQ", 0, 0, 0))
STARTED = frame(67, struct.pack("<Ii", 1, 2))
LISTENERS = [frame(72, struct.pack("<I", number), 1) for number in range(3)]
EXITED = frame(68, struct.pack("<IIIIQQQQ", 1, 0, 5, 0, 0, 0, 0, 0))


class Lie(Protocol):
    """Opens a session on a program that sends these messages."""

    def __call__(self, messages: list[Message], listeners: int = 0) -> Session: ...


def string(text: bytes) -> bytes:
    """A string of the protocol."""
    return struct.pack("<I", len(text)) + text + b"\0"


@pytest.fixture
def lie(tmp_path: Path) -> Lie:
    """Opens a session on a program that sends the given bytes and numbers of descriptors.

    What follows READY it sends when it was asked for something.
    """
    program, script = tmp_path / "impostor", tmp_path / "script"
    program.write_text(
        f"#!{sys.executable} -IS\n" + IMPOSTOR.format(script=str(script), ready=READY.hex())
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)

    def start(messages: list[Message], listeners: int = 0) -> Session:
        script.write_text(json.dumps([(data.hex(), number) for data, number in messages]))
        return Session(str(program), b"specification", None, listeners=listeners)

    return start


def ask(session: Session) -> int:
    """Ask for a command on a terminal, and wait for its end."""
    return session.wait(
        session.start([b"command"], [], b"/", stdio=(None, None, None), terminal=True)
    ).status


def descriptors() -> set[str]:
    """The descriptors this process has open."""
    return set(os.listdir("/proc/self/fd"))


def test_an_honest_one(lie: Lie) -> None:
    """The frames of a well-behaved supervisor make a session."""
    session = lie([(READY + STARTED, 0), (EXITED + SAVED, 0)])

    assert ask(session) == 5
    assert session.close().errno == 0


@pytest.mark.parametrize(
    ("messages", "error"),
    [
        ([], SandboxError),
        ([(READY[:5], 0)], SandboxError),
        ([(b"\xff" * 100, 0)], ProtocolError),
        ([(frame(99), 0)], ProtocolError),
        ([(frame(65, b"\0"), 0)], ProtocolError),
        ([(frame(65, struct.pack("<IIII", 7, 0, 0, 300) + bytes(9)), 0)], ProtocolError),
        ([(frame(66, struct.pack("<I", 1) + string(b"mount") + string(b"/x")), 0)], SandboxError),
        ([(frame(66, struct.pack("<I", 1) + string(b"create namespaces") + string(b"")), 0)],
         UnsupportedError),
        ([(frame(66, struct.pack("<II", 1, 0xFFFFFFFF)), 0)], ProtocolError),
        ([(frame(65, READY[8:], 1), 1)], ProtocolError),
        ([(frame(67, STARTED[8:], 1), 0)], ProtocolError),
    ],
)  # fmt: skip
def test_a_launch_that_fails(lie: Lie, messages: list[Message], error: type[CasemateError]) -> None:
    """Silence, nonsense, reports of failure and wrong descriptors: one clear error, nothing kept."""
    before = descriptors()
    with pytest.raises(error) as caught:
        lie(messages)

    assert type(caught.value) is error
    assert descriptors() == before


@pytest.mark.parametrize(
    "message",
    [
        (frame(68, EXITED[8:-1]), 0),
        (frame(68, EXITED[8:] + b"\0"), 0),
        (frame(68, struct.pack("<IIIIQQQQ", 1, 9, 0, 0, 0, 0, 0, 0)), 0),
        (frame(69, struct.pack("<II", 1, 50) + b"short"), 0),
        (frame(67, b""), 0),
        (frame(67, STARTED[8:] + b"\0"), 0),
        (frame(67, STARTED[8:], 1), 0),
        (frame(67, STARTED[8:], 0) + frame(70, bytes(8), 1), 1),
        (frame(71, b"\0\0"), 0),
        (frame(200), 0),
        (frame(68, struct.pack("<IIIIQQQQ", 1, 1, 0, 0, 0, 0, 0, 0)), 0),
        (frame(68, struct.pack("<IIIIQQQQ", 1, 1, 65, 0, 0, 0, 0, 0)), 0),
        (frame(67, struct.pack("<Ii", 9, 2), 1), 1),
        (2 * frame(67, STARTED[8:], 1), 2),
        (EXITED + EXITED + frame(200), 0),
    ],
)
def test_a_session_that_is_broken(lie: Lie, message: Message) -> None:
    """Any frame that does not hold together ends the session with a ProtocolError."""
    before = descriptors()
    session = lie([(READY, 0), message])
    with pytest.raises(ProtocolError):
        ask(session)
        session.receive()
    with pytest.raises(SandboxError):
        session.close()

    assert descriptors() == before


def test_listeners(lie: Lie) -> None:
    """They are there when the sandbox is, in their order, and closed with it."""
    before = descriptors()
    session = lie([*((one, 1) for one in LISTENERS[:2]), (READY, 0), (SAVED, 0)], listeners=2)
    assert len(session.listeners) == 2
    session.close()

    assert descriptors() == before


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        ([(LISTENERS[0], 1), (READY, 0)], 0),
        ([(LISTENERS[0], 1), (LISTENERS[1], 1), (READY, 0)], 1),
        ([(LISTENERS[0], 1), (READY, 0)], 2),
        ([(READY, 0)], 1),
        ([(LISTENERS[1], 1), (READY, 0)], 2),
        ([(LISTENERS[0], 1), (LISTENERS[0], 1), (READY, 0)], 2),
        ([(LISTENERS[0], 0), (READY, 0)], 1),
        ([(frame(72, struct.pack("<I", 0)), 0), (READY, 0)], 1),
        ([(frame(72, bytes(5), 1), 1), (READY, 0)], 1),
        ([(frame(72, b"", 1), 1), (READY, 0)], 1),
    ],
)
def test_listeners_that_were_not_asked_for(lie: Lie, messages: list[Message], asked: int) -> None:
    """Too many, too few, out of order or without a descriptor: no session, nothing kept."""
    before = descriptors()
    with pytest.raises(ProtocolError):
        lie(messages, listeners=asked)

    assert descriptors() == before


def test_a_listener_that_comes_late(lie: Lie) -> None:
    """Once commands run, a listener could be one of theirs."""
    before = descriptors()
    session = lie([(READY, 0), (LISTENERS[0], 1)])
    with pytest.raises(ProtocolError):
        ask(session)
    with pytest.raises(SandboxError):
        session.close()

    assert descriptors() == before


def test_a_flood_of_descriptors(lie: Lie) -> None:
    """Descriptors that nobody asked for are refused before they pile up, and closed."""
    before = descriptors()
    session = lie([(READY, 0), *[(frame(70, bytes(8)), 20)] * 50])
    with pytest.raises(SandboxError):
        ask(session)
    with pytest.raises(SandboxError):
        session.close()

    assert descriptors() == before


def test_a_flood_of_notices(lie: Lie) -> None:
    """Notices without end are cut at some number: memory stays bounded."""
    notice = frame(69, struct.pack("<I", 1) + string(b"x" * 60_000))
    session = lie([(READY, 0), *[(notice, 0)] * 300, (EXITED + SAVED, 0)])
    try:
        ask(session)
    except SandboxError:
        pass

    assert sum(len(text) for _, text in session.notices) < 4 << 20
    try:
        session.close()
    except SandboxError:
        pass


def test_an_exit_of_a_command_never_started(lie: Lie) -> None:
    """A report on a command that was never asked for ends the session."""
    session = lie([(READY, 0), (frame(68, struct.pack("<I", 2) + EXITED[12:]), 0)])
    with pytest.raises(ProtocolError, match="not running"):
        ask(session)
    with pytest.raises(SandboxError):
        session.close()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.binary(max_size=100),
                st.builds(frame, st.integers(60, 75), st.binary(max_size=60), st.integers(0, 1)),
                st.sampled_from([READY, STARTED, EXITED]),
            ),
            st.integers(0, 3),
        ),
        max_size=8,
    )
)
def test_random_frames(lie: Lie, messages: list[Message]) -> None:
    """Whatever comes, the errors are ours and no descriptor stays."""
    before = descriptors()
    try:
        session = lie(messages)
        try:
            ask(session)
        finally:
            session.close()
    except CasemateError:
        pass

    assert descriptors() == before
