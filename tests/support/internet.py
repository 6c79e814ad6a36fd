"""Servers on loopback that stand for hosts of the internet, and a proxy as others build them.

The names lead to them by `network.resolve`; their certificates are signed by an authority that
`network.trust` names. Each server tells what it was asked, and remembers it.
"""

from __future__ import annotations

import contextlib
import datetime
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class _Authority:
    """Signs the certificates of the test's servers."""

    def __init__(self, directory: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        self.directory = directory
        basic = x509.BasicConstraints(ca=True, path_length=None)
        identifier = x509.SubjectKeyIdentifier.from_public_key(self.key.public_key())
        certificate = (
            self._builder(self.name, self.key.public_key())
            .add_extension(basic, critical=True)
            .add_extension(identifier, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        self.path = directory / "authority.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def leaf(self, names: Sequence[str]) -> Path:
        """A file with a certificate for the names, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        certificate = (
            self._builder(subject, key.public_key())
            .add_extension(alternatives, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        path = self.directory / f"{names[0]}.pem"
        path.write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
            + key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return path

    def _builder(
        self, subject: x509.Name, public: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
        )


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked; /redirect leads away, /bytes/N is N bytes long."""

    protocol_version = "HTTP/1.1"
    server: Server

    def answer(self) -> None:
        if self.path.startswith("http://"):
            # As a client says it to a proxy, and a naive one passes it on.
            self.path = "/" + self.path.split("/", 3)[3]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        asked: dict[str, Any] = {
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": body.decode("latin-1"),
        }
        self.server.asked.append(asked)
        if self.headers.get("Upgrade"):
            # No websockets here: clients that can do without go on at once.
            self.reply(426, b"")
            return
        events = self.server.reply_to(asked)
        content = self.server.files.get(self.path.partition("?")[0])
        if content is not None:
            self.reply(200, content, **{"Content-Type": _kind(self.path)})
        elif self.server.files:
            self.reply(404, b"")
        elif events is not None:
            self.reply(200, events, **{"Content-Type": "text/event-stream"})
        elif self.path.startswith("/redirect/"):
            self.reply(302, b"", Location=self.path.removeprefix("/redirect/"))
        elif self.path.startswith("/bytes/"):
            self.reply(200, b"x" * int(self.path.removeprefix("/bytes/")))
        else:
            reflected = {"X-Reflected": self.headers.get("Authorization") or "none"}
            self.reply(200, json.dumps(asked).encode(), **reflected)

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = answer

    def log_message(self, *arguments: object) -> None:
        pass


def _kind(path: str) -> str:
    return "text/html" if path.endswith("/") else "application/octet-stream"


class Server(http.server.ThreadingHTTPServer):
    """One host of the internet."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, leaf: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        """Served by path; with any, nothing else is there."""
        if leaf is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(leaf)
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def reply_to(self, asked: dict[str, Any]) -> bytes | None:
        """What this host answers; None for the usual."""
        return None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Internet:
    """The hosts that a test needs."""

    def __init__(self, directory: Path) -> None:
        self.authority = _Authority(directory)
        self.pins: dict[str, int] = {}
        self._servers: list[Server] = []

    def host(
        self, *names: str, port: int = 443, tls: bool = True, kind: type[Server] = Server
    ) -> Server:
        """A server that is reached by these names."""
        server = kind(self.authority.leaf(names) if tls else None)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        self._servers.append(server)
        for name in names:
            self.pins[f"{name}:{port}"] = server.port
        return server

    def options(self, *allow: str, **others: Any) -> tuple[str, ...]:
        """Options of `casemate run` that allow these endpoints and lead the names here."""
        lines = {
            "network.allow": list(allow),
            "network.resolve": [f"{name} = 127.0.0.1:{port}" for name, port in self.pins.items()],
            "network.trust": [str(self.authority.path)],
        }
        lines |= {key.replace("__", "."): value for key, value in others.items()}
        return tuple(
            word for key, value in lines.items() for word in ("--set", f"{key}={json.dumps(value)}")
        )

    def close(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@contextlib.contextmanager
def naive_proxy(internet: Internet, *allowed: str) -> Iterator[int]:
    """A proxy that looks at the name in CONNECT, as sandboxes are often built; its port."""
    listening = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def serve(client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError, KeyError):
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
            if method != "CONNECT":
                target = target.removeprefix("http://").partition("/")[0]
                target += "" if ":" in target else ":80"
            if not target.partition(":")[0].endswith(allowed):
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
                return
            with socket.create_connection(("127.0.0.1", internet.pins[target])) as upstream:
                if method == "CONNECT":
                    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                else:
                    upstream.sendall(head)
                back = threading.Thread(target=pump, args=(upstream, client), daemon=True)
                back.start()
                pump(client, upstream)
                back.join()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listening.getsockname()[1])
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
