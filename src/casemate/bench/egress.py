"""The network: connections, requests and bulk through the broker, beside the same server directly.

The server is a process of its own on loopback; the sandbox's end is an ordinary listener, so the
figures are the broker's alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping

from casemate.bench.figures import Bar, Row, at_least, at_most, figure, median
from casemate.bench.fixture import Size
from casemate.bench.rounds import interleave
from casemate.egress.client import Link, connect
from casemate.egress.registration import network_as_json
from casemate.policy.endpoints import parse_endpoint, parse_pin
from casemate.policy.model import Network

SECTION = "network, through the broker"
BULK = 256 << 20
REQUESTS = 50
"""Requests of one round, on one connection."""

HEAD = (
    b"GET %s HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench/1.0\r\nAccept: application/json\r\n"
    b"Content-Type: application/json\r\n\r\n"
)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"

SERVER = """
import asyncio, ssl, sys
bulk, certificate = int(sys.argv[1]), sys.argv[2]
class Web(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.buffer = transport, b""
    def data_received(self, data):
        self.buffer += data
        while (end := self.buffer.find(b"\\r\\n\\r\\n")) >= 0:
            self.buffer = self.buffer[end + 4:]
            self.transport.write(%r)
async def pour(reader, writer):
    await reader.read(1)
    piece = bytes(1 << 20)
    for _ in range(bulk >> 20):
        writer.write(piece)
        await writer.drain()
    writer.close()
async def main():
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    servers = [
        await loop.create_server(Web, "127.0.0.1", 0),
        await loop.create_server(Web, "127.0.0.1", 0, ssl=context),
        await asyncio.start_server(pour, "127.0.0.1", 0),
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
asyncio.run(main())
""" % (ANSWER,)  # noqa: UP031


def measure(directory: str, size: Size) -> list[Row]:
    """The rows of the section; works in `directory`."""
    authority = _certificates(directory)
    with _server(directory) as ports, _session(directory, ports, authority) as (proxy, trusted):
        place = ("127.0.0.1", ports[0])
        opened = _connections(place, proxy, trusted, ports[1], authority)
        try:
            samples = interleave(
                [
                    lambda: {"connect, directly": _connect(place, b"")},
                    lambda: {"connect, through the broker": _connect(proxy, b"bench.example:80")},
                    *((lambda name=name: {name: _requests(*opened[name])}) for name in opened),
                    lambda: {"256 MiB, directly": _pull(("127.0.0.1", ports[2]), b"")},
                    lambda: {"256 MiB, by tunnel": _pull(proxy, b"bench.example:9000")},
                ],
                size.file_rounds,
            )
        finally:
            for client, _ in opened.values():
                client.close()
    return _rows(samples)


def _rows(samples: Mapping[str, list[float]]) -> list[Row]:
    rows: list[Row] = []
    pairs = (
        ("connect, directly", "connect, through the broker"),
        ("request, directly", "request, through the broker"),
        ("request over TLS, directly", "request over TLS, inspected"),
        ("256 MiB, directly", "256 MiB, by tunnel"),
    )
    for direct, through in pairs:
        value = median(samples[through])
        bars: tuple[Bar, ...] = ()
        if through.startswith("request"):
            bars = (at_least(1 / value, 3000, f">= 3000/s ({1 / value:.0f}/s)"),)
        elif through.startswith("256"):
            rate = BULK / value / 1e9
            bars = (at_least(rate, 1.0, f">= 1 GB/s ({rate:.1f} GB/s)"),)
        else:
            bars = (at_most(value, 0.0006, "<= 0.6 ms"),)
        rows.append(figure(SECTION, direct, samples[direct]))
        base = (direct, samples[direct])
        rows.append(figure(SECTION, through, samples[through], against=base, bars=bars))
    return rows


def _connections(
    place: tuple[str, int], proxy: tuple[str, int], trusted: str, tls_port: int, authority: str
) -> dict[str, tuple[socket.socket, bytes]]:
    outer = ssl.create_default_context(cafile=authority)
    inner = ssl.create_default_context(cafile=trusted)
    direct_tls = socket.create_connection(("127.0.0.1", tls_port))
    return {
        "request, directly": (socket.create_connection(place), HEAD % b"/x"),
        "request, through the broker": (
            socket.create_connection(proxy),
            HEAD % b"http://bench.example/x",
        ),
        "request over TLS, directly": (
            outer.wrap_socket(direct_tls, server_hostname="bench.example"),
            HEAD % b"/x",
        ),
        "request over TLS, inspected": (
            inner.wrap_socket(
                _tunnel(proxy, b"bench.example:443"), server_hostname="bench.example"
            ),
            HEAD % b"/x",
        ),
    }


def _connect(place: tuple[str, int], target: bytes) -> float:
    start = time.perf_counter()
    client = _tunnel(place, target) if target else socket.create_connection(place)
    taken = time.perf_counter() - start
    client.close()
    return taken


def _tunnel(proxy: tuple[str, int], target: bytes) -> socket.socket:
    client = socket.create_connection(proxy)
    client.sendall(b"CONNECT %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (target, target))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += client.recv(4096)
    if b" 200 " not in answer:
        raise OSError(f"the broker answered {answer[:80]!r}")
    return client


def _requests(client: socket.socket, head: bytes) -> float:
    start = time.perf_counter()
    for _ in range(REQUESTS):
        client.sendall(head)
        answer = b""
        while not answer.endswith(b"hello"):
            answer += client.recv(65536)
    return (time.perf_counter() - start) / REQUESTS


def _pull(place: tuple[str, int], target: bytes) -> float:
    client = _tunnel(place, target) if target else socket.create_connection(place)
    buffer = bytearray(1 << 20)
    start = time.perf_counter()
    client.sendall(b"x")
    while client.recv_into(buffer):
        pass
    taken = time.perf_counter() - start
    client.close()
    return taken


@contextlib.contextmanager
def _server(directory: str) -> Iterator[list[int]]:
    process = subprocess.Popen(
        [sys.executable, "-I", "-c", SERVER, str(BULK), f"{directory}/leaf.pem"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        yield [int(port) for port in process.stdout.readline().split()]
        assert process.stdin is not None
        process.stdin.close()


@contextlib.contextmanager
def _session(
    directory: str, ports: list[int], authority: str
) -> Iterator[tuple[tuple[str, int], str]]:
    """The address of a session's proxy, and a file with the authority it is trusted by."""
    allow = ("bench.example:80", "bench.example:443 GET", "bench.example:9000 tcp")
    names = ("bench.example:80", "bench.example:443", "bench.example:9000")
    network = Network(
        allow=tuple(map(parse_endpoint, allow)),
        resolve=tuple(
            parse_pin(f"{name} = 127.0.0.1:{port}") for name, port in zip(names, ports, strict=True)
        ),
    )
    message = {
        "version": 1,
        "session": f"bench-{os.getpid()}",
        "journal": f"{directory}/journal.jsonl",
        "policy": "",
        "network": network_as_json(network),
        "secrets": [],
        "trust": [authority],
        "inspect": True,
    }
    # A broker of the bench's own has nothing to wait for afterwards.
    os.environ.setdefault("CASEMATE_BROKER_IDLE", "1")
    link: Link = connect(directory, json.dumps({"register": message}))
    try:
        trusted = f"{directory}/session.pem"
        with open(trusted, "wb") as file:
            file.write(link.certificate())
        listening = socket.create_server(("127.0.0.1", 0))
        address = listening.getsockname()
        link.attach([("proxy", listening.detach())])
        yield address, trusted
    finally:
        link.close()


def _certificates(directory: str) -> str:
    """An authority's file; beside it that of a server called bench.example."""
    from casemate.egress.authority import Authority

    authority = Authority()
    with open(f"{directory}/leaf.pem", "wb") as leaf:
        leaf.write(authority.server("bench.example"))
    path = f"{directory}/authority.pem"
    with open(path, "w") as file:
        file.write(authority.certificate)
    return path
