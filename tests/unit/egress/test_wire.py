"""The first bytes of TLS, SOCKS5 and DNS: read with limits, split anywhere, never guessed at."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.egress import client_hello, dns, socks5
from casemate.egress.model import MalformedError, Target
from casemate.egress.synthetic import NAMES_MAX, Names, number_of


def hello(name: str | None, alpn: list[str] | None = None) -> bytes:
    """What OpenSSL really sends."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def in_records(data: bytes, size: int) -> bytes:
    """The same handshake message in records of at most `size` bytes."""
    body = data[5:]
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(data[:3] + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def with_extension(data: bytes, kind: int, content: bytes) -> bytes:
    """The hello with one more extension."""
    body = data[9:]
    at = 34
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    extensions = (
        body[at + 2 :] + kind.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content
    )
    body = body[:at] + len(extensions).to_bytes(2, "big") + extensions
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return data[:3] + len(message).to_bytes(2, "big") + message


def test_client_hello() -> None:
    """Name and protocols of a real client, in one record or one byte at a time."""
    data = hello("api.example.com", ["h2", "http/1.1"])
    expected = client_hello.ClientHello(b"api.example.com", (b"h2", b"http/1.1"), False)
    assert client_hello.parse(data) == expected
    assert client_hello.parse(in_records(data, 1)) == expected
    assert client_hello.parse(in_records(data, 100) + b"more") == expected
    assert all(client_hello.parse(data[:size]) is None for size in range(len(data)))
    assert client_hello.looks_like_tls(data)
    without = client_hello.parse(hello(None))
    assert without is not None
    assert without.server_name is None


def test_encrypted_hello_is_seen() -> None:
    """A hello within the hello is told, and so can be refused."""
    found = client_hello.parse(with_extension(hello("a.example"), 0xFE0D, bytes(20)))
    assert found is not None
    assert found.ech


@pytest.mark.parametrize(
    "content",
    [
        b"\0\x0e\0\0\x01a\0\0\x05b.exa",
        b"\0\x04\0\0\x01\0",
        b"\0\0",
        b"\0\x04\1\0\x01a",
        b"\0\x09\0",
    ],
)
def test_two_server_names_or_none(content: bytes) -> None:
    """A second name, a name of zero bytes or another kind is refused."""
    with pytest.raises(MalformedError):
        client_hello.parse(with_extension(hello(None), 0, content))
    with pytest.raises(MalformedError):
        client_hello.parse(with_extension(hello("a.example"), 0, content))


@given(st.binary(max_size=300), st.integers(0, 600), st.binary(max_size=3))
def test_any_hello(tail: bytes, at: int, change: bytes) -> None:
    """Whatever is done to a hello, it is read, awaited or refused."""
    data = hello("a.example")
    for broken in (tail, data[:at] + change + data[at + len(change) :] + tail):
        try:
            client_hello.parse(broken)
        except MalformedError:
            pass


def test_socks5() -> None:
    """Names, IPv4 and IPv6; no method but none; only CONNECT connects."""
    assert socks5.parse_greeting(b"\5\2\1\0rest") == (True, 4)
    assert socks5.parse_greeting(b"\5\1\2") == (False, 3)
    assert socks5.parse_greeting(b"\5\2\1") is None
    name = b"\5\1\0\3\x0bA.Example.e\x01\xbb"
    assert socks5.parse_request(name) == (socks5.Request(1, Target("a.example.e", 443)), len(name))
    ipv4 = socks5.parse_request(b"\5\2\0\1\x7f\0\0\1\0\x50")
    assert ipv4 is not None
    assert (ipv4[0].target, ipv4[0].connects) == (Target("127.0.0.1", 80), False)
    ipv6 = socks5.parse_request(b"\5\1\0\4" + bytes(15) + b"\1\0\x50x")
    assert ipv6 is not None
    assert ipv6[0].target == Target("::1", 80)
    assert ipv6[1] == 22


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (socks5.parse_greeting, b"\4\1\0\x50\0\0\0\1user\0a.example\0"),
        (socks5.parse_greeting, b"\5\0"),
        (socks5.parse_request, b"\5\1\0\3\x15attacker\0.a.example.e\0\x50"),
        (socks5.parse_request, b"\5\1\1\1\x7f\0\0\1\0\x50"),
        (socks5.parse_request, b"\5\1\0\2\x7f\0\0\1\0\x50"),
        (socks5.parse_request, b"\5\1\0\1\x7f\0\0\1\0\0"),
        (socks5.parse_request, b"\5\1\0\3\0\0\x50"),
        (socks5.parse_request, b"\5\1\0\4" + bytes(10) + b"\xff\xff\x7f\0\0\1\0\x50"),
    ],
)
def test_socks5_refusals(parse: Callable[[bytes], object], data: bytes) -> None:
    """SOCKS4, a name with a zero byte (E19), unknown kinds, port 0, IPv4 dressed as IPv6."""
    with pytest.raises(MalformedError):
        parse(data)


