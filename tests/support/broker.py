"""A broker with a session whose listeners are ordinary sockets of the test."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.internet import Internet

from casemate.egress.client import Link, connect
from casemate.egress.registration import network_as_json
from casemate.policy.endpoints import parse_budget, parse_denial, parse_endpoint, parse_pin
from casemate.policy.model import Network


class Joined:
    """A registered session: the address of its proxy, and its link."""

    def __init__(self, link: Link, proxy: tuple[str, int], journal: Path) -> None:
        self.link = link
        self.proxy = proxy
        self.journal = journal
        self.certificate = b""
        self._clients: list[socket.socket] = []
        self.summary: dict[str, Any] = {}

    def tunnel(self, place: str) -> socket.socket:
        """A connection through CONNECT; the answer's status is checked."""
        client = socket.create_connection(self.proxy, timeout=30)
        self._clients.append(client)
        client.sendall(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n".encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += client.recv(1)
        assert answer.startswith(b"HTTP/1.1 200"), answer
        return client

    def request(self, url: str) -> tuple[int, bytes]:
        """Status and body of a GET through the proxy."""
        client = http.client.HTTPConnection(*self.proxy, timeout=60)
        try:
            client.request("GET", url)
            response = client.getresponse()
            return response.status, response.read()
        finally:
            client.close()

    def close(self) -> None:
        """Closes the test's own ends."""
        for client in self._clients:
            client.close()


@contextlib.contextmanager
def joined(
    state: Path,
    internet: Internet,
    *allow: str,
    deny: tuple[str, ...] = (),
    total: str = "",
    inspect: bool = False,
) -> Iterator[Joined]:
    """A session at the broker of this state directory."""
    network = Network(
        allow=tuple(map(parse_endpoint, allow)),
        deny=tuple(map(parse_denial, deny)),
        total=parse_budget(total),
        resolve=tuple(
            parse_pin(f"{name} = 127.0.0.1:{port}") for name, port in internet.pins.items()
        ),
    )
    name = f"s{os.urandom(4).hex()}"
    journal = state / f"journals/{name}.jsonl"
    message = {
        "version": 1,
        "session": name,
        "journal": str(journal),
        "policy": "test",
        "network": network_as_json(network),
        "secrets": [],
        "trust": [str(internet.authority.path)],
        "inspect": inspect,
    }
    link = connect(str(state), json.dumps({"register": message}))
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    session = Joined(link, listening.getsockname(), journal)
    session.certificate = link.certificate()
    link.attach([("proxy", listening.detach())])
    try:
        yield session
    finally:
        session.summary = link.finish()
        session.close()
