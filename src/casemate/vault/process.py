"""The vault's process: holds the values of secrets, and nothing else does between requests.

Started by the broker with one end of a socket pair as standard input, and gone with it. Its memory
cannot be read by another process of the user, is not swapped where the system allows that, and
never reaches a core file. Source: prctl(2), mlockall(2), ptrace(2).
"""

from __future__ import annotations

import ctypes
import os
import resource
import socket

from casemate.errors import ProtocolError
from casemate.vault import protocol
from casemate.vault.exchange import Keys, RefusedExchange, Screen

_PR_SET_DUMPABLE, _PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 4, 1, 38
_MCL_CURRENT_AND_FUTURE = 3
VALUES_MAX = 4 << 20
STREAMS_MAX = 20_000


class Vault:
    """Answers one message after the other."""

    def __init__(self) -> None:
        self.sessions: dict[bytes, Keys] = {}
        self.screens: dict[bytes, Screen] = {}

    def answer(self, kind: int, parts: list[bytes], values: bytes | None) -> list[bytes]:
        """The fields of the answer. Raises `RefusedExchange`, `ProtocolError`."""
        if kind == protocol.OPEN and len(parts) == 2 and values is not None:
            version, session = parts
            if version != b"%d" % protocol.VERSION:
                raise ProtocolError("the vault is of another version")
            self.sessions[session] = Keys.read(values)
            return []
        if kind == protocol.CLOSE and len(parts) == 1:
            self.sessions.pop(parts[0], None)
            prefix = parts[0] + b"/"
            for name in [name for name in self.screens if name.startswith(prefix)]:
                del self.screens[name]
            return []
        if kind == protocol.REQUEST and len(parts) >= 3 and len(parts) % 2 == 1:
            keys, host, path = self._keys(parts[0]), parts[1].decode("ascii"), parts[2]
            headers = list(zip(parts[3::2], parts[4::2], strict=True))
            path, headers = keys.request(host, path, headers)
            return [path, *(part for header in headers for part in header)]
        if kind == protocol.FEED and len(parts) == 7:
            return [self._feed(parts)]
        raise ProtocolError("the vault does not know this message")

    def _feed(self, parts: list[bytes]) -> bytes:
        session, stream, way, host, encoding, last, data = parts
        name = session + b"/" + stream
        screen = self.screens.get(name)
        if screen is None:
            keys = self._keys(session)
            make = keys.body if way == protocol.OUT else keys.response
            screen = make(host.decode("ascii"), encoding)
            if len(self.screens) >= STREAMS_MAX:
                raise RefusedExchange("secret-leak", "too many bodies are looked through at once")
            self.screens[name] = screen
        try:
            found = screen.feed(data, last=bool(last))
        except RefusedExchange:
            del self.screens[name]
            raise
        if last:
            del self.screens[name]
        return found

    def _keys(self, session: bytes) -> Keys:
        keys = self.sessions.get(session)
        if keys is None:
            raise ProtocolError("the vault does not know this session")
        return keys


def harden() -> None:
    """Nothing of this process can be read from outside it or left behind."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Where the user's share of locked memory is too small, swap is the system's matter.
    libc.mlockall(_MCL_CURRENT_AND_FUTURE)
    os.umask(0o077)
    os.chdir("/")


def serve(connection: socket.socket) -> None:
    """Answers until the broker is gone, or says something that makes no sense."""
    vault = Vault()
    decoder = protocol.Decoder()
    while True:
        data, descriptors, _, _ = socket.recv_fds(connection, 1 << 18, 8)
        if not data:
            return
        for kind, number, parts in decoder.feed(data):
            values = None
            if kind == protocol.OPEN and descriptors:
                values = _read(descriptors.pop(0))
            try:
                answer = protocol.pack(protocol.DONE, number, vault.answer(kind, parts, values))
            except RefusedExchange as refused:
                texts = [refused.code.encode(), refused.message.encode()]
                answer = protocol.pack(protocol.REFUSED, number, texts)
            connection.sendall(answer)
        for descriptor in descriptors:
            os.close(descriptor)


def _read(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read(VALUES_MAX)


def main() -> None:
    """The process."""
    harden()
    os.closerange(3, 1 << 16)
    connection = socket.socket(fileno=os.dup(0))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    try:
        serve(connection)
    except (OSError, ProtocolError):
        # Whoever speaks nonsense gets nothing more: without its vault the broker refuses.
        pass


if __name__ == "__main__":
    main()
