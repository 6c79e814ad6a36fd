"""How a command ended, as the SDK tells it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from casemate.errors import SandboxError
from casemate.supervisor import protocol

REASONS = {
    protocol.REASON_TIME: "time",
    protocol.REASON_MEMORY: "memory",
    protocol.REASON_SPACE: "disk",
}
"""Limits by the number the supervisor gives; the names are those of the guarantees."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command used, with all children it waited for. Source: getrusage(2)."""

    user: float
    """Seconds of processor time in the command's own code."""
    system: float
    """Seconds of processor time in the kernel on its behalf."""
    peak_memory: int
    """Bytes resident at the most, of the largest process."""
    wall: float
    """Seconds from start to end."""


@dataclass(frozen=True, slots=True)
class Result:
    """The end of one command.

    `exit_code` is the command's own, or as a shell has it: 128 + signal, 127 for a program that
    was not found, 126 for one that could not be started. `truncated` says that a stream was
    longer than the cap on output, so that its end is missing.
    """

    command: tuple[str, ...]
    exit_code: int
    signal: int | None
    """Number of the signal that ended it."""
    stdout_bytes: bytes
    stderr_bytes: bytes
    usage: Usage
    limit: str = ""
    """The limit that ended it: "time", "memory" or "disk"; else empty."""
    error: str = ""
    """Why it could not be started; else empty."""
    truncated: bool = False
    encoding: str = field(default="utf-8", repr=False)

    @property
    def stdout(self) -> str:
        """Standard output as text; what is no text in the encoding is shown as `\\xNN`."""
        return self.stdout_bytes.decode(self.encoding, "backslashreplace")

    @property
    def stderr(self) -> str:
        """Standard error as text; what is no text in the encoding is shown as `\\xNN`."""
        return self.stderr_bytes.decode(self.encoding, "backslashreplace")

    @property
    def timed_out(self) -> bool:
        """Whether its time limit, or the session's, ended it."""
        return self.limit == "time"

    def check(self) -> Result:
        """The result itself if the command succeeded. Raises `SandboxError` if it did not."""
        if self.exit_code == 0:
            return self
        name = self.command[0] if self.command else ""
        raise SandboxError(f"{name!r} {self.ending}", hint=last_line(self.stderr), code="exit")

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        if self.error:
            return f"could not be started: {self.error}"
        if self.limit:
            return f"was ended by its {self.limit} limit"
        if self.signal is not None:
            return f"was ended by signal {self.signal}"
        return f"ended with exit status {self.exit_code}"


def result_of(
    command: tuple[str, ...],
    ended: protocol.Exit,
    stdout: bytes,
    stderr: bytes,
    *,
    truncated: bool,
    encoding: str,
) -> Result:
    """The result of a command from the supervisor's report and the output that was collected."""
    started = ended.kind != protocol.EXIT_NOT_STARTED
    usage = Usage(
        ended.user_us / 1e6, ended.system_us / 1e6, ended.peak_memory, ended.wall_us / 1e6
    )
    return Result(
        command=command,
        exit_code=ended.status,
        signal=ended.value if ended.kind == protocol.EXIT_SIGNAL else None,
        stdout_bytes=stdout,
        stderr_bytes=stderr,
        usage=usage,
        limit=REASONS.get(ended.reason, ""),
        error="" if started else os.strerror(ended.value),
        truncated=truncated,
        encoding=encoding,
    )


def last_line(text: str) -> str:
    """The last line with anything on it, printable and at most 200 characters long."""
    lines = text.strip().splitlines()
    line = lines[-1][:200] if lines else ""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in line)
