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
    counted = _Counted(session, limit)
    while identifier not in session.exits:
        for descriptor, _ in poll.poll():
            if descriptor == session.fileno():
                session.receive()
            elif not counted.pass_on(descriptor, targets[descriptor]):
                poll.unregister(descriptor)
                os.close(descriptor)
                del targets[descriptor]
    # What runs on in the background may hold the pipes open: only what is in them by now counts.
    for source, target in targets.items():
        os.set_blocking(source, False)
        counted.pass_on(source, target)
        os.close(source)
    return session.exits.pop(identifier)


class _Counted:
    """Passes bytes on until they are too many; then ends the command and drops the rest."""

    def __init__(self, session: Session, limit: int) -> None:
        self.session = session
        self.limit = limit
        self.left = limit

    def pass_on(self, source: int, target: int) -> bool:
        """One piece, at most as much as a pipe holds; False at its end."""
        try:
            data = os.read(source, CHUNK)
        except BlockingIOError:
            return False
        write_all(target, data[: self.left])
        if len(data) > self.left and self.limit:
            text = f"the command wrote more than {self.limit} bytes"
            self.session.notices.append((4, text))
            self.session.signal(0, _signal.SIGKILL)
            self.limit = 0
        self.left = max(0, self.left - len(data))
        return bool(data)
