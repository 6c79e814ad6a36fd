"""The frames between the broker and the vault: small, binary, the same for every kind of vault.

    u32 length of what follows behind the header | u8 version | u8 kind | u16 zero | u32 call

and then fields, each a `u32` length and that many bytes; numbers are little endian, and a number
as a field has 4 bytes. A reply has the call's number and is `DONE`, with the fields that the kind
of request says, or `REFUSED`, with code, message, rule, allow and hint. `FILTER` and `DROP` have
no reply. What does not follow this raises `ProtocolError`, and whoever reads it ends the connection.

    OPEN     session, then for every secret: name, form, form name, flags, hosts separated by
             blanks; a descriptor comes along: fields name, placeholder, value per secret  -> nothing
    CLOSE    session                                                                     -> nothing
    OUTGOING session, host, method, path, flags, body, then name and value of every header
                                                      -> path, then name and value of every header
    HEADERS  session, host, then name and value of every header    -> name and value of every header
    FILTER   session, filter, direction, host, content coding
    FEED     filter, bytes                                                               -> bytes
    FINISH   filter                                                                -> bytes, note
    DROP     filter
"""

from __future__ import annotations

from casemate.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

VERSION = 1
HEADER_SIZE = 12
PAYLOAD_MAX = 1 << 20
FIELDS_MAX = 4096
CHUNK = 256 << 10
"""Bytes of a body that one FEED carries, at the most."""

OPEN, CLOSE, OUTGOING, HEADERS, FILTER, FEED, FINISH, DROP = 1, 2, 3, 4, 5, 6, 7, 8
READY, DONE, REFUSED = 128, 129, 130
KINDS = frozenset(
    (OPEN, CLOSE, OUTGOING, HEADERS, FILTER, FEED, FINISH, DROP, READY, DONE, REFUSED)
)

OWN_ONLY = 1
"""Flag of a secret in OPEN."""
HAS_BODY = 1
"""Flag of OUTGOING: the field `body` holds the whole body; without, the body is not known yet."""
REQUEST, RESPONSE = 0, 1
"""Directions of a FILTER."""


def u32(value: int) -> bytes:
    """A number as a field holds it."""
    return value.to_bytes(4, "little")


def number(field: bytes) -> int:
    """The number in a field. Raises `ProtocolError`."""
    if len(field) != 4:
        raise ProtocolError(f"a number of {len(field)} bytes")
    return int.from_bytes(field, "little")


def pack(fields: Iterable[bytes]) -> bytes:
    """Fields one behind the other, each with its length."""
    return b"".join(part for field in fields for part in (len(field).to_bytes(4, "little"), field))


def unpack(payload: bytes, limit: int = FIELDS_MAX) -> list[bytes]:
    """The fields of a payload. Raises `ProtocolError`."""
    fields: list[bytes] = []
    at, end = 0, len(payload)
    while at < end:
        start = at + 4
        at = start + int.from_bytes(payload[at:start], "little")
        if start > end or at > end or len(fields) == limit:
            raise ProtocolError("fields that do not fit their frame")
        fields.append(payload[start:at])
    return fields


def frame(kind: int, call: int, fields: Iterable[bytes]) -> bytes:
    """One frame. Raises `ProtocolError` for one longer than the other side takes."""
    payload = pack(fields)
    if len(payload) > PAYLOAD_MAX:
        raise ProtocolError(f"{len(payload)} bytes are more than the vault takes at once")
    return b"".join(
        (u32(len(payload)), bytes((VERSION, kind, 0, 0)), u32(call & 0xFFFFFFFF), payload)
    )


def pairs(fields: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Fields as name and value by turns. Raises `ProtocolError` for an odd number."""
    if len(fields) % 2:
        raise ProtocolError("a header without a value")
    return list(zip(fields[::2], fields[1::2], strict=True))


class Frames:
    """Takes a stream of bytes apart into (kind, call, fields)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, int, list[bytes]]]:
        """The frames that are complete now. Raises `ProtocolError`."""
        self._buffer += data
        found = []
        at = 0
        while len(self._buffer) - at >= HEADER_SIZE:
            header = bytes(self._buffer[at : at + HEADER_SIZE])
            length = int.from_bytes(header[:4], "little")
            version, kind, zeros = header[4], header[5], header[6:8]
            if version != VERSION or kind not in KINDS or zeros != b"\0\0" or length > PAYLOAD_MAX:
                raise ProtocolError("a frame that is not of this protocol")
            start = at + HEADER_SIZE
            if len(self._buffer) < start + length:
                break
            at = start + length
            fields = unpack(bytes(self._buffer[start:at]))
            found.append((kind, int.from_bytes(header[8:], "little"), fields))
        del self._buffer[:at]
        return found