def question(name: bytes, kind: int = dns.A, *, edns: bool = False) -> bytes:
    labels = b"".join(bytes((len(label),)) + label for label in name.split(b"."))
    option = b"\0\0\x29\x10\0\0\0\0\0\0\0" if edns else b""
    head = b"\x12\x34\1\0\0\1\0\0\0\0\0" + bytes((edns,))
    return head + labels + b"\0" + kind.to_bytes(2, "big") + b"\0\1" + option


def test_dns() -> None:
    """A question comes back as it was put, with the answer."""
    packet = question(b"API.example.com", edns=True)
    query = dns.parse_query(packet)
    assert (query.name, query.kind, query.internet, query.edns) == (
        b"API.example.com",
        1,
        True,
        True,
    )
    reply = dns.answer(query, [dns.address_record("198.18.1.0")])
    assert reply[:2] == packet[:2]
    assert reply[12 : 12 + len(query.question)] == query.question
    assert b"API" in reply
    assert socket.inet_aton("198.18.1.0") in reply
    empty = dns.answer(query, [])
    assert empty[6:8] == b"\0\0"
    assert empty[3] & 15 == dns.NO_ERROR
    assert dns.refuse(query, dns.REFUSED)[3] & 15 == dns.REFUSED
    assert dns.reverse_address("0.1.18.198.in-addr.arpa") == "198.18.1.0"
    assert dns.reverse_address(".".join("1" + "0" * 31) + ".ip6.arpa") == "::1"
    assert dns.reverse_address("x.in-addr.arpa") is None


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        bytes(12),
        question(b"a.b")[:-1],
        question(b"a.b")[:2] + b"\x81" + question(b"a.b")[3:],
        question(b"a.b")[:5] + b"\2" + question(b"a.b")[6:],
        question(b"a.b")[:12] + b"\xc0\x0c\0\1\0\1",
        question(b".".join([b"a" * 60] * 5)),
        question(b"a" * 64 + b".b"),
        bytes(5000),
    ],
)
def test_dns_refusals(packet: bytes) -> None:
    """Answers, several questions, compression loops and overlong names get no answer at all."""
    with pytest.raises(MalformedError):
        dns.parse_query(packet)


@given(
    st.binary(max_size=80) | st.binary(max_size=40).map(lambda tail: question(b"a.b")[:14] + tail)
)
def test_any_packet(packet: bytes) -> None:
    """Whatever comes, it is a question or refused."""
    try:
        query = dns.parse_query(packet)
    except MalformedError:
        return
    assert query.question in packet
    assert (
        dns.parse_query(packet[:12] + query.question + packet[12 + len(query.question) :]) == query
    )


def test_synthetic_names() -> None:
    """A name keeps its addresses, and only its own session can tell what they stand for."""
    names, others = Names(), Names()
    v4, v6 = names.addresses("api.example.com")
    assert names.addresses("api.example.com") == (v4, v6)
    assert names.addresses("b.example") != (v4, v6)
    assert names.name(v4) == names.name(v6) == "api.example.com"
    assert others.name(v4) is None
    assert names.name("198.18.0.1") is None
    assert number_of("198.20.0.0") is None
    assert number_of("8.8.8.8") is None


def test_a_flood_of_names_is_bounded() -> None:
    """A program that resolves without end forgets its own oldest names, and nothing else."""
    names = Names()
    kept = names.addresses("kept.example")
    for number in range(NAMES_MAX + 1000):
        names.addresses(f"n{number}.example")
        if number % 1000 == 0:
            assert names.addresses("kept.example") == kept
    assert names.name(kept[0]) == "kept.example"
    assert len(names._names) == len(names._numbers) == NAMES_MAX
