"""One connection out of the sandbox, from its first byte to its end.

The order of the checks: the listener says whose it is, its local address (or the proxy protocol)
where it wants to go, the rules whether it may, its first bytes what it speaks, and whatever names
itself there must name the same host.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import termios
import time
from typing import TYPE_CHECKING, Literal

from casemate.egress import client_hello
from casemate.egress.model import MalformedError, Target, UpstreamError
from casemate.egress.names import is_address, normalise
from casemate.egress.rules import LOCALHOST
from casemate.egress.session import milliseconds_since
from casemate.egress.splice import Tunnel
from casemate.egress.stream import Stream
from casemate.egress.upstream import dial
from casemate.errors import RefusedError
from casemate.policy.endpoints import METHODS

if TYPE_CHECKING:
    from casemate.egress.budgets import Account
    from casemate.egress.client_hello import ClientHello
    from casemate.egress.rules import Scope, Spoken
    from casemate.egress.session import Session
    from casemate.policy.model import Endpoint

Via = Literal["connect", "absolute", "socks5", "transparent"]

FIRST_SECONDS = 30.0
"""For a head or a handshake to be complete."""
SILENCE_SECONDS = 0.15
"""After this a client that says nothing is taken for one that waits for the server (ssh, smtp)."""
IDLE_SECONDS = 3600.0
DELIVERY_SECONDS = 10.0
FIRST_MAX = 64 << 10

_METHODS = tuple(f"{method} ".encode() for method in (*METHODS, "CONNECT", "TRACE"))


class Connection:
    """A client's connection and what has been decided about it."""

    def __init__(self, session: Session, client: socket.socket, via: Via) -> None:
        self.session = session
        self.client = client
        self.via = via
        self.target: Target | None = None
        self.started = time.monotonic()
        self._accounts: dict[Endpoint, Account] = {}

    def account(self, rule: Endpoint) -> Account:
        """This connection's share of a rule's budget. Raises `RefusedError`."""
        found = self._accounts.get(rule)
        if found is None:
            found = self._accounts[rule] = self.session.budgets.account(rule)
        return found

    async def dial(self, target: Target) -> tuple[socket.socket, str]:
        """A socket to an allowed target. Raises `RefusedError`, `UpstreamError`."""
        self.session.check_journal()
        return await dial(self.session.rules, target, self.session.lookup)

    async def dial_tls(self, target: Target, protocols: list[str]) -> tuple[Stream, str]:
        """A verified TLS stream to an allowed target, and the address it goes to.

        Raises `RefusedError`, `UpstreamError`.
        """
        upstream, address = await self.dial(target)
        stream = await Stream.open(upstream)
        try:
            context = self.session.upstream_context(tuple(protocols))
            await asyncio.wait_for(
                stream.start_tls(context, server=False, name=target.host), FIRST_SECONDS
            )
        except (ssl.SSLError, OSError, TimeoutError) as error:
            stream.abort()
            reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or error
            raise UpstreamError(f"{target}: no TLS: {reason}") from error
        except BaseException:
            stream.abort()
            raise
        return stream, address

    def close(self) -> None:
        """Ends what is still open and what it held of the budgets."""
        for account in self._accounts.values():
            account.close()
        self.client.close()

    async def run(self, target: Target, first: bytes = b"") -> None:
        """Serve a connection whose target is known; `first` was read of it already."""
        self.target = target
        try:
            scope = self.session.rules.connection(target)
        except RefusedError as error:
            await self.refuse(error, first)
            return
        await self.serve(scope, first)

    async def serve(
        self, scope: Scope, first: bytes, upstream: socket.socket | None = None
    ) -> None:
        """Serve a connection that the rules allow, once it has said what it speaks."""
        assert self.target is not None
        if scope.anything:
            await self._tunnel(scope.speaking("tcp"), first, upstream)
            return
        try:
            spoken, first = await self._listen(scope, first)
            hello = None
            scope = scope.speaking(spoken)
            if spoken == "tls":
                first, hello = await self._hello(first)
                self._check_hello(scope, hello)
            elif spoken == "tcp" and scope.opaque_rule is None:
                raise self._unseen(scope)
        except RefusedError as error:
            if upstream is not None:
                upstream.close()
            await self.refuse(error, first)
            return
        if spoken == "http":
            from casemate.egress.exchange import serve

            if upstream is not None:
                upstream.close()
            await serve(self, await Stream.open(self.client, first), scheme="http")
        elif hello is not None and scope.inspect:
            from casemate.egress.intercept import intercept

            if upstream is not None:
                upstream.close()
            await intercept(self, hello, first)
        else:
            await self._tunnel(scope, first, upstream)

    async def refuse(self, error: RefusedError, first: bytes = b"") -> None:
        """Record a refusal, and tell it in whatever the client speaks."""
        self.session.record_refusal("connection", self.target, error, via=self.via)
        try:
            if not first:
                first = await self.receive(SILENCE_SECONDS)
            if client_hello.looks_like_tls(first):
                from casemate.egress.intercept import explain

                first, hello = await self._hello(first)
                await explain(self, hello, first, error)
            elif first.startswith(_METHODS):
                from casemate.egress.refusal import refuse_http

                await refuse_http(await Stream.open(self.client, first), error)
            else:
                self.reset()
        except (TimeoutError, RefusedError, OSError):
            self.reset()

    def reset(self) -> None:
        """Close with a reset, so that the client knows at once."""
        try:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        except OSError:
            pass
        self.client.close()

    async def receive(self, seconds: float) -> bytes:
        """What comes next on the raw socket. Raises `OSError`, `TimeoutError`."""
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(loop.sock_recv(self.client, FIRST_MAX), seconds)

    async def send(self, data: bytes) -> None:
        """Send on the raw socket. Raises `OSError`."""
        await asyncio.get_running_loop().sock_sendall(self.client, data)

    async def _listen(self, scope: Scope, first: bytes) -> tuple[Spoken, bytes]:
        """What the client speaks, by its first bytes."""
        patient = scope.expects
        while True:
            spoken = _spoken(first)
            if spoken is not None:
                return spoken, first
            try:
                more = await self.receive(FIRST_SECONDS if patient or first else SILENCE_SECONDS)
            except TimeoutError:
                if patient:
                    raise MalformedError("nothing was said", code="protocol") from None
                return "tcp", first
            if not more:
                return "tcp", first
            first += more

    async def _hello(self, first: bytes) -> tuple[bytes, ClientHello]:
        deadline = asyncio.get_running_loop().time() + FIRST_SECONDS
        while True:
            hello = client_hello.parse(first)
            if hello is not None:
                return first, hello
            left = deadline - asyncio.get_running_loop().time()
            more = await self.receive(max(left, 0.01))
            if not more:
                raise MalformedError("TLS: the ClientHello is cut off")
            first += more

    def _unseen(self, scope: Scope) -> RefusedError:
        return RefusedError(
            f"the rules for {self.target} are about requests, and none can be seen here",
            code="protocol",
            rule="; ".join(f'"{rule.text}" ({rule.origin})' for rule in scope.rules[:5]),
            # No rule that allows takes back one that denies.
            allow="" if scope.denied else f'network.allow = ["{self.target} tcp"]',
        )

    def _check_hello(self, scope: Scope, hello: ClientHello) -> None:
        assert self.target is not None
        host = self.target.host
        named = None if hello.server_name is None else normalise(hello.server_name)
        if named is None:
            if not is_address(host) and host != LOCALHOST:
                raise RefusedError(
                    f"TLS to {self.target} without a server name",
                    code="sni",
                    hint="a client that connects by name sends it",
                )
        elif named != host:
            if not is_address(host):
                raise RefusedError(
                    f"a connection to {self.target} names {named} as its server", code="sni"
                )
            # By address, with a name: then the name must be allowed as well.
            self.session.rules.connection(Target(named, self.target.port))
        if hello.ech and not scope.inspect and not scope.ech:
            raise RefusedError(
                f"TLS to {self.target} hides the server's name (Encrypted Client Hello)",
                code="ech",
                allow=f'network.allow = ["{self.target} ech"]',
            )

    async def _delivered(self) -> None:
        """Waits until the client has what was approved: a reset would take it back."""
        deadline = time.monotonic() + DELIVERY_SECONDS
        while time.monotonic() < deadline:
            try:
                unsent = fcntl.ioctl(self.client, termios.TIOCOUTQ, bytes(4))
            except OSError:
                return
            if not any(unsent):
                return
            await asyncio.sleep(0.01)

    async def _tunnel(self, scope: Scope, first: bytes, upstream: socket.socket | None) -> None:
        assert self.target is not None
        target, session = self.target, self.session
        rule = scope.opaque_rule
        assert rule is not None, "BUG: a tunnel without a rule"
        account = None
        error: OSError | RefusedError | None = None
        try:
            account = self.account(rule)
            if upstream is None:
                upstream, _ = await self.dial(target)
            await self._pass(first, upstream, account)
        except (OSError, RefusedError) as problem:
            error = problem
        finally:
            # However it ended, and whoever ended it: what was connected is told.
            if upstream is not None and account is not None:
                self._record(rule, upstream, account)
            if upstream is not None:
                upstream.close()
        if isinstance(error, RefusedError):
            if upstream is None or account is None:
                await self.refuse(error, first)
                return
            session.record_refusal("connection", target, error, via=self.via)
            await self._delivered()
        if error is not None:
            self.reset()

    async def _pass(self, first: bytes, upstream: socket.socket, account: Account) -> None:
        """Moves what was said already, and then the rest. Raises `OSError`, `RefusedError`."""
        passed = account.up(len(first))
        if first:
            await asyncio.get_running_loop().sock_sendall(upstream, first[:passed])
        if passed < len(first):
            raise account.exhausted("up")
        await Tunnel(self.client, upstream, account, IDLE_SECONDS).run()

    def _record(self, rule: Endpoint, upstream: socket.socket, account: Account) -> None:
        assert self.target is not None
        try:
            address = str(upstream.getpeername()[0])
        except OSError:
            # The other side is gone already.
            address = ""
        self.session.record(
            "connection",
            via=self.via,
            host=self.target.host,
            port=self.target.port,
            address=address,
            rule=rule.text,
            up=account.up_bytes,
            down=account.down_bytes,
            ms=milliseconds_since(self.started),
        )


def _spoken(first: bytes) -> Spoken | None:
    """What bytes begin; None where too few have come to tell."""
    tls = client_hello.looks_like_tls(first)
    if tls is None or tls:
        return None if tls is None else "tls"
    if first.startswith(_METHODS):
        return "http"
    if any(method.startswith(first) for method in _METHODS):
        return None
    return "tcp"
