"""The broker under load: exact, bounded, and one session's business is not another's."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.broker import joined
from tests.support.internet import Internet

from casemate.audit.journal import read, verify
from casemate.egress.client import _started, reap

pytestmark = pytest.mark.needs("supervisor")


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """Hosts on loopback."""
    monkeypatch.setenv("CASEMATE_BROKER_IDLE", "0.3")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    directory = tmp_path / "internet"
    directory.mkdir()
    made = Internet(directory)
    yield made
    made.close()


@contextlib.contextmanager
def pouring(
    internet: Internet, place: str, *, size: int = 0, echo: bool = False
) -> Iterator[list[int]]:
    """A server that sends `size` bytes to each client, or back what it gets; the list tells how
    much it received of each."""
    received: list[int] = []
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    internet.pins[place] = listening.getsockname()[1]

    def serve(client: socket.socket) -> None:
        count = 0
        with client, contextlib.suppress(OSError):
            if size:
                piece = b"x" * (1 << 20)
                for at in range(0, size, len(piece)):
                    client.sendall(piece[: size - at])
                client.shutdown(socket.SHUT_WR)
            while data := client.recv(1 << 20):
                count += len(data)
                if echo:
                    client.sendall(data)
        received.append(count)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield received
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


def drain(client: socket.socket) -> int:
    """Bytes until the end, or until the connection is reset."""
    count = 0
    with contextlib.suppress(ConnectionError):
        while data := client.recv(1 << 20):
            count += len(data)
    return count


def test_one_broker_for_one_session_after_the_other(
    tmp_path: Path, internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays when the last session ends, and loses nobody who comes at that moment."""
    monkeypatch.setenv("CASEMATE_BROKER_IDLE", "3")
    reap()
    before = set(_started)
    for _ in range(40):
        with joined(tmp_path, internet, "a.example:9000 tcp") as session:
            pass
        assert "error" not in session.summary
    assert len(set(_started) - before) == 1


@pytest.mark.parametrize("pause", [0.0, 0.5])
@pytest.mark.parametrize(
    "sent",
    [b"DELETE /x HTTP/1.1\r\nHost: a.example:9000\r\n\r\n"]
    + [b"\r\nDELETE /x HTTP/1.1\r\nHost: a.example:9000\r\n\r\n"],
)
def test_a_denied_request_among_bytes_nobody_reads(
    tmp_path: Path, internet: Internet, sent: bytes, pause: float
) -> None:
    """A client that waits, or begins with a line end, was taken for one that speaks no HTTP, and
    the rule that allows the rest let it pass. Where requests are denied nothing passes unseen."""
    for deny, arrived in (((), True), (("a.example DELETE",), False)):
        with (
            pouring(internet, "a.example:9000") as received,
            joined(tmp_path, internet, "a.example:9000 tcp", deny=deny) as session,
        ):
            client = session.tunnel("a.example:9000")
            time.sleep(pause)
            with contextlib.suppress(OSError):
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
                client.recv(1 << 16)
            client.close()
            deadline = time.monotonic() + 5
            while arrived and not received and time.monotonic() < deadline:
                time.sleep(0.01)
        assert sum(received) == (len(sent) if arrived else 0)


def test_budgets_to_the_byte(tmp_path: Path, internet: Internet) -> None:
    """Two tunnels that compete for one budget move exactly as much as it has, together."""
    budget = 3_000_001
    with (
        pouring(internet, "a.example:9000", size=5_000_000),
        joined(tmp_path, internet, f"a.example:9000 tcp <={budget}B down") as session,
    ):
        clients = [session.tunnel("a.example:9000") for _ in range(2)]
        with ThreadPoolExecutor() as pool:
            counts = list(pool.map(drain, clients))
    assert sum(counts) == budget
    assert session.summary["budgets"]["total"]["bytes_down"] == budget
    assert session.summary["refusals"][0]["code"] == "budget"


