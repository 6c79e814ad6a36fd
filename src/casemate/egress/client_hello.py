"""The first message of a TLS client, read without answering it.

Sources: RFC 8446 sections 4.1.2 and 5.1, RFC 6066 section 3 (server name), RFC 7301 (ALPN),
RFC 9849 (Encrypted Client Hello).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from casemate.egress.model import MalformedError

HELLO_MAX = 64 << 10
RECORD_MAX = 16384 + 256

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME, _ALPN, _ENCRYPTED_HELLO = 0, 16, 0xFE0D


@dataclass(frozen=True, slots=True)
class ClientHello:
    """What a client says before anything is encrypted."""

    server_name: bytes | None
    """As sent, not yet normalised."""
    alpn: tuple[bytes, ...]
    ech: bool
    """An Encrypted Client Hello is there. One that is noise (GREASE) looks the same."""


def looks_like_tls(start: bytes) -> bool | None:
    """Whether bytes begin a TLS connection; None where too few have come to tell."""
    if not start:
        return None
    if start[0] != _HANDSHAKE:
        return False
    return None if len(start) < 3 else start[1] == 3 and start[2] <= 4


def parse(buffer: bytes | bytearray) -> ClientHello | None:
    """The hello at the start of a connection; None while it is incomplete.

    Raises `MalformedError`.
    """
    message = bytearray()
    wanted = 4
    at = 0
    while len(message) < wanted:
        if len(buffer) - at < 5:
            return None
        if buffer[at] != _HANDSHAKE or buffer[at + 1] != 3:
            _refuse("no handshake record")
        size = int.from_bytes(buffer[at + 3 : at + 5], "big")
        if not 0 < size <= RECORD_MAX:
            _refuse("a record of an impossible size")
        message += buffer[at + 5 : at + 5 + size]
        if len(message) >= 4:
            if message[0] != _CLIENT_HELLO:
                _refuse("the first message is no ClientHello")
            wanted = 4 + int.from_bytes(message[1:4], "big")
            if wanted > HELLO_MAX:
                _refuse(f"a ClientHello of more than {HELLO_MAX} bytes")
        if len(buffer) - at - 5 < size:
            return None if len(message) < wanted else _read(bytes(message[4:wanted]))
        at += 5 + size
    return _read(bytes(message[4:wanted]))


class _Fields:
    """Reads length-prefixed fields and never past their end."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        end = self.at + count
        if end > len(self.data):
            _refuse("a field that reaches beyond its message")
        piece = self.data[self.at : end]
        self.at = end
        return piece

    def integer(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.integer(size))

    @property
    def more(self) -> bool:
        return self.at < len(self.data)


def _read(body: bytes) -> ClientHello:
    fields = _Fields(body)
    fields.take(2 + 32)
    if len(fields.vector(1)) > 32:
        _refuse("a session identifier of more than 32 bytes")
    suites = fields.vector(2)
    if not suites or len(suites) % 2 or not fields.vector(1):
        _refuse("no cipher suites or compression methods")
    extensions: dict[int, bytes] = {}
    if fields.more:
        listed = _Fields(fields.vector(2))
        while listed.more:
            kind = listed.integer(2)
            if kind in extensions:
                _refuse("an extension that comes twice")
            extensions[kind] = listed.vector(2)
    if fields.more:
        _refuse("bytes after the extensions")
    return ClientHello(
        _server_name(extensions.get(_SERVER_NAME)),
        _protocols(extensions.get(_ALPN)),
        _ENCRYPTED_HELLO in extensions,
    )


def _server_name(extension: bytes | None) -> bytes | None:
    if extension is None:
        return None
    fields = _Fields(extension)
    names = _Fields(fields.vector(2))
    if fields.more or names.integer(1) != 0:
        _refuse("a server name of another kind")
    name = names.vector(2)
    if names.more or not name or b"\0" in name:
        _refuse("more than one server name, or none")
    return name


def _protocols(extension: bytes | None) -> tuple[bytes, ...]:
    if extension is None:
        return ()
    fields = _Fields(extension)
    listed = _Fields(fields.vector(2))
    found = []
    while listed.more:
        found.append(listed.vector(1))
    if fields.more or not found or not all(found):
        _refuse("a list of protocols that makes no sense")
    return tuple(found)


def _refuse(problem: str) -> NoReturn:
    raise MalformedError(f"TLS: {problem}")
