"""HTTP/1.1 between a client inside and the servers it may reach, one request after the other.

Every request is judged by itself: whom it names, by which rule it may, what it carries; so a
connection that stays open, a redirect, or a second host on it gains nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from casemate.egress.admission import Admitted, admit, record, screened
from casemate.egress.connection import IDLE_SECONDS
from casemate.egress.http1 import (
    RequestHead,
    ResponseHead,
    end_to_end,
    parse_request,
    parse_response,
    serialise_request,
    serialise_response,
)
from casemate.egress.http1_body import BodyReader, chunk, last_chunk
from casemate.egress.model import MalformedError, Target, UpstreamError
from casemate.egress.refusal import part, response
from casemate.egress.stream import Stream
from casemate.errors import RefusedError

if TYPE_CHECKING:
    from casemate.egress.connection import Connection
    from casemate.egress.http1 import Header

WAITING_SECONDS = 120.0
"""For the next request on a connection that is kept open."""
SKIP_MAX = 64 << 10
"""Bytes of a refused request's body that are read over to keep the connection."""
INTERIM_MAX = 20
"""Responses of the 100s before the real one."""


async def serve(
    connection: Connection,
    stream: Stream,
    *,
    scheme: str,
    upstream: tuple[Stream, str] | None = None,
) -> None:
    """Serve requests until one side is done. `upstream` is connected to the target already."""
    engine = _Engine(connection, stream, scheme)
    if upstream is not None and connection.target is not None:
        engine.keep(connection.target, *upstream)
    try:
        while await engine.next():
            pass
        await part(stream)
    except (OSError, TimeoutError):
        stream.abort()
    finally:
        engine.drop()
        stream.abort()


