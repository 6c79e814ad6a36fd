"""TLS taken apart where a rule or a secret needs the requests, or to tell why there are none.

The upstream's handshake, its certificate verified, comes first: a client never sees success where
the real server could not prove who it is.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from casemate.egress.connection import FIRST_SECONDS
from casemate.egress.model import MalformedError
from casemate.egress.names import normalise
from casemate.egress.refusal import refuse_http
from casemate.egress.stream import Stream
from casemate.errors import RefusedError

if TYPE_CHECKING:
    from casemate.egress.client_hello import ClientHello
    from casemate.egress.connection import Connection

PROTOCOLS = ("h2", "http/1.1")


async def intercept(connection: Connection, hello: ClientHello, first: bytes) -> None:
    """Serve the requests inside a TLS connection to an allowed target."""
    from casemate.egress.exchange import serve

    assert connection.target is not None
    target = connection.target
    offered = [name for name in PROTOCOLS if name.encode() in hello.alpn] or ["http/1.1"]
    try:
        _check_protocols(connection, hello)
        upstream, address = await connection.dial_tls(target, offered)
    except RefusedError as error:
        connection.session.record_refusal("connection", target, error, via=connection.via)
        await explain(connection, hello, first, error)
        return
    # The client gets what the server chose, so that nothing has to be translated.
    chosen = upstream.alpn or "http/1.1"
    try:
        stream = await _terminate(connection, target.host, first, chosen)
    except BaseException:
        upstream.abort()
        raise
    if stream is None:
        upstream.abort()
        return
    if chosen == "h2":
        from casemate.egress import http2

        await http2.serve(connection, stream, upstream, address)
    else:
        await serve(connection, stream, scheme="https", upstream=(upstream, address))


async def explain(
    connection: Connection, hello: ClientHello, first: bytes, error: RefusedError
) -> None:
    """Shake hands as the server that was meant, and answer the request with the refusal."""
    try:
        name = normalise(hello.server_name or b"")
    except MalformedError:
        name = connection.target.host if connection.target else "refused.invalid"
    if not connection.session.teaches or connection.session.rules.is_opaque(name):
        connection.reset()
        return
    stream = await _terminate(connection, name, first, "http/1.1")
    if stream is not None:
        await refuse_http(stream, error)


async def _terminate(
    connection: Connection, name: str, first: bytes, protocol: str
) -> Stream | None:
    """The client's TLS, ended here; None where it does not trust the session's authority."""
    stream = await Stream.open(connection.client, first)
    context = connection.session.authority.context(name, (protocol,))
    try:
        await asyncio.wait_for(stream.start_tls(context, server=True), FIRST_SECONDS)
    except (ssl.SSLError, OSError, TimeoutError) as problem:
        stream.abort()
        error = RefusedError(
            f"the client did not accept the session's certificate for {name}: {problem}",
            code="trust",
            hint=f'if the program pins certificates: network.opaque = ["{name}"]',
        )
        connection.session.record_refusal(
            "connection", connection.target, error, via=connection.via
        )
        return None
    return stream


def _check_protocols(connection: Connection, hello: ClientHello) -> None:
    """HTTP is spoken where requests are looked into; a client that speaks none is told so."""
    if hello.alpn and not {b"h2", b"http/1.1"} & set(hello.alpn):
        offered = ", ".join(protocol.decode("latin-1") for protocol in hello.alpn)
        raise RefusedError(
            f"{connection.target} is looked into, and {offered!a} alone cannot be",
            code="protocol",
            allow=f'network.allow = ["{connection.target}"]',
            hint="a rule without methods, paths, request budgets and secrets passes it untouched",
        )
