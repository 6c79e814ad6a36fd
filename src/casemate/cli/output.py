"""Runs a command whose output is capped: its bytes pass through casemate and are counted."""

from __future__ import annotations

import os
import select

from casemate.cli.attach import forward_signals, one_way
from casemate.cli.terminal import CHUNK, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence

    from casemate.supervisor.protocol import Exit
    from casemate.tiers.linux.session import Session
else:
    # The Python half of the module would cost milliseconds: it makes enumerations.
    import _signal


def run_capped(
    session: Session,
    command: Sequence[bytes],
    environment: Sequence[bytes],
    directory: bytes,
    limit: int,
) -> Exit:
    """Like `attach`, ending the command when it has written more than `limit` bytes."""
    pipes = [os.pipe(), os.pipe()]
    stdin = one_way(0, os.O_RDONLY)
    identifier = session.start(
        command, environment, directory, stdio=(stdin, pipes[0][1], pipes[1][1])
    )
    targets = {pipes[0][0]: 1, pipes[1][0]: 2}
    for _, end in pipes:
        os.close(end)
    if stdin:
        os.close(stdin)
    forward_signals(session, identifier)
    poll = select.poll()
    poll.register(session.fileno(), select.POLLIN)
    for source in targets:
        poll.register(source, select.POLLIN)
    cap = Cap(session, limit)
    while identifier not in session.exits:
        for descriptor, _ in poll.poll():
            if descriptor == session.fileno():
                session.receive()
            elif not _pass_on(cap, descriptor, targets[descriptor]):
                poll.unregister(descriptor)
                os.close(descriptor)
                del targets[descriptor]
    # What runs on in the background may hold the pipes open: only what is in them by now counts.
    for source, target in targets.items():
        os.set_blocking(source, False)
        _pass_on(cap, source, target)
        os.close(source)
    return session.exits.pop(identifier)


def _pass_on(cap: Cap, source: int, target: int) -> bool:
    """One piece, at most as much as a pipe holds; False at its end."""
    try:
        data = os.read(source, CHUNK)
    except BlockingIOError:
        return False
    write_all(target, cap.take(data))
    return bool(data)


class Cap:
    """Counts what a command writes; when it is too much, ends it and drops the rest."""

    def __init__(self, session: Session, limit: int) -> None:
        self._session = session
        self._limit = limit
        self._left = limit

    def take(self, data: bytes) -> bytes:
        """What of the data may still be passed on."""
        allowed = data[: self._left]
        if len(data) > self._left and self._limit:
            text = f"the command wrote more than {self._limit} bytes"
            self._session.notices.append((4, text))
            self._session.signal(0, _signal.SIGKILL)
            self._limit = 0
        self._left -= len(allowed)
        return allowed
