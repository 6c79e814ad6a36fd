"""A tunnel that nobody looks into: bytes moved between two sockets by the kernel, counted exactly.

splice(2) through a pipe each way: the bytes never enter this process. Before a move the account
is asked for as much as could be moved, and what was not is given back, so a budget is neither
passed nor missed by a byte. Source: splice(2), pipe(7).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from typing import TYPE_CHECKING

from casemate.errors import RefusedError

if TYPE_CHECKING:
    from casemate.egress.budgets import Account, Direction

CHUNK = 1 << 20
"""Bytes of one move at most, and of a pipe where the system grants them."""
_F_SETPIPE_SZ = 1031
_FLAGS = 1 | 2  # SPLICE_F_MOVE, SPLICE_F_NONBLOCK
_AGAIN = (BlockingIOError, InterruptedError)


class _Way:
    """One direction of a tunnel."""

    def __init__(
        self,
        tunnel: Tunnel,
        direction: Direction,
        source: socket.socket,
        sink: socket.socket,
    ) -> None:
        self.tunnel = tunnel
        self.direction = direction
        self.source = source.fileno()
        self.sink = sink.fileno()
        self.source_socket = source
        self.sink_socket = sink
        self.pending = 0
        self.ended = False
        self.output, self.input = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self.input, _F_SETPIPE_SZ, CHUNK)
        except OSError:
            # More than an ordinary user's share: the usual size does.
            pass
        self.reading = self.writing = False

    def start(self) -> None:
        self.read_when_ready()

    def read_when_ready(self) -> None:
        if not self.reading:
            self.reading = True
            self.tunnel.loop.add_reader(self.source, self.readable)

    def stop_reading(self) -> None:
        if self.reading:
            self.reading = False
            self.tunnel.loop.remove_reader(self.source)

    def readable(self) -> None:
        account = self.tunnel.account
        lease = account.up(CHUNK) if self.direction == "up" else account.down(CHUNK)
        if lease == 0 and not self.at_end():
            self.tunnel.finish(account.exhausted(self.direction))
            return
        moved = 0
        try:
            if lease:
                moved = os.splice(self.source, self.input, lease, flags=_FLAGS)
        except _AGAIN:
            return
        except OSError as error:
            self.tunnel.finish(error)
            return
        finally:
            if moved < lease:
                account.give_back(self.direction, lease - moved)
        if moved == 0:
            self.ended = True
            self.stop_reading()
        self.pending += moved
        self.tunnel.active()
        self.flush()

    def at_end(self) -> bool:
        try:
            return not self.source_socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return False

    def flush(self) -> None:
        while self.pending:
            try:
                self.pending -= os.splice(self.output, self.sink, self.pending, flags=_FLAGS)
            except _AGAIN:
                self.stop_reading()
                if not self.writing:
                    self.writing = True
                    self.tunnel.loop.add_writer(self.sink, self.flush)
                return
            except OSError as error:
                self.tunnel.finish(error)
                return
        if self.writing:
            self.writing = False
            self.tunnel.loop.remove_writer(self.sink)
        if self.ended:
            try:
                self.sink_socket.shutdown(socket.SHUT_WR)
            except OSError as error:
                self.tunnel.finish(error)
                return
            self.tunnel.way_ended()
        else:
            self.read_when_ready()

    def close(self) -> None:
        self.stop_reading()
        if self.writing:
            self.tunnel.loop.remove_writer(self.sink)
        if self.pending:
            self.tunnel.account.give_back(self.direction, self.pending)
        os.close(self.output)
        os.close(self.input)


class Tunnel:
    """Moves bytes both ways until both have ended, one fails, or a budget is used up."""

    def __init__(
        self, client: socket.socket, upstream: socket.socket, account: Account, idle: float
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.account = account
        self.done: asyncio.Future[None] = self.loop.create_future()
        self._idle = idle
        self._last = self.loop.time()
        self._open = 2
        self._ways = [_Way(self, "up", client, upstream)]
        try:
            self._ways.append(_Way(self, "down", upstream, client))
        except OSError:
            self._ways[0].close()
            raise

    async def run(self) -> None:
        """Returns when both ways have ended.

        Raises `OSError` where one fails, `RefusedError` where a budget is used up.
        """
        timer = self.loop.call_later(self._idle, self._check)
        try:
            for way in self._ways:
                way.start()
            await self.done
        finally:
            timer.cancel()
            if self._timer is not None:
                self._timer.cancel()
            for way in self._ways:
                way.close()

    _timer: asyncio.TimerHandle | None = None

    def active(self) -> None:
        self._last = self.loop.time()

    def way_ended(self) -> None:
        self._open -= 1
        if self._open == 0:
            self.finish(None)

    def finish(self, error: OSError | RefusedError | None) -> None:
        if self.done.done():
            return
        for way in self._ways:
            way.stop_reading()
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def _check(self) -> None:
        left = self._last + self._idle - self.loop.time()
        if left <= 0:
            self.finish(TimeoutError("idle"))
        else:
            self._timer = self.loop.call_later(left, self._check)
