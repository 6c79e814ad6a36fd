"""The name server of a sandbox, as packets: questions in, made-up answers out.

Nothing is ever asked of another server: a name alone carries nothing out. Sources: RFC 1035,
RFC 6891 (EDNS), RFC 2308 (an empty answer).
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from casemate.egress.model import MalformedError

A, PTR, AAAA, OPT = 1, 12, 28, 41
NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NAME_ERROR, NOT_IMPLEMENTED, REFUSED = range(6)

TTL = 60
MESSAGE_MAX = 4096
"""Bytes of the longest question that is looked at."""

_INTERNET = 1
_RESPONSE, _AUTHORITATIVE, _RECURSION_AVAILABLE = 0x8000, 0x0400, 0x0080


@dataclass(frozen=True, slots=True)
class Query:
    """One question. `question` is its wire form, given back as it came (case included)."""

    identifier: int
    flags: int
    name: bytes
    """Labels joined by dots, without one at the end; not yet normalised."""
    kind: int
    internet: bool
    question: bytes
    edns: bool


def parse_query(packet: bytes) -> Query:
    """Reads a question. Raises `MalformedError` for what deserves no answer."""
    if not 12 < len(packet) <= MESSAGE_MAX:
        raise MalformedError("DNS: a message of an impossible size")
    words = [int.from_bytes(packet[at : at + 2], "big") for at in range(0, 12, 2)]
    identifier, flags, questions, answers, authorities, additional = words
    if flags & _RESPONSE or flags & 0x7800:
        raise MalformedError("DNS: not a standard query")
    if questions != 1 or answers or authorities or additional > 2:
        raise MalformedError("DNS: not one question alone")
    name, at = _name(packet)
    if at + 4 > len(packet):
        raise MalformedError("DNS: the question is cut off")
    kind = int.from_bytes(packet[at : at + 2], "big")
    internet = int.from_bytes(packet[at + 2 : at + 4], "big") == _INTERNET
    at += 4
    edns = additional > 0 and packet[at : at + 3] == bytes((0, 0, OPT))
    return Query(identifier, flags, name, kind, internet, packet[12:at], edns)


def answer(query: Query, records: list[bytes]) -> bytes:
    """The reply with these records' data, all of the kind that was asked for; none is an empty
    answer, which says that the name exists and has nothing of the kind."""
    head = b"\xc0\x0c" + query.kind.to_bytes(2, "big") + b"\0\1" + TTL.to_bytes(4, "big")
    body = b"".join(head + len(data).to_bytes(2, "big") + data for data in records)
    return _reply(query, NO_ERROR, len(records), body)


def refuse(query: Query, code: int) -> bytes:
    """The reply that there is no answer."""
    return _reply(query, code, 0, b"")


def address_record(address: str) -> bytes:
    """An address as the data of an A or AAAA record."""
    return ipaddress.ip_address(address).packed


def name_record(name: str) -> bytes:
    """A name as the data of a PTR record."""
    labels = name.encode("ascii").split(b".")
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def reverse_address(name: str) -> str | None:
    """The address that a name below in-addr.arpa or ip6.arpa asks about. RFC 1035, RFC 3596."""
    try:
        if name.endswith(".in-addr.arpa"):
            return str(ipaddress.IPv4Address(".".join(name.split(".")[-3::-1])))
        if name.endswith(".ip6.arpa"):
            digits = "".join(name.split(".")[-3::-1])
            return str(ipaddress.IPv6Address(bytes.fromhex(digits)))
    except ValueError:
        pass
    return None


def _reply(query: Query, code: int, count: int, body: bytes) -> bytes:
    flags = _RESPONSE | _AUTHORITATIVE | _RECURSION_AVAILABLE | (query.flags & 0x0110) | code
    words = (query.identifier, flags, 1, count, 0, int(query.edns))
    head = b"".join(word.to_bytes(2, "big") for word in words)
    # An OPT record of our own: 1232 bytes, no extended code, version 0. RFC 6891 section 6.1
    option = b"\0\0\x29\x04\xd0\0\0\0\0\0\0" if query.edns else b""
    return head + query.question + body + option


def _name(packet: bytes) -> tuple[bytes, int]:
    at, total = 12, 0
    labels: list[bytes] = []
    while True:
        if at >= len(packet):
            raise MalformedError("DNS: the name is cut off")
        size = packet[at]
        at += 1
        if size == 0:
            return b".".join(labels), at
        if size > 63:
            raise MalformedError("DNS: a compressed name in a question")
        total += size + 1
        if total > 254 or at + size > len(packet):
            raise MalformedError("DNS: the name is too long or cut off")
        labels.append(packet[at : at + size])
        at += size