def test_a_budget_that_is_used_up_exactly(tmp_path: Path, internet: Internet) -> None:
    """Exactly as much as was approved passes, without a refusal."""
    with (
        pouring(internet, "a.example:9000", size=1_000_000),
        joined(tmp_path, internet, "a.example:9000 tcp <=1000000B down") as session,
    ):
        client = session.tunnel("a.example:9000")
        client.shutdown(socket.SHUT_WR)
        assert drain(client) == 1_000_000
        client.close()
        time.sleep(0.2)
    assert session.summary["refused"] == 0


def test_half_closed(tmp_path: Path, internet: Internet) -> None:
    """Who has said all it has to say still hears the rest."""
    with (
        pouring(internet, "a.example:9000", echo=True),
        joined(tmp_path, internet, "a.example:9000 tcp") as session,
    ):
        client = session.tunnel("a.example:9000")
        data = os.urandom(3_000_000)
        heard = bytearray()
        reader = threading.Thread(target=lambda: heard.extend(_all(client)))
        reader.start()
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        reader.join(30)
    assert bytes(heard) == data


def test_slow_readers_cost_no_memory(tmp_path: Path, internet: Internet) -> None:
    """Fifty clients that do not read hold what fits into the pipes, not what the server sends."""
    with (
        pouring(internet, "a.example:9000", size=200_000_000),
        joined(tmp_path, internet, "a.example:9000 tcp") as session,
    ):
        before = _memory(_broker(tmp_path))
        clients = [session.tunnel("a.example:9000") for _ in range(50)]
        time.sleep(1)
        grown = _memory(_broker(tmp_path)) - before
        for client in clients:
            client.close()
    assert grown < 50 << 20


def test_many_sessions_and_no_cross_talk(tmp_path: Path, internet: Internet) -> None:
    """Forty sessions at once, each with requests of its own: every answer is to its own question,
    and what one may the others may not."""
    for number in range(40):
        internet.pins[f"h{number}.example:80"] = 0
    server = internet.host(*[f"h{number}.example" for number in range(40)], port=80, tls=False)
    with contextlib.ExitStack() as stack:
        sessions = [
            stack.enter_context(joined(tmp_path, internet, f"h{number}.example:80"))
            for number in range(40)
        ]

        def ask(number: int) -> int:
            session = sessions[number]
            own, other = f"h{number}.example", f"h{(number + 1) % 40}.example"
            client = http.client.HTTPConnection(*session.proxy, timeout=60)
            good = 0
            for count in range(25):
                client.request("GET", f"http://{own}/{number}/{count}")
                answer = client.getresponse().read()
                good += f'"/{number}/{count}"'.encode() in answer
            client.request("GET", f"http://{other}/")
            good += b'"casemate": true' in client.getresponse().read()
            client.close()
            return good

        with ThreadPoolExecutor(40) as pool:
            assert list(pool.map(ask, range(40))) == [26] * 40
    assert len(server.asked) == 40 * 25
    for session in sessions:
        assert (session.summary["allowed"], session.summary["refused"]) == (25, 1)
        hosts = {line["host"] for line in read(str(session.journal)) if "host" in line}
        assert len(hosts) == 2
        assert verify(str(session.journal)).digest == session.summary["journal"]["sha256"]


def test_a_flood_of_connections(tmp_path: Path, internet: Internet) -> None:
    """A session that opens connections without end starves itself; another is served meanwhile."""
    internet.host("a.example", port=80, tls=False)
    wanted = min(1500, resource.getrlimit(resource.RLIMIT_NOFILE)[1] // 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        with (
            joined(tmp_path, internet, "a.example:80") as flooding,
            joined(tmp_path, internet, "a.example:80") as other,
        ):
            idle = []
            for _ in range(wanted):
                client = socket.socket()
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    client.connect(flooding.proxy)
                idle.append(client)
            started = time.monotonic()
            assert other.request("http://a.example/x")[0] == 200
            assert time.monotonic() - started < 5
            for client in idle:
                client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_program_is_killed(tmp_path: Path, internet: Internet) -> None:
    """When who registered a session is gone, its connections are reset and nobody listens."""
    with (
        pouring(internet, "a.example:9000", echo=True),
        joined(tmp_path, internet, "a.example:9000 tcp") as session,
    ):
        client = session.tunnel("a.example:9000")
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        session.link.close()
        client.settimeout(10)
        assert drain(client) == 0
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection(session.proxy, timeout=1).close()
            except ConnectionRefusedError:
                break
            time.sleep(0.02)
        else:
            pytest.fail("somebody still listens")


