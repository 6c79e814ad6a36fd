"""SOCKS5 as clients speak it to a proxy: no authentication, CONNECT alone. Source: RFC 1928."""

from __future__ import annotations

from dataclasses import dataclass

from casemate.egress.model import MalformedError, Target
from casemate.egress.names import normalise

VERSION = 5
NO_AUTHENTICATION = b"\x05\x00"
NO_METHOD = b"\x05\xff"

GRANTED, FAILED, FORBIDDEN, NETWORK_UNREACHABLE, HOST_UNREACHABLE, CONNECTION_REFUSED = range(6)
COMMAND_UNKNOWN, ADDRESS_UNKNOWN = 7, 8

_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4


@dataclass(frozen=True, slots=True)
class Request:
    """A request; `command` other than 1 (CONNECT) is answered with `COMMAND_UNKNOWN`."""

    command: int
    target: Target

    @property
    def connects(self) -> bool:
        return self.command == _CONNECT


def parse_greeting(buffer: bytes | bytearray) -> tuple[bool, int] | None:
    """Whether the client goes without authentication, and the bytes taken; None for "not yet".

    Raises `MalformedError`, for SOCKS4 as well.
    """
    if not buffer:
        return None
    if buffer[0] != VERSION:
        raise MalformedError("SOCKS: version 5 is spoken here", hint="socks5h://")
    if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
        return None
    if buffer[1] == 0:
        raise MalformedError("SOCKS: no method of authentication is offered")
    return 0 in buffer[2 : 2 + buffer[1]], 2 + buffer[1]


def parse_request(buffer: bytes | bytearray) -> tuple[Request, int] | None:
    """The request after the greeting, as `parse_greeting`. Raises `MalformedError`."""
    if len(buffer) < 5:
        return None
    version, command, reserved, kind, first = buffer[:5]
    if version != VERSION or reserved != 0:
        raise MalformedError("SOCKS: the request makes no sense")
    sizes = {_IPV4: 4, _NAME: 1 + first, _IPV6: 16}
    if kind not in sizes:
        raise MalformedError("SOCKS: an unknown kind of address")
    end = 4 + sizes[kind] + 2
    if len(buffer) < end:
        return None
    host = _host(kind, bytes(buffer[4 : end - 2]))
    port = int.from_bytes(buffer[end - 2 : end], "big")
    if port == 0:
        raise MalformedError("SOCKS: port 0")
    return Request(command, Target(host, port)), end


def reply(code: int) -> bytes:
    """The answer to a request. The address in it means nothing to clients that connect."""
    return bytes((VERSION, code, 0, _IPV4)) + bytes(6)


def _host(kind: int, address: bytes) -> str:
    if kind == _NAME:
        return normalise(address[1:])
    if kind == _IPV4:
        return ".".join(map(str, address))
    import ipaddress

    return normalise(str(ipaddress.IPv6Address(address)))
