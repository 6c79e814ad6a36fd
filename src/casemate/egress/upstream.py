"""Dialling: a name is resolved once, every address is checked, and only a checked one is dialled.

So an allowed name cannot lead to the host's own services, the local network or a cloud's metadata,
however its answers change. Source: RFC 8305 for trying several addresses.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from casemate.egress.addresses import PUBLIC, classify
from casemate.egress.model import Target, UpstreamError
from casemate.egress.names import is_address
from casemate.egress.rules import LOCALHOST
from casemate.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from casemate.egress.rules import Rules

    Resolve = Callable[[str, int], Awaitable[list[str]]]

RESOLVE_SECONDS = 10.0
CONNECT_SECONDS = 15.0
NEXT_SECONDS = 0.25
"""After how long without an answer the next address is tried as well."""
ADDRESSES_MAX = 16


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, by the system's resolver. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    # With the dot at the end no search domain of the host is tried.
    found = await loop.getaddrinfo(f"{host}.", port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def choose(rules: Rules, target: Target, lookup: Resolve = resolve) -> list[tuple[str, int]]:
    """Where a connection to an allowed target may go, best first.

    Raises `RefusedError` with the code "address" where no address may be dialled, `UpstreamError`
    where the name has none.
    """
    pin = rules.pin(target)
    if pin is not None:
        return _not_denied(rules, target, [(pin.address, pin.to_port)])
    if target.host == LOCALHOST:
        return _not_denied(rules, target, [("127.0.0.1", target.port), ("::1", target.port)])
    try:
        if is_address(target.host):
            found = [target.host]
        else:
            found = await asyncio.wait_for(lookup(target.host, target.port), RESOLVE_SECONDS)
    except (OSError, TimeoutError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "no answer"
        raise UpstreamError(f"{target.host} cannot be resolved: {reason}") from error
    refused = ""
    good = []
    for address in found[:ADDRESSES_MAX]:
        try:
            kind = classify(address)
        except ValueError:
            continue
        if kind == PUBLIC or rules.lists_address(target, address):
            good.append((address, target.port))
        else:
            refused = refused or f"{address} ({kind})"
    if good:
        return _not_denied(rules, target, good)
    if refused:
        place = refused.split(" ", 1)[0]
        shown = f"[{place}]" if ":" in place else place
        raise RefusedError(
            f"{target.host} leads to {refused}, which is not a public address",
            code="address",
            allow=f'network.allow = ["{shown}:{target.port}"]',
            hint="list the address only if you know what answers there",
        )
    raise UpstreamError(f"{target.host} has no address")


def _not_denied(
    rules: Rules, target: Target, places: list[tuple[str, int]]
) -> list[tuple[str, int]]:
    """The places that no rule denies by their address. Raises `RefusedError` if none is left."""
    left = [place for place in places if rules.denying(*place) is None]
    rule = rules.denying(*places[0])
    if rule is None or left:
        return left
    reason = f": {rule.reason}" if rule.reason else ""
    raise RefusedError(
        f"{target} leads to {places[0][0]}, which is denied{reason}",
        code="denied",
        rule=f'network.deny "{rule.text}" ({rule.origin})',
    )


async def dial(
    rules: Rules, target: Target, lookup: Resolve = resolve
) -> tuple[socket.socket, str]:
    """A connected, non-blocking socket and the address it goes to.

    Raises `RefusedError` or `UpstreamError`.
    """
    places = await choose(rules, target, lookup)
    attempts: set[asyncio.Task[socket.socket]] = set()
    addresses: dict[asyncio.Task[socket.socket], str] = {}
    reason = "no answer"
    waiting = list(places)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_SECONDS
    try:
        while (waiting or attempts) and loop.time() < deadline:
            if waiting:
                place = waiting.pop(0)
                task = loop.create_task(_connect(*place))
                addresses[task] = place[0]
                attempts.add(task)
            pause = NEXT_SECONDS if waiting else deadline - loop.time()
            done, attempts = await asyncio.wait(
                attempts, timeout=pause, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = task.exception()
                if error is None:
                    return task.result(), addresses[task]
                known = isinstance(error, OSError) and error.errno
                reason = os.strerror(known) if known else str(error)
        raise UpstreamError(f"{target} cannot be reached: {reason}")
    finally:
        for task in attempts:
            task.add_done_callback(_drop)
            task.cancel()


async def _connect(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, (address, port))
    except BaseException:
        connection.close()
        raise
    return connection


def _drop(task: asyncio.Task[socket.socket]) -> None:
    if not task.cancelled() and task.exception() is None:
        task.result().close()
