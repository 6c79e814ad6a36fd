"""Connects a command in the sandbox to the caller's standard streams.

Pipes and files are handed over as they are. A terminal never is: with one on both ends the
command gets a terminal of the sandbox's own and the bytes are relayed; with one on one end it
gets that end reopened for its direction only. tty_ioctl(4), pty(7)
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Sequence

    from casemate.supervisor.protocol import Exit
    from casemate.tiers.linux.session import Session
else:
    # The Python half of the module would cost milliseconds: it makes enumerations.
    import _signal

FORWARDED = (
    _signal.SIGINT,
    _signal.SIGTERM,
    _signal.SIGHUP,
    _signal.SIGQUIT,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)


def attach(
    session: Session,
    command: Sequence[bytes],
    environment: Sequence[bytes],
    directory: bytes,
    *,
    output: int = 0,
) -> Exit:
    """Runs the command with the caller's standard streams until it ends.

    `output` caps the bytes it may write to standard output and error together; 0 is no cap.
    """
    modes = [_file_mode(descriptor) for descriptor in (0, 1, 2)]
    try:
        return _attach(session, command, environment, directory, output)
    finally:
        _restore_modes(modes)


def _attach(
    session: Session,
    command: Sequence[bytes],
    environment: Sequence[bytes],
    directory: bytes,
    output: int,
) -> Exit:
    if os.isatty(0) and os.isatty(1):
        from casemate.cli.terminal import relay

        return relay(session, command, environment, directory, output=output)
    if output:
        from casemate.cli.output import run_capped

        return run_capped(session, command, environment, directory, output)
    opened = [one_way(0, os.O_RDONLY), one_way(1, os.O_WRONLY), one_way(2, os.O_WRONLY)]
    stdio = (opened[0], opened[1], opened[2])
    identifier = session.start(command, environment, directory, stdio=stdio)
    for original, descriptor in enumerate(opened):
        if descriptor is not None and descriptor != original:
            os.close(descriptor)
    forward_signals(session, identifier)
    return session.wait(identifier)


def one_way(descriptor: int, flags: int) -> int | None:
    """The descriptor itself, or a terminal reopened for one direction; None where it is closed."""
    try:
        if not os.isatty(descriptor):
            os.fstat(descriptor)
            return descriptor
        return os.open(f"/proc/self/fd/{descriptor}", flags | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None


def _file_mode(descriptor: int) -> int:
    """The permission bits of a regular file, -1 for anything else."""
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return -1
    return mode & 0o7777 if mode & 0o170000 == 0o100000 else -1


def _restore_modes(modes: Sequence[int]) -> None:
    """A file passed to the command is not opened to others by it, nor left as a setuid program."""
    for descriptor, mode in enumerate(modes):
        if mode not in (-1, _file_mode(descriptor)):
            try:
                os.fchmod(descriptor, mode)
            except OSError:
                pass


def forward_signals(session: Session, identifier: int) -> None:
    """What the caller is sent, the command is sent: it is in a session of its own."""

    def forward(number: int, _frame: object) -> None:
        session.signal(identifier, number)

    for number in FORWARDED:
        # A caller that ignores a signal (nohup) means the command to be spared too.
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, forward)