def test_nonsense_in_a_registration(tmp_path: Path, internet: Internet) -> None:
    """A frame that makes no sense is answered with an error, and the broker serves others."""
    from casemate.egress.client import connect
    from casemate.errors import SandboxError

    for text in ('{"register":{}}', "[]", '{"listeners":[]}', "{", '{"register":{"version":9}}'):
        link = connect(str(tmp_path), text)
        with pytest.raises(SandboxError):
            link.certificate()
        link.close()
    internet.host("a.example", port=80, tls=False)
    with joined(tmp_path, internet, "a.example:80") as session:
        assert session.request("http://a.example/")[0] == 200


def _all(client: socket.socket) -> bytes:
    pieces = []
    while data := client.recv(1 << 20):
        pieces.append(data)
    return b"".join(pieces)


def _broker(state: Path) -> int:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if str(state).encode() in (entry / "cmdline").read_bytes() and entry.name.isdigit():
                return int(entry.name)
    raise AssertionError("there is no broker")


def _memory(pid: int) -> int:
    """Resident bytes. proc(5)"""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def test_websockets(tmp_path: Path, internet: Internet) -> None:
    """After an upgrade that was allowed both sides say what they like, counted; elsewhere none is."""
    listening = socket.create_server(("127.0.0.1", 0))
    internet.pins["ws.example:80"] = listening.getsockname()[1]

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listening.accept()
                with client:
                    head = client.recv(65536)
                    assert b"Upgrade: websocket" in head
                    client.sendall(
                        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                        b"Upgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
                    )
                    while data := client.recv(65536):
                        client.sendall(data[::-1])

    threading.Thread(target=serve, daemon=True).start()
    request = (
        b"GET http://ws.example%b HTTP/1.1\r\nHost: ws.example\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with joined(tmp_path, internet, "ws.example:80 GET /chat <=1MB") as session:
        with socket.create_connection(session.proxy, timeout=10) as client:
            client.sendall(request % b"/chat")
            assert b" 101 " in client.recv(4096)
            client.sendall(b"\x81\x05hello")
            assert client.recv(4096) == b"olleh\x05\x81"
        with socket.create_connection(session.proxy, timeout=10) as client:
            client.sendall(request % b"/other")
            assert client.recv(4096).startswith(b"HTTP/1.1 403")
        time.sleep(0.1)
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    used = session.summary["budgets"]["total"]
    assert used["bytes_up"] > 7
    assert session.summary["allowed"] == 1


def test_what_is_cut_off_is_told_all_the_same(tmp_path: Path, internet: Internet) -> None:
    """A request whose client goes away in the middle, and a tunnel that is open at the end, are in
    the journal: leaving early hides nothing."""
    server = internet.host("a.example", port=80, tls=False)
    with (
        pouring(internet, "b.example:9000", echo=True),
        joined(tmp_path, internet, "a.example:80", "b.example:9000 tcp") as session,
    ):
        with socket.create_connection(session.proxy, timeout=10) as client:
            client.sendall(
                b"GET http://a.example/bytes/50000000 HTTP/1.1\r\nHost: a.example\r\n\r\n"
            )
            client.recv(1000)
        tunnel = session.tunnel("b.example:9000")
        tunnel.sendall(b"secret")
        assert tunnel.recv(6) == b"secret"
        time.sleep(0.3)
    assert len(server.asked) == 1
    told = {line["host"]: line for line in read(str(session.journal)) if "host" in line}
    assert told["a.example"]["path"] == "/bytes/50000000"
    assert told["b.example"]["up"] == 6
    assert session.summary["allowed"] == 2
