"""One connection of HTTP/2: frames in and out, within the windows. Source: RFC 9113."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import FrameTooLargeError
from h2.settings import SettingCodes, Settings

from casemate.egress.connection import IDLE_SECONDS

if TYPE_CHECKING:
    from h2.events import Event

    from casemate.egress.stream import Stream

STREAMS_MAX = 100
WINDOW = 256 << 10
"""Bytes of one body that may be under way, each direction."""
CONNECTION_WINDOW = 4 << 20
HEADERS_MAX = 64 << 10
TAKEN_SECONDS = 600.0
"""For a client or server to take what it is sent."""


PREFACE = 24
"""Bytes that a client says before its first frame. RFC 9113 section 3.4"""
FRAME_MAX = 16384
"""Bytes of a frame's content, the most that is asked of the other side and the least there is."""
_HEAD = 9


class _Lengths:
    """Looks at the length of each frame as its head arrives: the library keeps a frame of any length
    until it is whole, and only then finds it too long."""

    def __init__(self, preface: int) -> None:
        self._left = preface
        self._head = b""

    def feed(self, data: bytes) -> None:
        """Raises `FrameTooLargeError`."""
        at = 0
        while at < len(data):
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            piece = data[at : at + _HEAD - len(self._head)]
            self._head += piece
            at += len(piece)
            if len(self._head) == _HEAD:
                self._left = int.from_bytes(self._head[:3], "big")
                self._head = b""
                if self._left > FRAME_MAX:
                    raise FrameTooLargeError("a frame that is longer than was agreed")


class Side:
    """One of the two connections: frames in and out, and waiting for room."""

    def __init__(self, stream: Stream, *, client: bool) -> None:
        self.stream = stream
        self.frames = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        values: dict[SettingCodes, int] = {
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS_MAX,
            SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEADERS_MAX,
        }
        if client:
            values[SettingCodes.ENABLE_PUSH] = 0
        # From the first frame on: settings that are changed later count once the peer says so.
        self.frames.local_settings = Settings(client=client, initial_values=dict(values))
        self._lengths = _Lengths(0 if client else PREFACE)
        self._room = asyncio.Event()

    async def begin(self) -> None:
        """Says hello."""
        self.frames.initiate_connection()
        self.frames.increment_flow_control_window(CONNECTION_WINDOW)
        await self.flush()

    async def receive(self) -> list[Event] | None:
        """What the next bytes bring; None at the end. Raises `H2Error`, `OSError`."""
        data = await asyncio.wait_for(self.stream.read(), IDLE_SECONDS)
        if not data:
            return None
        self._lengths.feed(data)
        events = list(self.frames.receive_data(data))
        # Among them may be one that makes room.
        self._room.set()
        await self.flush()
        return events

    async def flush(self) -> None:
        """Sends the frames that are ready."""
        data = self.frames.data_to_send()
        if data:
            self.stream.write(data)
            await self.stream.drain()

    async def send(self, identifier: int, data: bytes) -> None:
        """Sends a piece of a body as the other side's window allows."""
        at = 0
        while at < len(data):
            room = min(
                self.frames.local_flow_control_window(identifier),
                self.frames.max_outbound_frame_size,
            )
            if room <= 0:
                self._room.clear()
                await asyncio.wait_for(self._room.wait(), TAKEN_SECONDS)
                continue
            piece = data[at : at + room]
            self.frames.send_data(identifier, piece)
            at += len(piece)
            await self.flush()
