"""The supervisor protocol, host side: frames built and taken apart. The layout is docs/protocol.md.

On the start-up path of `casemate run`: imports nothing. What arrives comes from beside hostile
code, so every length is checked; nonsense raises `ProtocolError` and ends the session.
"""

from __future__ import annotations

from casemate.errors import ProtocolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

INIT, EXEC, SIGNAL, RESIZE, SNAPSHOT, PING, CLOSE = 1, 2, 3, 4, 5, 6, 7
READY, FAILED, STARTED, EXITED, NOTICE, PONG, SAVED, LISTENER = 65, 66, 67, 68, 69, 70, 71, 72

EXEC_TERMINAL, EXEC_STDIN, EXEC_STDOUT, EXEC_STDERR = 1, 2, 4, 8
CLOSE_DISCARD = 1

EXIT_STATUS, EXIT_SIGNAL, EXIT_NOT_STARTED = 0, 1, 2
REASON_TIME, REASON_MEMORY, REASON_SPACE = 1, 2, 3

REQUEST_MAX = 8 << 20
REPLY_MAX = 64 << 10
HEADER_SIZE = 8

Limit = tuple[int, int, int]
"""A resource limit: resource number, soft and hard value. setrlimit(2)"""


def u8(value: int) -> bytes:
    """One byte."""
    return value.to_bytes(1, "little")


def u32(value: int) -> bytes:
    """Four bytes, little endian."""
    return value.to_bytes(4, "little")


def u64(value: int) -> bytes:
    """Eight bytes, little endian."""
    return value.to_bytes(8, "little")


def string(value: bytes) -> bytes:
    """A length, the bytes, and a zero byte that the length does not count."""
    return len(value).to_bytes(4, "little") + value + b"\0"


def frame(kind: int, payload: bytes, descriptors: int = 0) -> bytes:
    """One frame. Raises `ProtocolError` when the payload is longer than the other side takes."""
    if len(payload) > REQUEST_MAX:
        raise ProtocolError(
            f"a request of {len(payload)} bytes is larger than the {REQUEST_MAX} a sandbox takes",
            hint="shorten the arguments and the environment",
        )
    return len(payload).to_bytes(4, "little") + bytes((kind, descriptors, 0, 0)) + payload


def limits(values: Iterable[Limit]) -> bytes:
    """A counted list of resource limits."""
    packed = [u32(resource) + u64(soft) + u64(hard) for resource, soft, hard in values]
    return u32(len(packed)) + b"".join(packed)


def exec_request(
    identifier: int,
    argv: Sequence[bytes],
    environment: Iterable[bytes],
    directory: bytes,
    *,
    flags: int,
    rows: int = 0,
    columns: int = 0,
    time_limit_ms: int = 0,
    resource_limits: Iterable[Limit] = (),
) -> bytes:
    """An EXEC frame. `environment` holds `NAME=value` entries; descriptors travel beside it."""
    variables = list(environment)
    for text in (*argv, *variables, directory):
        if b"\0" in text:
            raise ProtocolError("an argument, variable or directory holds a zero byte")
    payload = b"".join(
        (
            u32(identifier),
            u32(flags),
            rows.to_bytes(2, "little"),
            columns.to_bytes(2, "little"),
            u64(time_limit_ms),
            limits(resource_limits),
            string(directory),
            u32(len(argv)),
            u32(len(variables)),
            *map(string, argv),
            *map(string, variables),
        )
    )
    descriptors = (flags >> 1 & 1) + (flags >> 2 & 1) + (flags >> 3 & 1)
    return frame(EXEC, payload, descriptors)


def signal_request(identifier: int, number: int) -> bytes:
    """A SIGNAL frame; identifier 0 means every command."""
    return frame(SIGNAL, u32(identifier) + u32(number))


def resize_request(identifier: int, rows: int, columns: int) -> bytes:
    """A RESIZE frame, for a command with a terminal."""
    size = rows.to_bytes(2, "little") + columns.to_bytes(2, "little")
    return frame(RESIZE, u32(identifier) + size)


def snapshot_request(identifier: int) -> bytes:
    """A SNAPSHOT frame; the file to write to travels beside it."""
    return frame(SNAPSHOT, u32(identifier), 1)


def close_request(*, discard: bool) -> bytes:
    """A CLOSE frame: everything inside ends, changes are saved unless `discard`."""
    return frame(CLOSE, u32(CLOSE_DISCARD if discard else 0))


class Reader:
    """Takes fields off a payload and never reads past its end."""

    __slots__ = ("_at", "_payload")

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    def integer(self, size: int, *, signed: bool = False) -> int:
        end = self._at + size
        if end > len(self._payload):
            raise ProtocolError("the supervisor sent a frame that ends too early")
        value = int.from_bytes(self._payload[self._at : end], "little", signed=signed)
        self._at = end
        return value

    def text(self) -> str:
        length = self.integer(4)
        end = self._at + length + 1
        if end > len(self._payload) or self._payload[end - 1] != 0:
            raise ProtocolError("the supervisor sent a string that ends too early")
        value = self._payload[self._at : end - 1]
        self._at = end
        return value.decode("utf-8", "backslashreplace")

    def finish(self) -> None:
        if self._at != len(self._payload):
            raise ProtocolError("the supervisor sent a frame with bytes left over")


class Decoder:
    """Cuts a byte stream into frames. Descriptors are counted, never taken from the bytes."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """The frames completed by `data`: (kind, descriptor count, payload)."""
        buffer = self._buffer + data
        frames = []
        at = 0
        while len(buffer) - at >= HEADER_SIZE:
            length = int.from_bytes(buffer[at : at + 4], "little")
            kind, descriptors, zero, zero_too = buffer[at + 4 : at + HEADER_SIZE]
            if length > REPLY_MAX or zero or zero_too or descriptors > 1:
                raise ProtocolError("the supervisor sent a malformed frame")
            end = at + HEADER_SIZE + length
            if len(buffer) < end:
                break
            frames.append((kind, descriptors, buffer[at + HEADER_SIZE : end]))
            at = end
        self._buffer = buffer[at:]
        return frames


class Exit:
    """How a command ended.

    `kind` is EXIT_STATUS, EXIT_SIGNAL or EXIT_NOT_STARTED; `value` is the status, the signal
    number or the errno. Times are microseconds, `peak_memory` is bytes (resident).
    """

    __slots__ = ("kind", "peak_memory", "reason", "system_us", "user_us", "value", "wall_us")

    def __init__(self, payload: Reader) -> None:
        self.kind = payload.integer(4)
        self.value = payload.integer(4)
        self.reason = payload.integer(4)
        self.user_us = payload.integer(8)
        self.system_us = payload.integer(8)
        self.peak_memory = payload.integer(8)
        self.wall_us = payload.integer(8)
        payload.finish()
        possible = {
            EXIT_STATUS: 0 <= self.value <= 255,
            EXIT_SIGNAL: 1 <= self.value <= 64,
            EXIT_NOT_STARTED: True,
        }
        if not possible.get(self.kind, False):
            raise ProtocolError("the supervisor sent an impossible exit status")

    @property
    def status(self) -> int:
        """The exit status as a shell has it: 128+signal, 126 and 127 for what could not start."""
        if self.kind == EXIT_STATUS:
            return self.value
        if self.kind == EXIT_SIGNAL:
            return 128 + self.value
        return 127 if self.value == 2 else 126
