"""Relays between the caller's terminal and the sandbox's own. pty(7), termios(3)"""

from __future__ import annotations

import os
import select
import termios

from casemate.cli.attach import FORWARDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence

    from casemate.cli.output import Cap
    from casemate.supervisor.protocol import Exit
    from casemate.tiers.linux.session import Session
else:
    # The Python half of the module would cost milliseconds: it makes enumerations.
    import _signal

CHUNK = 65536
INPUT, OUTPUT, SUPERVISOR, WAKE = range(4)


def relay(
    session: Session,
    command: Sequence[bytes],
    environment: Sequence[bytes],
    directory: bytes,
    *,
    output: int = 0,
) -> Exit:
    """Runs the command on a terminal of the sandbox until it ends; restores the caller's.

    `output` caps the bytes it may write; 0 is no cap.
    """
    columns, rows = os.get_terminal_size(0)
    stderr = None if os.isatty(2) else 2
    identifier = session.start(
        command,
        environment,
        directory,
        stdio=(None, None, stderr),
        terminal=True,
        rows=rows,
        columns=columns,
    )
    while identifier not in session.terminals and identifier not in session.exits:
        session.receive()
    if identifier in session.exits:
        return session.exits.pop(identifier)
    master = session.terminals.pop(identifier)
    before = termios.tcgetattr(0)
    try:
        termios.tcsetattr(0, termios.TCSADRAIN, raw_mode(before))
        return _Relay(session, identifier, master, output).run()
    finally:
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, before)
        except termios.error:
            # The terminal is gone: there is nothing to restore.
            pass
        os.close(master)


def raw_mode(attributes: list[int | list[bytes | int]]) -> list[int | list[bytes | int]]:
    """The terminal attributes that pass every byte through, both ways. cfmakeraw(3)"""
    iflag, oflag, cflag, lflag, ispeed, ospeed, characters = attributes
    assert isinstance(iflag, int) and isinstance(oflag, int)
    assert isinstance(cflag, int) and isinstance(lflag, int) and isinstance(characters, list)
    iflag &= ~(termios.BRKINT | termios.ICRNL | termios.INPCK | termios.ISTRIP | termios.IXON)
    oflag &= ~termios.OPOST
    cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    lflag &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN | termios.ISIG)
    changed = list(characters)
    changed[termios.VMIN] = 1
    changed[termios.VTIME] = 0
    return [iflag, oflag, cflag, lflag, ispeed, ospeed, changed]


class _Relay:
    """One poll loop. Bytes that the sandbox's terminal does not take yet wait, within a bound."""

    def __init__(self, session: Session, identifier: int, master: int, output: int) -> None:
        self.session = session
        self.identifier = identifier
        self.master = master
        self.pending = b""
        self.input_open = True
        self.cap: Cap | None = None
        if output:
            from casemate.cli.output import Cap

            self.cap = Cap(session, output)
        os.set_blocking(master, False)

    def run(self) -> Exit:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        self._install_handlers(wake_write)
        try:
            while self.identifier not in self.session.exits:
                self._step(wake_read)
            self._drain()
            return self.session.exits.pop(self.identifier)
        finally:
            _signal.set_wakeup_fd(-1)
            os.close(wake_read)
            os.close(wake_write)

    def _install_handlers(self, wake: int) -> None:
        def resized(_number: int, _frame: object) -> None:
            try:
                columns, rows = os.get_terminal_size(0)
            except OSError:
                return
            self.session.resize(self.identifier, rows, columns)

        def forward(number: int, _frame: object) -> None:
            self.session.signal(self.identifier, number)

        _signal.signal(_signal.SIGWINCH, resized)
        for number in FORWARDED:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, forward)
        _signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def _step(self, wake: int) -> None:
        poll = select.poll()
        wants = select.POLLIN | (select.POLLOUT if self.pending else 0)
        poll.register(self.master, wants)
        poll.register(self.session.fileno(), select.POLLIN)
        poll.register(wake, select.POLLIN)
        if self.input_open and not self.pending:
            poll.register(0, select.POLLIN)
        nobody_there = False
        for descriptor, events in poll.poll():
            if descriptor == self.session.fileno():
                self.session.receive()
            elif descriptor == self.master:
                if events & select.POLLOUT:
                    self._feed()
                if events & (select.POLLIN | select.POLLHUP):
                    nobody_there = not self._show()
            elif descriptor == wake:
                os.read(wake, CHUNK)
            else:
                self._take()
        if nobody_there and self.identifier not in self.session.exits:
            self._wait_for_supervisor()

    def _take(self) -> None:
        try:
            data = os.read(0, CHUNK)
        except OSError:
            data = b""
        if not data:
            # The caller's terminal hung up: what runs inside is told as it would be without us.
            self.input_open = False
            self.session.signal(self.identifier, _signal.SIGHUP)
            return
        self.pending = data
        self._feed()

    def _feed(self) -> None:
        try:
            written = os.write(self.master, self.pending)
        except BlockingIOError:
            return
        except OSError:
            self.pending = b""
            return
        self.pending = self.pending[written:]

    def _show(self) -> bool:
        """Passes on what the command wrote; False when there is nothing."""
        try:
            data = os.read(self.master, CHUNK)
        except OSError:
            return False
        try:
            write_all(1, data if self.cap is None else self.cap.take(data))
        except OSError:
            # The caller's terminal hung up: the command is told by a signal, as without us.
            pass
        return bool(data)

    def _wait_for_supervisor(self) -> None:
        """Nobody holds the other end: mostly because the command ended, which is told shortly.

        Polling the terminal alone would spin, and a program may yet open it again.
        """
        poll = select.poll()
        poll.register(self.session.fileno(), select.POLLIN)
        if poll.poll(20):
            self.session.receive()

    def _drain(self) -> None:
        while self._show():
            pass


def write_all(descriptor: int, data: bytes) -> None:
    """write(2) until everything is written; raises `OSError`."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
