"""What the broker and the vault say to each other: small, binary, the same for every vault.

A frame is a u32 length, a u8 type, a u32 number that the answer repeats, and fields, each a u32
length and its bytes. All integers are little endian. The values of secrets travel only in the
memory file that OPEN brings, from the program that read them to the vault.
"""

from __future__ import annotations

from casemate.errors import ProtocolError

VERSION = 1

OPEN, CLOSE, REQUEST, FEED = 1, 2, 3, 4
DONE, REFUSED = 65, 66

OUT, IN, HEADERS = b"out", b"in", b"headers"
"""What FEED carries: a request's body, a response's, or a response's headers."""

FRAME_MAX = 4 << 20
FIELDS_MAX = 1024
HEAD_SIZE = 9


def pack(kind: int, number: int, fields: list[bytes]) -> bytes:
    """A frame."""
    body = b"".join([len(field).to_bytes(4, "little") + field for field in fields])
    return (
        (len(body) + 5).to_bytes(4, "little") + bytes((kind,)) + number.to_bytes(4, "little") + body
    )


def fields(data: bytes) -> list[bytes]:
    """The fields of a frame's body or of a memory file. Raises `ProtocolError`."""
    found: list[bytes] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        end = at + 4 + size
        if at + 4 > len(data) or end > len(data) or len(found) >= FIELDS_MAX:
            raise ProtocolError("a message of the vault makes no sense")
        found.append(data[at + 4 : end])
        at = end
    return found


class Decoder:
    """Collects frames from pieces. Raises `ProtocolError`."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[int, int, list[bytes]]]:
        """The frames that are complete: type, number and fields."""
        self._buffer += data
        found = []
        while len(self._buffer) >= 4:
            size = int.from_bytes(self._buffer[:4], "little")
            if not 5 <= size <= FRAME_MAX:
                raise ProtocolError("a message of the vault has an impossible size")
            if len(self._buffer) < 4 + size:
                break
            frame = self._buffer[4 : 4 + size]
            self._buffer = self._buffer[4 + size :]
            found.append((frame[0], int.from_bytes(frame[1:5], "little"), fields(frame[5:])))
        return found


ENTRY_FIELDS = 7


def pack_entry(
    name: str,
    value: bytes,
    placeholder: bytes,
    form: str,
    form_name: str,
    own_only: bool,
    hosts: tuple[str, ...],
) -> bytes:
    """One secret as the memory file holds it."""
    texts = (form.encode(), form_name.encode(), b"1" if own_only else b"", ",".join(hosts).encode())
    parts = (name.encode(), value, placeholder, *texts)
    return b"".join([len(part).to_bytes(4, "little") + part for part in parts])
