"""The vault's process: holds secrets, answers frames on one socket, and ends with it."""

from __future__ import annotations

import os
import socket

from casemate.errors import ProtocolError, RefusedError
from casemate.vault import protocol
from casemate.vault.confine import confine
from casemate.vault.exchange import Credential
from casemate.vault.forms import SHORTEST
from casemate.vault.placeholder import LONGEST
from casemate.vault.protocol import number, pairs
from casemate.vault.session import RequestBody, ResponseBody, Secrets

SESSIONS_MAX, FILTERS_MAX = 4096, 65536
VALUES_MAX = 4 << 20
"""Bytes of all values and placeholders of one session."""
SECRETS_MAX = 256
_RECEIVE = 256 << 10
_OPEN_FIELDS = 5


class Service:
    """What the vault knows, and what it answers. Without input or output of its own."""

    def __init__(self) -> None:
        self._sessions: dict[int, Secrets] = {}
        self._filters: dict[int, tuple[int, RequestBody | ResponseBody]] = {}

    def answer(self, kind: int, fields: list[bytes], values: bytes = b"") -> list[bytes] | None:
        """The fields of the reply; None for what has no reply. `values` came along with OPEN.

        Raises `RefusedError` for what a rule refuses, `ProtocolError` for nonsense.
        """
        if kind not in _SHAPES or not _SHAPES[kind][0] <= len(fields) <= _SHAPES[kind][1]:
            raise ProtocolError(f"frame {kind} with {len(fields)} fields")
        subject = number(fields[0])
        match kind:
            case protocol.OPEN:
                self._open(subject, fields[1:], values)
                return []
            case protocol.CLOSE:
                self._sessions.pop(subject, None)
                self._filters = {k: v for k, v in self._filters.items() if v[0] != subject}
                return []
            case protocol.OUTGOING:
                secrets = self._session(subject)
                host, method, path, flags, body = fields[1:6]
                whole = body if number(flags) & protocol.HAS_BODY else None
                path, headers = secrets.outgoing(
                    _text(host), method, path, pairs(fields[6:]), whole
                )
                return [path, *(part for header in headers for part in header)]
            case protocol.HEADERS:
                headers = self._session(subject).scrubbed(_text(fields[1]), pairs(fields[2:]))
                return [part for header in headers for part in header]
            case protocol.FILTER:
                self._filter(subject, number(fields[1]), number(fields[2]), *map(_text, fields[3:]))
                return None
            case protocol.DROP:
                self._filters.pop(subject, None)
                return None
        if subject not in self._filters:
            raise RefusedError("the vault knows no such stream", code="vault")
        stream = self._filters[subject][1]
        if kind == protocol.FEED:
            return [stream.feed(fields[1])]
        del self._filters[subject]
        return [stream.finish(), stream.note.encode()]

    def _open(self, session: int, fields: list[bytes], values: bytes) -> None:
        if session in self._sessions or len(self._sessions) >= SESSIONS_MAX:
            raise ProtocolError("a session that is open already, or one too many")
        # What follows was said by whoever started the session: nonsense ends that one alone.
        try:
            held = protocol.unpack(values, 3 * SECRETS_MAX)
        except ProtocolError as error:
            raise _nonsense() from error
        known = {held[at]: (held[at + 1], held[at + 2]) for at in range(0, len(held) - 2, 3)}
        if len(fields) % _OPEN_FIELDS:
            raise ProtocolError("a secret that is not whole")
        credentials = []
        for at in range(0, len(fields), _OPEN_FIELDS):
            name, form, form_name, flags, hosts = fields[at : at + _OPEN_FIELDS]
            placeholder, value = known.get(name, (b"", b""))
            if not SHORTEST <= len(placeholder) == len(value) <= LONGEST:
                raise _nonsense()
            credentials.append(
                Credential(
                    _text(name),
                    placeholder,
                    value,
                    hosts=_text(hosts).split(),
                    form=_text(form),
                    form_name=_text(form_name),
                    own_only=bool(number(flags) & protocol.OWN_ONLY),
                )
            )
        self._sessions[session] = Secrets(credentials)

    def _session(self, session: int) -> Secrets:
        if session not in self._sessions:
            raise RefusedError("the vault knows no such session", code="vault")
        return self._sessions[session]

    def _filter(self, session: int, stream: int, direction: int, host: str, coding: str) -> None:
        if stream in self._filters or len(self._filters) >= FILTERS_MAX:
            raise ProtocolError("a stream that is open already, or one too many")
        secrets = self._sessions.get(session)
        if secrets is not None:
            make = secrets.response_body if direction else secrets.request_body
            self._filters[stream] = (session, make(host, coding))


_SHAPES = {
    protocol.OPEN: (1, 1 + _OPEN_FIELDS * SECRETS_MAX),
    protocol.CLOSE: (1, 1),
    protocol.OUTGOING: (6, protocol.FIELDS_MAX),
    protocol.HEADERS: (2, protocol.FIELDS_MAX),
    protocol.FILTER: (5, 5),
    protocol.FEED: (2, 2),
    protocol.FINISH: (1, 1),
    protocol.DROP: (1, 1),
}
"""For each kind of request the fewest and the most fields."""


def _nonsense() -> RefusedError:
    return RefusedError("the session's secrets make no sense", code="vault")


def _text(field: bytes) -> str:
    try:
        return field.decode("ascii")
    except UnicodeDecodeError as error:
        raise ProtocolError("text that is not ASCII") from error


def serve(channel: socket.socket) -> None:
    """Answers until the other side closes, or sends what is not of the protocol."""
    service, frames = Service(), protocol.Frames()
    descriptors: list[int] = []
    channel.sendall(protocol.frame(protocol.READY, 0, ()))
    while True:
        data, received, _, _ = socket.recv_fds(channel, _RECEIVE, 4)
        descriptors += received
        if not data:
            return
        for kind, call, fields in frames.feed(data):
            values = b""
            if kind == protocol.OPEN:
                if not descriptors:
                    raise ProtocolError("a session without values")
                values = _values(descriptors.pop(0))
            try:
                reply = service.answer(kind, fields, values)
            except RefusedError as error:
                texts = (error.code, error.message, error.rule, error.allow, error.hint)
                fields = [text.encode() for text in texts]
                channel.sendall(protocol.frame(protocol.REFUSED, call, fields))
                continue
            if reply is not None:
                channel.sendall(protocol.frame(protocol.DONE, call, reply))


def _values(descriptor: int) -> bytes:
    try:
        size = os.fstat(descriptor).st_size
        # More than it takes reads as nothing, and nothing makes no sense.
        return os.pread(descriptor, size, 0) if size <= VALUES_MAX else b""
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def main(descriptor: int) -> None:
    """The process: `descriptor` is its end of the socket pair, and all that it keeps open."""
    with socket.socket(fileno=descriptor) as channel:
        confine(descriptor)
        try:
            serve(channel)
        except (ProtocolError, OSError):
            # Nobody is left to tell: the other side sees the socket close, and stops everything.
            return
