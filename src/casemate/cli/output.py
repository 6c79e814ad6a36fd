"""Runs a command whose output is capped: its bytes pass through casemate and are counted."""

from __future__ import annotations

import os
import select

from casemate.cli.attach import forward_signals
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
    stdin = 0 if not os.isatty(0) else None
    identifier = session.start(
        command, environment, directory, stdio=(stdin, pipes[0][1], pipes[1][1])
    )
    targets = {pipes[0][0]: 1, pipes[1][0]: 2}
    for _, end in pipes:
        os.close(end)
    forward_signals(session, identifier)
    poll = select.poll()
    poll.register(session.fileno(), select.POLLIN)
    for source in targets:
        poll.register(source, select.POLLIN)
    written = 0
    ended = False
    while targets or identifier not in session.exits:
        for descriptor, _ in poll.poll():
            if descriptor == session.fileno():
                session.receive()
                if identifier in session.exits:
                    poll.unregister(descriptor)
                continue
            data = os.read(descriptor, CHUNK)
            room = max(0, limit - written)
            write_all(targets[descriptor], data[:room])
            written += len(data)
            if not data:
                poll.unregister(descriptor)
                os.close(descriptor)
                del targets[descriptor]
            elif written > limit and not ended:
                session.notices.append((4, f"the command wrote more than {limit} bytes"))
                session.signal(0, _signal.SIGKILL)
                ended = True
    return session.exits.pop(identifier)
