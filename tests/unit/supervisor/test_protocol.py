"""What the host makes of bytes from beside hostile code."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import ProtocolError
from casemate.supervisor import protocol

frames = st.lists(st.tuples(st.integers(0, 255), st.integers(0, 1), st.binary(max_size=300)))


def encode(items: list[tuple[int, int, bytes]]) -> bytes:
    """Frames as the supervisor sends them."""
    return b"".join(struct.pack("<IBBH", len(p), kind, fds, 0) + p for kind, fds, p in items)


@given(frames, st.data())
def test_frames_survive_any_cut(items: list[tuple[int, int, bytes]], data: st.DataObject) -> None:
    """However the stream is cut into pieces, the same frames come out."""
    stream = encode(items)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder, seen = protocol.Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        seen += decoder.feed(stream[start:end])

    assert seen == items


@given(st.lists(st.binary(max_size=400), max_size=10))
def test_any_bytes(pieces: list[bytes]) -> None:
    """Arbitrary bytes give frames or a ProtocolError, and never more bytes than came."""
    decoder, out = protocol.Decoder(), 0
    try:
        for piece in pieces:
            out += sum(len(payload) + 8 for _, _, payload in decoder.feed(piece))
    except ProtocolError:
        return

    assert out <= sum(map(len, pieces))


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IBBH", protocol.REPLY_MAX + 1, 65, 0, 0),
        struct.pack("<IBBH", 0xFFFFFFFF, 65, 0, 0),
        struct.pack("<IBBH", 0, 65, 2, 0),
        struct.pack("<IBBH", 0, 65, 0, 1),
        struct.pack("<IBBH", 0, 65, 0, 256),
    ],
)
def test_malformed_headers(header: bytes) -> None:
    """A length too large, too many descriptors or a bit that must be zero ends the session."""
    with pytest.raises(ProtocolError, match="malformed"):
        protocol.Decoder().feed(header)


def test_memory_is_bounded() -> None:
    """A stream of small pieces of one large frame costs no more than a frame."""
    decoder = protocol.Decoder()
    decoder.feed(struct.pack("<IBBH", protocol.REPLY_MAX, 69, 0, 0))
    tracemalloc.start()
    for _ in range(protocol.REPLY_MAX // 1024 - 1):
        assert decoder.feed(bytes(1024)) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5 * protocol.REPLY_MAX


@given(st.binary(max_size=100), st.lists(st.sampled_from([1, 2, 4, 8, "text"]), max_size=12))
def test_reader_stays_inside(payload: bytes, fields: list[int | str]) -> None:
    """Fields are taken from the payload alone; past its end there is only a ProtocolError."""
    reader, taken = protocol.Reader(payload), 0
    try:
        for field in fields:
            if isinstance(field, int):
                value = reader.integer(field)
                assert value == int.from_bytes(payload[taken : taken + field], "little")
                taken += field
            else:
                size = int.from_bytes(payload[taken : taken + 4], "little")
                text = reader.text()
                assert text == payload[taken + 4 : taken + 4 + size].decode(
                    "utf-8", "backslashreplace"
                )
                taken += size + 5
        assert taken <= len(payload)
        reader.finish()
        assert taken == len(payload)
    except ProtocolError:
        pass


@given(st.binary(min_size=44, max_size=44))
def test_any_exit(payload: bytes) -> None:
    """An exit report is refused or gives a status that a process can exit with."""
    try:
        ended = protocol.Exit(protocol.Reader(payload))
    except ProtocolError:
        return

    assert 0 <= ended.status <= 255


@given(st.integers(0, 2), st.integers(0, 400))
def test_exit_statuses(kind: int, value: int) -> None:
    """Statuses and signals are as a shell shows them; impossible ones are refused."""
    payload = struct.pack("<IIIQQQQ", kind, value, 0, 1, 2, 3, 4)
    expected = {0: value, 1: 128 + value, 2: 127 if value == 2 else 126}[kind]
    possible = {0: value <= 255, 1: 1 <= value <= 64, 2: True}[kind]
    try:
        status = protocol.Exit(protocol.Reader(payload)).status
    except ProtocolError:
        assert not possible
        return

    assert possible and status == expected


text = st.binary(max_size=50).filter(lambda word: b"\0" not in word)


@given(
    st.lists(text, min_size=1, max_size=5), st.lists(text, max_size=5), text, st.integers(0, 15),
    st.lists(st.tuples(*[st.integers(0, 1 << 31)] * 3), max_size=4),
)  # fmt: skip
def test_requests_are_laid_out_as_documented(
    argv: list[bytes],
    environment: list[bytes],
    directory: bytes,
    flags: int,
    limits: list[tuple[int, int, int]],
) -> None:
    """An EXEC frame read back field by field, as docs/protocol.md has them, is what was asked."""
    frame = protocol.exec_request(
        7, argv, environment, directory, flags=flags, rows=24, columns=80, time_limit_ms=9,
        resource_limits=limits,
    )  # fmt: skip
    length, kind, descriptors, zero = struct.unpack_from("<IBBH", frame)
    fixed = struct.unpack_from("<IIHHQI", frame, 8)
    at = 8 + struct.calcsize("<IIHHQI")
    read = [struct.unpack_from("<IQQ", frame, at + 20 * n) for n in range(len(limits))]
    at += 20 * len(limits)

    def string() -> bytes:
        nonlocal at
        (size,) = struct.unpack_from("<I", frame, at)
        value = frame[at + 4 : at + 4 + size]
        assert frame[at + 4 + size] == 0
        at += size + 5
        return value

    assert (length, kind, zero) == (len(frame) - 8, protocol.EXEC, 0)
    assert descriptors == (flags >> 1).bit_count()
    assert fixed == (7, flags, 24, 80, 9, len(limits))
    assert read == limits
    assert string() == directory
    counts = struct.unpack_from("<II", frame, at)
    at += 8
    assert counts == (len(argv), len(environment))
    assert [string() for _ in range(sum(counts))] == [*argv, *environment]
    assert at == len(frame)


@pytest.mark.parametrize("where", ["argv", "environment", "directory"])
def test_zero_bytes_are_refused(where: str) -> None:
    """A zero byte would cut a word short inside; it never gets there."""
    words: dict[str, list[bytes]] = {"argv": [b"a"], "environment": [b"A=b"], "directory": [b"/"]}
    words[where] = [b"x\0y"]
    with pytest.raises(ProtocolError, match="zero byte"):
        protocol.exec_request(
            1, words["argv"], words["environment"], words["directory"][0], flags=0
        )


def test_requests_that_are_too_long() -> None:
    """A request larger than the supervisor takes is refused before it is sent."""
    with pytest.raises(ProtocolError, match="larger than"):
        protocol.frame(protocol.EXEC, bytes(protocol.REQUEST_MAX + 1))
