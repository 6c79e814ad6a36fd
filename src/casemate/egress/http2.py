"""HTTP/2 between a client inside and one server: every stream judged like a request of its own.

Frames are the `h2` library's matter. Here each request is admitted, its bodies are screened and
counted on their way, and what one side has not taken is not asked of the other, so that memory
stays within the windows. Source: RFC 9113.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from h2.exceptions import H2Error

from casemate.egress.admission import Admitted, admit, record, screened
from casemate.egress.http2_head import headers_of, request_of
from casemate.egress.http2_side import Side
from casemate.egress.model import UpstreamError
from casemate.egress.refusal import body as refusal_body
from casemate.egress.refusal import status as refusal_status
from casemate.errors import RefusedError

if TYPE_CHECKING:
    from h2.events import Event

    from casemate.egress.connection import Connection
    from casemate.egress.http1 import Header, RequestHead
    from casemate.egress.stream import Stream

IDLE_EVENTS_MAX = 2000
"""Events that bring no request and no body, between two that do: a flood of them ends it all."""
RESETS_MAX = 200
"""Streams that a client gives up more than it lets finish."""


class _Exchange:
    """One request and its response."""

    def __init__(self, identifier: int) -> None:
        self.inner = identifier
        self.outer = 0
        self.requests: asyncio.Queue[Event] = asyncio.Queue()
        self.responses: asyncio.Queue[Event] = asyncio.Queue()
        self.status = 0
        self.task: asyncio.Task[None] | None = None


async def serve(connection: Connection, client: Stream, upstream: Stream, address: str) -> None:
    """Serve the streams of a client until one side ends."""
    bridge = Bridge(connection, client, upstream, address)
    try:
        await bridge.run()
    except (H2Error, OSError, TimeoutError):
        pass
    finally:
        await bridge.close()
        client.abort()
        upstream.abort()


class Bridge:
    """The client's connection and the server's, and the exchanges on them."""

    def __init__(
        self, connection: Connection, client: Stream, upstream: Stream, address: str
    ) -> None:
        self.connection = connection
        self.address = address
        self.inner = Side(client, client=False)
        self.outer = Side(upstream, client=True)
        self.exchanges: dict[int, _Exchange] = {}
        self.by_outer: dict[int, _Exchange] = {}
        self._idle_events = 0
        self._resets = 0

    async def run(self) -> None:
        """Raises `H2Error`, `OSError`, `TimeoutError` where a side breaks the rules or goes."""
        await self.inner.begin()
        await self.outer.begin()
        ways = [
            asyncio.ensure_future(self._from_client()),
            asyncio.ensure_future(self._from_server()),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                if way.done():
                    way.result()
        finally:
            for way in ways:
                way.cancel()

    async def close(self) -> None:
        """Ends every exchange, and waits until each has told what it did."""
        tasks = [exchange.task for exchange in self.exchanges.values() if exchange.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _from_client(self) -> None:
        while (events := await self.inner.receive()) is not None:
            for event in events:
                self._client_event(event)

    def _client_event(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._idle_events = 0
            exchange = _Exchange(event.stream_id)
            self.exchanges[event.stream_id] = exchange
            exchange.task = asyncio.get_running_loop().create_task(self._exchange(exchange, event))
            return
        if isinstance(event, ConnectionTerminated):
            raise ConnectionError("the client said goodbye")
        found = self.exchanges.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, StreamReset):
            self._resets += 1
            if self._resets > RESETS_MAX:
                raise ConnectionError("streams are opened and given up in a flood")
            if found is not None and found.task is not None:
                found.task.cancel()
        elif isinstance(event, DataReceived | TrailersReceived | StreamEnded):
            if isinstance(event, DataReceived) and event.data:
                self._idle_events = 0
            else:
                self._count_idle()
            if found is not None:
                found.requests.put_nowait(event)
            elif isinstance(event, DataReceived):
                # Of a stream that is over: it counts against the connection all the same.
                self._take(self.inner, event)
        else:
            self._count_idle()

    def _count_idle(self) -> None:
        self._idle_events += 1
        if self._idle_events > IDLE_EVENTS_MAX:
            raise ConnectionError("a flood of frames that ask for nothing")

    async def _from_server(self) -> None:
        while (events := await self.outer.receive()) is not None:
            for event in events:
                if isinstance(event, ConnectionTerminated):
                    raise ConnectionError("the server said goodbye")
                found = self.by_outer.get(getattr(event, "stream_id", None) or 0)
                if found is not None and not isinstance(event, WindowUpdated):
                    found.responses.put_nowait(event)
                elif isinstance(event, DataReceived):
                    self._take(self.outer, event)

    def _take(self, side: Side, event: DataReceived) -> None:
        """What was taken on the other side may be followed by as much."""
        size = event.flow_controlled_length or 0
        if size and event.stream_id:
            with contextlib.suppress(H2Error):
                side.frames.acknowledge_received_data(size, event.stream_id)

    async def _exchange(self, exchange: _Exchange, event: RequestReceived) -> None:
        head = admitted = None
        try:
            head = request_of(list(event.headers or ()))
            admitted = await admit(self.connection, "https", head)
            await self._forward(exchange, head, admitted)
            self._resets = max(0, self._resets - 1)
        except RefusedError as error:
            await self._refuse(exchange, head, error)
        except (H2Error, OSError, TimeoutError):
            self._reset(self.inner, exchange.inner, ErrorCodes.INTERNAL_ERROR)
        finally:
            self.exchanges.pop(exchange.inner, None)
            if head is not None and admitted is not None:
                with contextlib.suppress(RefusedError):
                    record(self.connection, head, admitted, self.address, exchange.status)
            if exchange.outer:
                self.by_outer.pop(exchange.outer, None)
                self._reset(self.outer, exchange.outer, ErrorCodes.CANCEL)
            with contextlib.suppress(OSError, H2Error):
                await self.outer.flush()
                await self.inner.flush()

    async def _forward(self, exchange: _Exchange, head: RequestHead, admitted: Admitted) -> None:
        outer = self.outer.frames
        if outer.open_outbound_streams >= outer.remote_settings.max_concurrent_streams:
            raise UpstreamError(f"{admitted.target} takes no more requests at once")
        exchange.outer = outer.get_next_available_stream_id()
        self.by_outer[exchange.outer] = exchange
        headers = headers_of(head, admitted)
        self._count_up(admitted, sum(len(name) + len(value) + 4 for name, value in headers))
        outer.send_headers(exchange.outer, headers)
        await self.outer.flush()
        sending = asyncio.ensure_future(self._send_body(exchange, admitted))
        answering = asyncio.ensure_future(self._answer(exchange, admitted))
        try:
            await asyncio.wait({sending, answering}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            await answering
        finally:
            sending.cancel()
            answering.cancel()

    async def _send_body(self, exchange: _Exchange, admitted: Admitted) -> None:
        with screened(admitted.screen_request()) as screen:
            while not isinstance(event := await exchange.requests.get(), StreamEnded):
                if isinstance(event, DataReceived):
                    data = await screen.feed(event.data or b"")
                    self._count_up(admitted, len(data))
                    await self.outer.send(exchange.outer, data)
                    self._take(self.inner, event)
                    await self.inner.flush()
            data = await screen.finish()
            self._count_up(admitted, len(data))
            await self.outer.send(exchange.outer, data)
        # Trailers of a request are dropped, as in HTTP/1.1: nobody would look into them.
        self.outer.frames.end_stream(exchange.outer)
        await self.outer.flush()

    def _count_up(self, admitted: Admitted, size: int) -> None:
        if admitted.up(size) < size:
            raise admitted.account.exhausted("up")

    def _count_down(self, admitted: Admitted, size: int) -> None:
        if admitted.down(size) < size:
            raise admitted.account.exhausted("down")

    async def _answer(self, exchange: _Exchange, admitted: Admitted) -> None:
        event = await exchange.responses.get()
        while isinstance(event, InformationalResponseReceived):
            self.inner.frames.send_headers(exchange.inner, list(event.headers or ()))
            await self.inner.flush()
            event = await exchange.responses.get()
        if not isinstance(event, ResponseReceived):
            raise UpstreamError(f"{admitted.target} gave up the request")
        headers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
        await self._pass_headers(exchange, admitted, headers)
        exchange.status = int(dict(headers)[b":status"])
        with screened(admitted.screen_response(headers)) as screen:
            while not isinstance(event := await exchange.responses.get(), StreamEnded):
                if isinstance(event, DataReceived):
                    await self._pass_down(exchange, admitted, await screen.feed(event.data or b""))
                    self._take(self.outer, event)
                    await self.outer.flush()
                elif isinstance(event, TrailersReceived):
                    await self._pass_down(exchange, admitted, await screen.finish())
                    trailers = [(bytes(name), bytes(value)) for name, value in event.headers or ()]
                    await self._pass_headers(exchange, admitted, trailers, last=True)
                    return
                elif isinstance(event, StreamReset):
                    code = event.error_code or ErrorCodes.INTERNAL_ERROR
                    self._reset(self.inner, exchange.inner, code)
                    return
            await self._pass_down(exchange, admitted, await screen.finish())
        self.inner.frames.end_stream(exchange.inner)
        await self.inner.flush()

    async def _pass_headers(
        self, exchange: _Exchange, admitted: Admitted, headers: list[Header], *, last: bool = False
    ) -> None:
        pseudo = [header for header in headers if header[0].startswith(b":")]
        plain = [header for header in headers if not header[0].startswith(b":")]
        found = [*pseudo, *await admitted.screen_headers(plain)]
        self._count_down(admitted, sum(len(name) + len(value) + 4 for name, value in found))
        self.inner.frames.send_headers(exchange.inner, found, end_stream=last)
        await self.inner.flush()

    async def _pass_down(self, exchange: _Exchange, admitted: Admitted, data: bytes) -> None:
        passed = admitted.down(len(data))
        await self.inner.send(exchange.inner, data[:passed])
        if passed < len(data):
            raise admitted.account.exhausted("down")

    async def _refuse(
        self, exchange: _Exchange, head: RequestHead | None, error: RefusedError
    ) -> None:
        fields = {}
        if head is not None:
            fields["method"] = head.method.decode("latin-1")
            fields["path"] = head.path.decode("latin-1").partition("?")[0]
        self.connection.session.record_refusal(
            "request", self.connection.target, error, via=self.connection.via, **fields
        )
        if exchange.status:
            self._reset(self.inner, exchange.inner, ErrorCodes.CANCEL)
            return
        content = refusal_body(error)
        headers = [
            (b":status", b"%d" % refusal_status(error)[0]),
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        with contextlib.suppress(H2Error, OSError, TimeoutError):
            empty = head is not None and head.method == b"HEAD"
            self.inner.frames.send_headers(exchange.inner, headers, end_stream=empty)
            if not empty:
                await self.inner.send(exchange.inner, content)
                self.inner.frames.end_stream(exchange.inner)
            await self.inner.flush()

    def _reset(self, side: Side, identifier: int, code: ErrorCodes | int) -> None:
        with contextlib.suppress(H2Error):
            side.frames.reset_stream(identifier, code)
