"""The vault's frames: whatever arrives is read as meant, or refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import ProtocolError, RefusedError
from casemate.vault import protocol
from casemate.vault.process import Service

KINDS = st.sampled_from(sorted(protocol.KINDS))
FIELDS = st.lists(st.binary(max_size=40), max_size=9)
NUMBERS = st.integers(0, 3).map(protocol.u32)


@given(st.lists(st.tuples(KINDS, st.integers(0, 2**32 - 1), FIELDS), max_size=5), st.data())
def test_frames_come_out_as_they_went_in(
    frames: list[tuple[int, int, list[bytes]]], data: st.DataObject
) -> None:
    """Frames survive any cutting of the stream."""
    stream = b"".join(protocol.frame(*each) for each in frames)
    cut = data.draw(st.integers(0, len(stream)))
    reader = protocol.Frames()

    assert [*reader.feed(stream[:cut]), *reader.feed(stream[cut:])] == frames


@given(st.binary(max_size=200))
def test_noise(data: bytes) -> None:
    """Bytes that are no frames end in `ProtocolError` or wait for more; nothing else happens."""
    try:
        found = protocol.Frames().feed(data)
    except ProtocolError:
        return
    assert b"".join(protocol.frame(*each) for each in found) == data[: sum(map(size, found))]


def size(frame: tuple[int, int, list[bytes]]) -> int:
    return len(protocol.frame(*frame))


@given(
    st.lists(
        st.tuples(
            KINDS,
            st.lists(st.one_of(NUMBERS, st.binary(max_size=20), st.just(b"gzip")), max_size=12),
            st.one_of(st.just(protocol.pack([b"S", b"abcdefgh", b"hgfedcba"])), st.binary()),
        ),
        max_size=12,
    )
)
def test_the_service_survives_anything(
    requests: list[tuple[int, list[bytes], bytes]],
) -> None:
    """Any sequence of well-formed frames is answered or refused, never a crash."""
    service = Service()
    opening = [protocol.u32(1), b"S", b"bearer", b"", protocol.u32(1), b"a.example"]
    service.answer(protocol.OPEN, opening, protocol.pack([b"S", b"abcdefgh", b"hgfedcba"]))
    for kind, fields, values in requests:
        try:
            reply = service.answer(kind, fields, values)
        except (ProtocolError, RefusedError):
            continue
        assert reply is None or all(isinstance(field, bytes) for field in reply)


@pytest.mark.parametrize(
    "header",
    [
        (protocol.PAYLOAD_MAX + 1).to_bytes(4, "little") + b"\1\1\0\0" + bytes(4),
        bytes(4) + b"\2\1\0\0" + bytes(4),
        bytes(4) + b"\1\x63\0\0" + bytes(4),
        bytes(4) + b"\1\1\1\0" + bytes(4),
    ],
)
def test_wrong_headers(header: bytes) -> None:
    """Too long, another version, an unknown kind, bits that must be zero: each is refused."""
    with pytest.raises(ProtocolError):
        protocol.Frames().feed(header)


def test_sessions_are_apart() -> None:
    """One session's streams and secrets are not another's, and are gone when it is closed."""
    service = Service()
    values = protocol.pack([b"S", b"abcdefgh12", b"hgfedcba21"])
    for session in (1, 2):
        fields = [protocol.u32(session)]
        if session == 1:
            fields += [b"S", b"bearer", b"", protocol.u32(0), b"a.example"]
        service.answer(protocol.OPEN, fields, values)
    head = [b"a.example", b"GET", b"/", protocol.u32(0), b"", b"Authorization", b"B abcdefgh12"]

    assert b"B hgfedcba21" in (service.answer(protocol.OUTGOING, [protocol.u32(1), *head]) or [])
    assert b"B abcdefgh12" in (service.answer(protocol.OUTGOING, [protocol.u32(2), *head]) or [])
    service.answer(protocol.CLOSE, [protocol.u32(1)])
    with pytest.raises(RefusedError):
        service.answer(protocol.OUTGOING, [protocol.u32(1), *head])
