"""The proxy port of a sandbox: SOCKS5, HTTP CONNECT, and plain HTTP by absolute URL."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from casemate.egress import socks5
from casemate.egress.connection import FIRST_SECONDS, Connection
from casemate.egress.http1 import parse_request
from casemate.egress.model import MalformedError, Target, UpstreamError
from casemate.egress.refusal import response
from casemate.egress.stream import Stream
from casemate.errors import RefusedError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from casemate.egress.rules import Scope

T = TypeVar("T")

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


async def serve_proxy(connection: Connection) -> None:
    """Serve a connection to the proxy port."""
    first = await connection.receive(FIRST_SECONDS)
    if first[:1] in (b"\4", b"\5"):
        await _socks5(connection, first)
    elif first:
        await _http(connection, first)


async def _http(connection: Connection, first: bytes) -> None:
    try:
        head, rest = await _parse(connection, parse_request, first)
        if head.form != "authority":
            if head.form != "absolute":
                raise MalformedError(
                    "HTTP: this is a proxy, and the request names no host",
                    hint="an absolute URL, or CONNECT",
                )
            from casemate.egress.exchange import serve

            connection.via = "absolute"
            await serve(connection, await Stream.open(connection.client, first), scheme="http")
            return
        connection.via = "connect"
        connection.target = connection.session.target(head.host, head.port or 443)
        scope, upstream = await _open(connection, connection.target)
    except RefusedError as error:
        connection.session.record_refusal(
            "connection", connection.target, error, via=connection.via
        )
        await connection.send(response(error, close=True))
        return
    await connection.send(ESTABLISHED)
    await connection.serve(scope, rest, upstream)


async def _socks5(connection: Connection, first: bytes) -> None:
    connection.via = "socks5"
    try:
        plain, rest = await _parse(connection, socks5.parse_greeting, first)
        if not plain:
            await connection.send(socks5.NO_METHOD)
            return
        await connection.send(socks5.NO_AUTHENTICATION)
        request, rest = await _parse(connection, socks5.parse_request, rest)
        if not request.connects:
            await connection.send(socks5.reply(socks5.COMMAND_UNKNOWN))
            return
        named = request.target
        connection.target = connection.session.target(named.host, named.port)
        scope, upstream = await _open(connection, connection.target)
    except RefusedError as error:
        connection.session.record_refusal(
            "connection", connection.target, error, via=connection.via
        )
        await connection.send(socks5.reply(_reply_code(error)))
        return
    await connection.send(socks5.reply(socks5.GRANTED))
    await connection.serve(scope, rest, upstream)


def _reply_code(error: RefusedError) -> int:
    if isinstance(error, UpstreamError):
        return socks5.HOST_UNREACHABLE
    return socks5.FAILED if isinstance(error, MalformedError) else socks5.FORBIDDEN


async def _open(connection: Connection, target: Target) -> tuple[Scope, socket.socket | None]:
    """What the target allows, and a connection to it where nothing is looked into: a client
    learns now that it cannot be reached. Raises `RefusedError`."""
    scope = connection.session.rules.connection(target)
    if scope.inspect or scope.opaque_rule is None or target.port == 80:
        return scope, None
    upstream, _ = await connection.dial(target)
    return scope, upstream


async def _parse(
    connection: Connection, parse: Callable[[bytes], tuple[T, int] | None], data: bytes
) -> tuple[T, bytes]:
    """The message at the start of what comes, and the bytes after it."""
    deadline = asyncio.get_running_loop().time() + FIRST_SECONDS
    while True:
        found = parse(data) if data else None
        if found is not None:
            return found[0], data[found[1] :]
        left = deadline - asyncio.get_running_loop().time()
        more = await connection.receive(max(left, 0.01))
        if not more:
            raise ConnectionError("the client went away")
        data += more