class _Engine:
    """One client connection, and at most one connection to a server behind it."""

    def __init__(self, connection: Connection, stream: Stream, scheme: str) -> None:
        self.connection = connection
        self.stream = stream
        self.scheme = scheme
        self.upstream: Stream | None = None
        self.upstream_target: Target | None = None
        self.address = ""

    def keep(self, target: Target, upstream: Stream, address: str) -> None:
        self.upstream, self.upstream_target, self.address = upstream, target, address

    def drop(self) -> None:
        if self.upstream is not None:
            self.upstream.abort()
            self.upstream = None

    async def next(self) -> bool:
        """Serve one request; whether another may follow."""
        try:
            head = await asyncio.wait_for(self.stream.read_until(parse_request), WAITING_SECONDS)
        except MalformedError as error:
            self._record(None, error, None)
            self.stream.write(response(error, close=True))
            return False
        if head is None:
            return False
        self.status, self.begun = 0, False
        admitted = None
        try:
            admitted = await admit(self.connection, self.scheme, head)
            again = await self._forward(head, admitted)
        except RefusedError as error:
            self._record(head, error, admitted)
            return await self._refuse(head, error)
        return again

    async def _refuse(self, head: RequestHead, error: RefusedError) -> bool:
        """Answer with the refusal; keeps the connection where the body is none or short."""
        self.drop()
        reader = BodyReader(head.length or 0, head.chunked)
        skip = head.has_body and not head.expect_continue
        keep = head.keep_alive and not isinstance(error, MalformedError)
        if self.status or self.begun or (skip and (head.chunked or (head.length or 0) > SKIP_MAX)):
            keep = skip = False
        if skip:
            await self._skip(reader)
        if not self.status:
            self.stream.write(response(error, close=not keep, empty=head.method == b"HEAD"))
            await self.stream.drain()
        return keep and not (head.has_body and head.expect_continue)

    status = 0
    """Of the response whose head went out, so that no refusal can take its place."""
    begun = False
    """Some of the request's body was taken, so that nobody knows where the next request is."""

    async def _skip(self, reader: BodyReader) -> None:
        while not reader.done:
            data = await asyncio.wait_for(self.stream.read(), WAITING_SECONDS)
            if not data:
                raise ConnectionError("the request was cut off")
            reader.feed(data)
        self.stream.unread(reader.rest)

    async def _forward(self, head: RequestHead, admitted: Admitted) -> bool:
        reused = self.upstream is not None and self.upstream_target == admitted.target
        try:
            try:
                return await self._exchange(head, admitted)
            except ConnectionError:
                # A server may close a connection it kept at any moment; nothing was answered.
                if not reused or head.has_body or self.status:
                    raise UpstreamError(f"{admitted.target} closed the connection") from None
                self.drop()
                return await self._exchange(head, admitted)
        finally:
            # However it ended, and whoever ended it: what went out is told.
            record(self.connection, head, admitted, self.address, self.status)

    async def _connect(self, admitted: Admitted) -> Stream:
        if self.upstream is not None and self.upstream_target == admitted.target:
            return self.upstream
        self.drop()
        if self.scheme == "https":
            stream, address = await self.connection.dial_tls(admitted.target, ["http/1.1"])
        else:
            connected, address = await self.connection.dial(admitted.target)
            stream = await Stream.open(connected)
        self.keep(admitted.target, stream, address)
        return stream

    async def _exchange(self, head: RequestHead, admitted: Admitted) -> bool:
        upstream = await self._connect(admitted)
        self._send_up(upstream, _request(head, admitted), admitted)
        sending: asyncio.Task[None] | None = None
        if head.has_body:
            sending = asyncio.get_running_loop().create_task(
                self._send_body(head, upstream, admitted)
            )
        try:
            answer = await self._answer(head, upstream, admitted, sending)
            if answer.status == 101:
                await self._upgraded(upstream, admitted)
                return False
            await self._receive_body(answer, upstream, admitted)
            if sending is not None:
                # An answer that came before the end of the request leaves both in the middle.
                if not sending.done():
                    self.drop()
                    return False
                sending.result()
        finally:
            if sending is not None and not sending.done():
                sending.cancel()
        if not answer.keep_alive:
            self.drop()
        return head.keep_alive and not answer.until_close

    async def _send_body(self, head: RequestHead, upstream: Stream, admitted: Admitted) -> None:
        self.begun = True
        reader = BodyReader(head.length or 0, head.chunked)
        with screened(admitted.screen_request()) as screen:
            while not reader.done:
                data = await self.stream.read()
                if not data:
                    raise ConnectionError("the request was cut off")
                await self._pass_up(upstream, await screen.feed(reader.feed(data)), head, admitted)
            self.stream.unread(reader.rest)
            self.begun = False
            await self._pass_up(upstream, await screen.finish(), head, admitted)
        if head.chunked:
            # Trailers of a request are dropped, as a proxy may: nobody would look into them.
            self._send_up(upstream, last_chunk([]), admitted)
            await upstream.drain()

    async def _pass_up(
        self, upstream: Stream, data: bytes, head: RequestHead, admitted: Admitted
    ) -> None:
        if data:
            self._send_up(upstream, chunk(data) if head.chunked else data, admitted)
            await upstream.drain()

    def _send_up(self, upstream: Stream, data: bytes, admitted: Admitted) -> None:
        if admitted.up(len(data)) < len(data):
            raise admitted.account.exhausted("up")
        upstream.write(data)

    async def _answer(
        self,
        head: RequestHead,
        upstream: Stream,
        admitted: Admitted,
        sending: asyncio.Task[None] | None,
    ) -> ResponseHead:
        """The head of the response, passed on; interim ones before it as well."""
        for _ in range(INTERIM_MAX):
            answer = await self._read_answer(head, upstream, sending)
            headers = await admitted.screen_headers(end_to_end(answer.headers))
            if answer.chunked:
                headers.append((b"Transfer-Encoding", b"chunked"))
            if answer.status == 101:
                headers += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
            elif answer.status >= 200:
                close = answer.until_close or not head.keep_alive
                headers.append((b"Connection", b"close" if close else b"keep-alive"))
            data = serialise_response(answer.status, answer.reason, headers)
            if admitted.down(len(data)) < len(data):
                raise admitted.account.exhausted("down")
            if answer.status == 101 and not _upgrades(head):
                raise UpstreamError(f"{admitted.target} changed the protocol unasked")
            if answer.status >= 200 or answer.status == 101:
                self.status = answer.status
            self.stream.write(data)
            if answer.status >= 200 or answer.status == 101:
                return answer
        raise UpstreamError(f"{admitted.target} only ever sends interim responses")

    async def _read_answer(
        self, head: RequestHead, upstream: Stream, sending: asyncio.Task[None] | None
    ) -> ResponseHead:
        reading = upstream.read_until(lambda buffer: parse_response(buffer, head.method))
        if sending is None or sending.done():
            if sending is not None:
                sending.result()
            answer = await reading
        else:
            task = asyncio.get_running_loop().create_task(reading)
            try:
                await asyncio.wait({task, sending}, return_when=asyncio.FIRST_COMPLETED)
                if sending.done() and not task.done():
                    # A request that was refused on its way is not waited for.
                    sending.result()
                answer = await task
            finally:
                task.cancel()
        if answer is None:
            raise ConnectionError("the server closed the connection")
        return answer

    async def _receive_body(
        self, answer: ResponseHead, upstream: Stream, admitted: Admitted
    ) -> None:
        reader = BodyReader(None if answer.until_close else answer.length, answer.chunked)
        with screened(admitted.screen_response(answer.headers)) as screen:
            while not reader.done:
                data = await asyncio.wait_for(upstream.read(), IDLE_SECONDS)
                if not data:
                    reader.end()
                    break
                await self._pass_down(await screen.feed(reader.feed(data)), answer, admitted)
            if upstream is self.upstream and reader.rest:
                # Bytes that nobody asked for belong to no request.
                self.drop()
            await self._pass_down(await screen.finish(), answer, admitted)
        if answer.chunked:
            self.stream.write(last_chunk(await admitted.screen_headers(reader.trailers)))
        await self.stream.drain()

    async def _pass_down(self, data: bytes, answer: ResponseHead, admitted: Admitted) -> None:
        if not data:
            return
        passed = admitted.down(len(data))
        if passed:
            piece = data[:passed]
            self.stream.write(chunk(piece) if answer.chunked else piece)
            await self.stream.drain()
        if passed < len(data):
            raise admitted.account.exhausted("down")

    async def _upgraded(self, upstream: Stream, admitted: Admitted) -> None:
        """Another protocol (websocket) from here on: bytes both ways, counted and screened."""

        async def up() -> None:
            with screened(admitted.screen_request()) as screen:
                while data := await self.stream.read():
                    data = await screen.feed(data)
                    if admitted.up(len(data)) < len(data):
                        raise admitted.account.exhausted("up")
                    upstream.write(data)
                    await upstream.drain()
            upstream.write_end()

        async def down() -> None:
            with screened(admitted.screen_response(())) as screen:
                while data := await upstream.read():
                    data = await screen.feed(data)
                    if admitted.down(len(data)) < len(data):
                        raise admitted.account.exhausted("down")
                    self.stream.write(data)
                    await self.stream.drain()
            self.stream.write_end()

        ways = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            await asyncio.gather(*ways)
        except OSError:
            pass
        finally:
            for way in ways:
                way.cancel()

    def _record(
        self, head: RequestHead | None, error: RefusedError, admitted: Admitted | None
    ) -> None:
        target = admitted.target if admitted else self.connection.target
        if target is None and head is not None and head.host:
            target = Target(head.host, head.port or 80)
        fields = {}
        if head is not None:
            fields["method"] = head.method.decode("latin-1")
            fields["path"] = head.path.decode("latin-1").partition("?")[0]
        self.connection.session.record_refusal(
            "request", target, error, via=self.connection.via, **fields
        )


def _request(head: RequestHead, admitted: Admitted) -> bytes:
    headers: list[Header] = [(b"Host", admitted.authority)]
    headers += [header for header in admitted.headers if header[0].lower() != b"host"]
    if head.chunked:
        headers.append((b"Transfer-Encoding", b"chunked"))
    if _upgrades(head):
        headers += [(b"Connection", b"Upgrade"), (b"Upgrade", head.upgrade)]
    return serialise_request(head.method, admitted.path, headers)


def _upgrades(head: RequestHead) -> bool:
    """Websockets alone: another version of HTTP would hide the requests that follow."""
    return head.upgrade.lower() == b"websocket"
