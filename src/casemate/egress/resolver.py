"""The name service of a sandbox: every name has an address at once, and none is ever looked up.

So a question carries nothing out, and a name that no rule allows is refused where it can be
explained: at the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING

from casemate.egress import dns
from casemate.egress.model import MalformedError
from casemate.egress.names import is_address, normalise

if TYPE_CHECKING:
    from casemate.egress.session import Session

BATCH = 64
TCP_SECONDS = 30.0
QUESTIONS_MAX = 1000
"""Questions on one TCP connection."""

_IP_PKTINFO = 8


def answer(session: Session, packet: bytes) -> bytes | None:
    """The reply to a question; None for what deserves none."""
    try:
        query = dns.parse_query(packet)
    except MalformedError:
        return None
    if not query.internet:
        return dns.refuse(query, dns.NOT_IMPLEMENTED)
    try:
        name = normalise(query.name)
    except MalformedError:
        return dns.refuse(query, dns.NAME_ERROR)
    if query.kind == dns.PTR:
        address = dns.reverse_address(name)
        known = session.names.name(address) if address else None
        if known is None:
            return dns.refuse(query, dns.NAME_ERROR)
        return dns.answer(query, [dns.name_record(known)])
    if is_address(name) or name.endswith(".arpa"):
        return dns.refuse(query, dns.NAME_ERROR)
    if query.kind not in (dns.A, dns.AAAA):
        # Among them HTTPS records, whose answer would bring keys for Encrypted Client Hello.
        return dns.answer(query, [])
    v4, v6 = session.names.addresses(name)
    return dns.answer(query, [dns.address_record(v4 if query.kind == dns.A else v6)])


class Datagrams:
    """Answers on a UDP socket of the sandbox, from whatever address was asked."""

    def __init__(self, session: Session, connection: socket.socket) -> None:
        self.session = session
        self.connection = connection
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        asyncio.get_running_loop().add_reader(connection.fileno(), self._readable)

    def close(self) -> None:
        """Stops answering."""
        asyncio.get_running_loop().remove_reader(self.connection.fileno())
        self.connection.close()

    def _readable(self) -> None:
        for _ in range(BATCH):
            try:
                packet, ancillary, _, sender = self.connection.recvmsg(dns.MESSAGE_MAX + 1, 64)
            except OSError:
                return
            reply = answer(self.session, packet)
            if reply is None:
                continue
            with contextlib.suppress(OSError):
                self.connection.sendmsg([reply], _source(ancillary), 0, sender)


def _source(ancillary: list[tuple[int, int, bytes]]) -> list[tuple[int, int, bytes]]:
    """The address that was asked, as the one to answer from. Source: ip(7), IP_PKTINFO."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= 12:
            asked = data[8:12]
            return [(level, kind, struct.pack("=I4s4s", 0, asked, bytes(4)))]
    return []


async def serve_stream(session: Session, client: socket.socket) -> None:
    """Answers on a TCP connection. Source: RFC 7766."""
    loop = asyncio.get_running_loop()
    buffer = b""
    for _ in range(QUESTIONS_MAX):
        while len(buffer) < 2 or len(buffer) < 2 + int.from_bytes(buffer[:2], "big"):
            piece = await asyncio.wait_for(loop.sock_recv(client, 4096), TCP_SECONDS)
            if not piece:
                return
            buffer += piece
        end = 2 + int.from_bytes(buffer[:2], "big")
        reply = answer(session, buffer[2:end])
        buffer = buffer[end:]
        if reply is None:
            return
        await loop.sock_sendall(client, len(reply).to_bytes(2, "big") + reply)
