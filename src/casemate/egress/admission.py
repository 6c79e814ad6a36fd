"""Whether one request may go, and with what: the checks that every version of HTTP shares."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from casemate.egress.http1 import end_to_end
from casemate.egress.model import MalformedError, Target
from casemate.egress.session import milliseconds_since
from casemate.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from casemate.egress.budgets import Account
    from casemate.egress.connection import Connection
    from casemate.egress.http1 import Header, RequestHead
    from casemate.egress.rules import Spoken
    from casemate.policy.model import Endpoint
    from casemate.vault.client import SecretSession


class Screen(Protocol):
    """What a body goes through on its way."""

    async def feed(self, data: bytes) -> bytes:
        """What may go on of the next piece. Raises `RefusedError`."""

    async def finish(self) -> bytes:
        """What was held back. Raises `RefusedError`."""

    def drop(self) -> None:
        """The body ends in the middle."""


class _Open:
    """Nothing to look for."""

    async def feed(self, data: bytes) -> bytes:
        return data

    async def finish(self) -> bytes:
        return b""

    def drop(self) -> None:
        pass


_OPEN = _Open()


@contextlib.contextmanager
def screened(screen: Screen) -> Iterator[Screen]:
    """A body under way; one that ends in the middle is dropped."""
    try:
        yield screen
    except BaseException:
        with contextlib.suppress(RefusedError):
            screen.drop()
        raise


class Traffic:
    """Bytes that one request and its response moved."""

    __slots__ = ("down", "up")

    def __init__(self) -> None:
        self.up = 0
        self.down = 0


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may go, as it goes."""

    target: Target
    rule: Endpoint
    account: Account
    authority: bytes
    """For the Host header."""
    path: bytes
    headers: list[Header]
    started: float
    """time.monotonic() when it was admitted."""
    traffic: Traffic
    secrets: SecretSession | None
    bound: bool
    """A secret belongs to the host, so what comes back may reflect it."""

    def up(self, count: int) -> int:
        """How many of `count` bytes may go out now; they are counted."""
        passed = self.account.up(count)
        self.traffic.up += passed
        return passed

    def down(self, count: int) -> int:
        """How many of `count` bytes may come in now; they are counted."""
        passed = self.account.down(count)
        self.traffic.down += passed
        return passed

    def screen_request(self) -> Screen:
        """For the body on its way out: no secret may be in it but one that belongs there."""
        if self.secrets is None:
            return _OPEN
        return self.secrets.body(self.target.host, _encoding(self.headers))

    def screen_response(self, headers: Sequence[Header]) -> Screen:
        """For the body on its way in: a secret that the server reflects is taken out."""
        if self.secrets is None or not self.bound:
            return _OPEN
        return self.secrets.response(self.target.host, _encoding(headers))

    async def screen_headers(self, headers: list[Header]) -> list[Header]:
        """The headers of a response as the client may see them."""
        if self.secrets is None or not self.bound or not headers:
            return headers
        return await self.secrets.scrub_headers(headers, self.target.host)


def record(
    connection: Connection, head: RequestHead, admitted: Admitted, address: str, status: int
) -> None:
    """One request for the journal, however it ended: `status` 0 where no response began. One that
    never went out is not recorded. Raises `RefusedError` where it cannot be."""
    if not admitted.traffic.up:
        return
    connection.session.record(
        "request",
        via=connection.via,
        method=head.method.decode("latin-1"),
        host=admitted.target.host,
        port=admitted.target.port,
        path=head.path.decode("latin-1").partition("?")[0],
        address=address,
        rule=admitted.rule.text,
        status=status,
        up=admitted.traffic.up,
        down=admitted.traffic.down,
        ms=milliseconds_since(admitted.started),
    )


async def admit(connection: Connection, scheme: str, head: RequestHead) -> Admitted:
    """Judge a request. Raises `RefusedError`."""
    session = connection.session
    target = _target(connection, scheme, head)
    method = head.method.decode("latin-1")
    if method in ("CONNECT", "TRACE"):
        raise RefusedError(f"{method} within a connection to {target}", code="method")
    session.check_journal()
    spoken: Spoken = "tls" if scheme == "https" else "http"
    rule = session.rules.request(target, method, head.path.decode("latin-1"), spoken)
    if connection.target is None:
        # By proxy each request may name another host.
        session.rules.connection(target)
    account = connection.account(rule)
    account.request()
    path, headers = head.path, end_to_end(head.headers)
    if session.secrets is not None:
        path, headers = await session.secrets.outgoing(
            target.host, target.port, head.method, path, headers
        )
    default = 443 if scheme == "https" else 80
    authority = str(target) if target.port != default else str(target).rpartition(":")[0]
    if head.host != target.host:
        # A service of this machine is called by whatever loopback name the client used.
        authority = head.host if target.port == default else f"{head.host}:{target.port}"
    return Admitted(
        target=target,
        rule=rule,
        account=account,
        authority=authority.encode("ascii"),
        path=path,
        headers=headers,
        started=time.monotonic(),
        traffic=Traffic(),
        secrets=session.secrets,
        bound=session.secrets is not None and session.secrets.bound(target.host),
    )


def _encoding(headers: Sequence[Header]) -> str:
    """How a body is compressed."""
    found = [value for name, value in headers if name.lower() == b"content-encoding"]
    return b", ".join(found).strip().decode("latin-1")


def _target(connection: Connection, scheme: str, head: RequestHead) -> Target:
    """Whom the request names, which must be whom the connection was made to."""
    if head.form == "absolute" and head.scheme != scheme:
        raise MalformedError(f"HTTP: {head.scheme} within {scheme}")
    if not head.host:
        raise MalformedError("HTTP: a request without a host")
    wanted = connection.target
    default = 443 if scheme == "https" else 80
    port = head.port or (wanted.port if wanted is not None else default)
    named = connection.session.target(head.host, port)
    if wanted is None:
        return named
    if named != wanted:
        raise RefusedError(
            f"a request on a connection to {wanted} names {named}",
            code="authority",
            hint="open a connection to the host that is meant",
        )
    return wanted
