"""One session shared by many callers: whoever waits does the reading for all.

There is one epoll set with the supervisor's socket and the pipes of every command. Of the threads
that wait, one leads: it blocks in epoll, takes in what came for anybody, and wakes those it
concerns. When it leaves, it hands the lead on. An event loop leads always, from a callback. So
there is no thread of our own, no start-up cost, and one set of rules for sync and async.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from casemate.errors import SandboxError
from casemate.sdk.request import Request
from casemate.sdk.result import Result
from casemate.sdk.running import Running
from casemate.sdk.streams import Output
from casemate.supervisor.protocol import EXIT_STATUS
from casemate.tiers.linux.session import Saved, Session

CLOSED = "the sandbox is closed"


def check_snapshot(running: Running) -> None:
    """Raises `SandboxError` unless the archive was written whole."""
    ended = running.ended
    assert ended is not None
    if ended.kind != EXIT_STATUS or ended.value:
        raise SandboxError(
            "the changes could not be written out",
            hint="is there room for them in the directory that holds the sessions?",
        )


class Dispatcher:
    """Thread-safe access to one session. Raises `SandboxError` once the session is broken."""

    def __init__(self, session: Session, *, foreign_pipes: bool) -> None:
        """`foreign_pipes`: commands run under another identity than ours, so that they could not
        reopen their own pipes (as through /dev/stderr) were these for their owner alone."""
        self.session = session
        self._foreign_pipes = foreign_pipes
        self._lock = threading.Lock()
        self._leading = False
        self._leader = 0
        """The thread that leads."""
        self._waiters: dict[Running, list[Callable[[], None]]] = {}
        self._running: dict[int, Running] = {}
        self._watched: dict[int, Running] = {}
        self._failure: SandboxError | None = None
        self._closed = False
        self._idle = threading.Event()
        self._epoll = select.epoll()
        self._socket = session.fileno()
        self._socket_poll = select.poll()
        self._socket_poll.register(self._socket, select.POLLIN)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._socket, select.EPOLLIN)
        self._epoll.register(self._wake, select.EPOLLIN)

    def fileno(self) -> int:
        """Readable when `step` has something to do."""
        return self._epoll.fileno()

    def start(
        self,
        request: Request,
        *,
        encoding: str,
        cap: int,
        stdin: bytes | None = b"",
        terminal: tuple[int, int] | None = None,
    ) -> Running:
        """Starts a command.

        `stdin` is what it reads, or None to write it bit by bit. `terminal` is rows and columns.
        """
        theirs: list[int] = []
        running = Running(request.words, encoding, cap)
        stdio: list[int | None] = [None, None, None]
        try:
            if terminal is None:
                for number, name in enumerate(("stdout", "stderr"), 1):
                    ours, end = os.pipe2(os.O_CLOEXEC)
                    os.set_blocking(ours, False)
                    running.outputs.append(Output(name, ours, cap))
                    theirs.append(end)
                    stdio[number] = end
                if stdin != b"":
                    end, running.input = os.pipe2(os.O_CLOEXEC)
                    os.set_blocking(running.input, False)
                    theirs.append(end)
                    stdio[0] = end
                    running.pending = memoryview(stdin or b"")
                    running.input_closing = stdin is not None
            if self._foreign_pipes:
                for end in theirs:
                    os.fchmod(end, 0o666)
            with self._lock:
                self._check()
                # The supervisor must never wait for us while we wait for it to read.
                self._receive()
                running.identifier = self.session.start(
                    request.argv,
                    request.environment,
                    request.directory,
                    stdio=(stdio[0], stdio[1], stdio[2]),
                    terminal=terminal is not None,
                    rows=terminal[0] if terminal else 0,
                    columns=terminal[1] if terminal else 0,
                    time_limit_ms=request.time_limit_ms,
                    resource_limits=request.limits,
                )
                self._running[running.identifier] = running
                self._register(running)
        except BaseException:
            running.close()
            raise
        finally:
            for end in theirs:
                os.close(end)
        return running

    def snapshot(self, descriptor: int) -> Running:
        """Asks for the change archive so far to be written to a file; wait until it has `ended`,
        then `check_snapshot`."""
        running = Running(("snapshot",), "utf-8", 0)
        with self._lock:
            self._check()
            self._receive()
            running.identifier = self.session.snapshot(descriptor)
            self._running[running.identifier] = running
        return running

    def signal(self, running: Running, number: int) -> None:
        """Signals a command's process group, its whole tree for SIGKILL."""
        with self._lock:
            self._check()
            if running.ended is None:
                self.session.signal(running.identifier, number)

    def resize(self, running: Running, rows: int, columns: int) -> None:
        """Tells a command's terminal its size in characters."""
        with self._lock:
            self._check()
            if running.ended is None:
                self.session.resize(running.identifier, rows, columns)

    def write(self, running: Running, data: bytes, *, close: bool = False) -> None:
        """Adds to what the command reads; `until` with `flushed` waits for it to be taken."""
        with self._lock:
            self._check()
            running.write(data, close=close)
            self._register(running)
            self._kick()

    def take(self, running: Running, output: Output) -> bytes:
        """What the stream holds; lets reading go on where it had paused."""
        with self._lock:
            data = output.take()
            self._register(running)
            return data

    def result(self, running: Running) -> Result:
        """The result of a command that has ended; the same one every time."""
        with self._lock:
            return running.result()

    def collect(self, running: Running) -> None:
        """From now on all output is read and kept up to the cap."""
        with self._lock:
            running.collect()
            self._register(running)

    def running(self) -> list[Running]:
        """The commands that have not ended."""
        with self._lock:
            if not self._closed and self._failure is None:
                self._receive()
            return [running for running in self._running.values() if running.outputs]

    def until(
        self, running: Running, done: Callable[[], bool], timeout: float | None = None
    ) -> bool:
        """Blocks until `done` (asked under the lock), which something about `running` decides.

        False if `timeout` seconds passed first.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while True:
                with self._lock:
                    if done():
                        return True
                    self._check()
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        return False
                    follow = self._leading
                    if follow:
                        event = threading.Event()
                        self._waiters.setdefault(running, []).append(event.set)
                    else:
                        self._leading = True
                        self._leader = threading.get_ident()
                if follow:
                    if not event.wait(left):
                        self._forget(running, event.set)
                    continue
                try:
                    self._take_in(left)
                finally:
                    with self._lock:
                        self._leading = False
                        if self._closed:
                            self._idle.set()
        finally:
            self._hand_on()

    def step(self) -> None:
        """Takes in what is there without waiting: for an event loop."""
        self._take_in(0)

    def when_changed(
        self, running: Running, done: Callable[[], bool], wake: Callable[[], None]
    ) -> bool:
        """False if `done` (asked under the lock), else `wake` is called once on the next change.

        For an event loop, which calls `step`; `wake` may come from any thread.
        """
        with self._lock:
            if done():
                return False
            self._check()
            self._waiters.setdefault(running, []).append(wake)
            return True

    def close(self, *, discard: bool) -> Saved:
        """Ends every command and the session; waits until the changes are saved."""
        with self._lock:
            if self._closed:
                raise SandboxError(CLOSED, code="closed")
            self._closed = True
            leading = self._leading
        if leading:
            os.eventfd_write(self._wake, 1)
            self._idle.wait()
        with self._lock:
            try:
                return self.session.close(discard=discard)
            finally:
                self._release()

    def _release(self) -> None:
        for running in self._running.values():
            running.close()
        self._running.clear()
        self._watched.clear()
        self._epoll.close()
        os.close(self._wake)
        self._wake_all()

    def _check(self) -> None:
        if self._closed:
            raise SandboxError(CLOSED, code="closed")
        if self._failure is not None:
            failure = self._failure
            raise type(failure)(failure.message, hint=failure.hint, code=failure.code)

    def _take_in(self, timeout: float | None) -> None:
        """Waits for events and handles them."""
        events = self._epoll.poll(timeout)
        with self._lock:
            if self._closed:
                return
            for descriptor, mask in events:
                if descriptor == self._socket:
                    self._receive()
                    continue
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                    continue
                running = self._watched.get(descriptor)
                if running is not None:
                    running.ready(descriptor, mask)
                    self._register(running)
                    self._notify(running)

    def _receive(self) -> None:
        """Takes in the frames that are there. Asked again under the lock: nobody may block here."""
        session = self.session
        taken = False
        try:
            while self._failure is None and self._socket_poll.poll(0):
                session.receive()
                taken = True
        except SandboxError as problem:
            self._break(problem)
        for identifier in list(session.terminals):
            self._terminal(self._running.get(identifier), session.terminals.pop(identifier))
        for identifier in list(session.exits):
            ended = session.exits.pop(identifier)
            running = self._running.pop(identifier, None)
            if running is not None:
                running.finish(ended)
                self._drop(running)
                self._notify(running)
        if taken:
            self._kick()

    def _kick(self) -> None:
        """Has the leader ask again: what it waits for may have been taken in by another."""
        if self._leading and self._leader != threading.get_ident():
            os.eventfd_write(self._wake, 1)

    def _terminal(self, running: Running | None, master: int) -> None:
        if running is None:
            os.close(master)
            return
        os.set_blocking(master, False)
        running.outputs.append(Output("output", master, running.cap))
        running.input = master
        self._register(running)
        self._notify(running)

    def _break(self, problem: SandboxError) -> None:
        self._failure = problem
        self._epoll.unregister(self._socket)
        for running in self._running.values():
            self._drop(running)
        self._running.clear()
        self._wake_all()

    def _register(self, running: Running) -> None:
        """Brings the epoll set in line with what the command waits for now."""
        if self._epoll.closed:
            # Closed by another thread between a command's start and its wait.
            raise SandboxError(CLOSED, code="closed")
        wanted = running.interests()
        for descriptor in running.registered.keys() - wanted.keys():
            self._epoll.unregister(descriptor)
            del self._watched[descriptor]
        for descriptor, mask in wanted.items():
            known = running.registered.get(descriptor)
            if known is None:
                self._epoll.register(descriptor, mask)
                self._watched[descriptor] = running
            elif known != mask:
                self._epoll.modify(descriptor, mask)
        running.registered = wanted
        if running.input_over:
            running.close_input()

    def _drop(self, running: Running) -> None:
        for descriptor in running.registered:
            self._epoll.unregister(descriptor)
            del self._watched[descriptor]
        running.registered = {}
        running.close()

    def _notify(self, running: Running) -> None:
        for wake in self._waiters.pop(running, ()):
            wake()

    def _wake_all(self) -> None:
        for running in list(self._waiters):
            self._notify(running)

    def _forget(self, running: Running, wake: Callable[[], None]) -> None:
        """A waiter that gave up must not be handed the lead."""
        with self._lock:
            wakes = self._waiters.get(running, [])
            if wake in wakes:
                wakes.remove(wake)
            if not wakes:
                self._waiters.pop(running, None)

    def _hand_on(self) -> None:
        with self._lock:
            if self._leading or not self._waiters:
                return
            running = next(iter(self._waiters))
            wakes = self._waiters[running]
            wake = wakes.pop()
            if not wakes:
                del self._waiters[running]
            wake()
