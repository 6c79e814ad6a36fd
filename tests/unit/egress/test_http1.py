"""HTTP/1.1 heads and bodies: exact, and nothing that two readers could take differently (E29)."""

from __future__ import annotations

import http.client
import io
from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.egress.http1 import (
    end_to_end,
    parse_request,
    parse_response,
    serialise_request,
    serialise_response,
)
from casemate.egress.http1_body import BodyReader, chunk, last_chunk
from casemate.egress.model import MalformedError

HOST = b"Host: allowed.example\r\n"


def request(line: bytes, *headers: bytes) -> bytes:
    return line + b"\r\n" + b"".join(header + b"\r\n" for header in headers) + b"\r\n"


def lenient(data: bytes) -> Message:
    """How the standard library reads the headers of the same request."""
    return http.client.parse_headers(io.BytesIO(data.split(b"\r\n", 1)[1]))


def test_an_ordinary_request() -> None:
    """Every part of a request is told."""
    data = request(
        b"POST /v1/x?y=%20 HTTP/1.1", b"Host: API.Example.com:8443", b"Content-Length: 12",
        b"Connection: keep-alive, Upgrade", b"Upgrade: websocket", b"Expect: 100-continue",
    )  # fmt: skip
    found = parse_request(data + b"rest")
    assert found is not None
    head, consumed = found
    assert consumed == len(data)
    assert (head.method, head.form, head.path) == (b"POST", "origin", b"/v1/x?y=%20")
    assert (head.host, head.port, head.length, head.chunked) == ("api.example.com", 8443, 12, False)
    assert head.keep_alive
    assert head.expect_continue
    assert head.upgrade == b"websocket"


def test_forms_of_a_target() -> None:
    """Absolute form names scheme and host, CONNECT a host and port, OPTIONS may ask for all."""
    absolute = parse_request(request(b"GET http://a.example:81?q HTTP/1.1", b"Host: a.example:81"))
    assert absolute is not None
    assert (absolute[0].scheme, absolute[0].host, absolute[0].port) == ("http", "a.example", 81)
    assert absolute[0].path == b"/?q"
    connect = parse_request(request(b"CONNECT [2001:db8::1]:443 HTTP/1.1", b"Host: [2001:db8::1]"))
    assert connect is not None
    assert (connect[0].host, connect[0].port, connect[0].path) == ("2001:db8::1", 443, b"")
    everything = parse_request(request(b"OPTIONS * HTTP/1.1", b"Host: a.example"))
    assert everything is not None
    assert everything[0].form == "asterisk"


@pytest.mark.parametrize(
    "headers",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 5", b"Content-Length: 6"),
        (b"Content-Length: 5", b"Content-Length: 5"),
        (b"Transfer-Encoding: identity",),
        (b"Transfer-Encoding: gzip, chunked",),
        (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: \x0bchunked",),
        (b"Content-Length: +5",),
        (b"Content-Length: 5, 5",),
        (b"Content-Length: 0x5",),
        (b"Content-Length:",),
        (b"Host: attacker.example",),
        (b"X: a", b" folded"),
        (b"X : a",),
        (b"X: a\nHost: attacker.example",),
        (b"X: a\rHost: attacker.example",),
        (b"X: a\0b",),
        (b": nameless",),
        (b"Expect: 200-maybe",),
    ],
)
def test_e29_smuggling(headers: tuple[bytes, ...]) -> None:
    """The standard library reads each of these as a message; some servers and proxies differ on
    where its body ends or whose it is. Here none is a message."""
    data = request(b"POST / HTTP/1.1", HOST.strip(), *headers)
    assert lenient(data)["host"]
    with pytest.raises(MalformedError):
        parse_request(data)


@pytest.mark.parametrize(
    "data",
    [
        request(b"GET / HTTP/1.1"),
        request(b"GET / HTTP/1.1", b"Host: "),
        request(b"GET / HTTP/1.1", b"Host: allowed.example@attacker.example"),
        request(b"GET / HTTP/1.1", b"Host: a.example, b.example"),
        request(b"GET http://attacker.example/ HTTP/1.1", b"Host: allowed.example"),
        request(b"GET http://allowed.example:81/ HTTP/1.1", b"Host: allowed.example"),
        request(b"GET http://allowed.example@attacker.example/ HTTP/1.1", b"Host: allowed.example"),
        request(b"CONNECT attacker.example:443 HTTP/1.1", b"Host: allowed.example:443"),
        request(b"CONNECT allowed.example HTTP/1.1", b"Host: allowed.example"),
        request(b"GET ftp://allowed.example/ HTTP/1.1", b"Host: allowed.example"),
        request(b"GET * HTTP/1.1", b"Host: allowed.example"),
        request(b"GET /a b HTTP/1.1", b"Host: allowed.example"),
        request(b"GET  / HTTP/1.1", b"Host: allowed.example"),
        request(b"GET / HTTP/2.0", b"Host: allowed.example"),
        request(b"GET / HTTP/1.1 ", b"Host: allowed.example"),
        request(b"G\xc3T / HTTP/1.1", b"Host: allowed.example"),
        request(b"POST / HTTP/1.0", b"Transfer-Encoding: chunked"),
        b"\r\n" + request(b"GET / HTTP/1.1", b"Host: allowed.example"),
        b"GET / HTTP/1.1\nHost: allowed.example\n\r\n\r\n",
    ],
)
def test_other_refusals(data: bytes) -> None:
    """Two hosts in one request, bare line feeds, and lines that are not quite HTTP."""
    with pytest.raises(MalformedError):
        parse_request(data)


def test_an_unknown_header_is_only_a_header() -> None:
    """Nothing that some proxy obeys (a path of a socket, another host) is obeyed here."""
    data = request(
        b"GET / HTTP/1.1", b"Host: allowed.example", b"x-unix-socket: /var/run/docker.sock",
        b"X-Forwarded-Host: attacker.example",
    )  # fmt: skip
    found = parse_request(data)
    assert found is not None
    assert found[0].host == "allowed.example"


def test_limits() -> None:
    """A head without end is refused before it fills the memory."""
    with pytest.raises(MalformedError):
        parse_request(b"GET / HTTP/1.1\r\nX: " + b"a" * (64 << 10))
    with pytest.raises(MalformedError):
        parse_request(request(b"GET / HTTP/1.1", HOST.strip(), *[b"X: a"] * 200))


def test_hop_by_hop() -> None:
    """What is meant for the proxy, or named by Connection, goes no further."""
    found = parse_request(
        request(
            b"GET / HTTP/1.1", b"Host: a.example", b"Connection: close, X-Secret", b"X-Secret: 1",
            b"Proxy-Authorization: Basic eA==", b"TE: trailers", b"Accept: */*",
        )
    )  # fmt: skip
    assert found is not None
    assert [name for name, _ in end_to_end(found[0].headers)] == [b"Host", b"Accept"]


@pytest.mark.parametrize(
    ("data", "method", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"GET", (3, False, False, True)),
        (b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n", b"GET", (None, True, False, True)),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"GET", (None, False, True, False)),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", b"HEAD", (0, False, False, True)),
        (b"HTTP/1.1 304 x\r\nContent-Length: 3\r\n\r\n", b"GET", (0, False, False, True)),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n", b"GET", (3, False, False, False)),
    ],
)
def test_how_a_response_ends(
    data: bytes, method: bytes, expected: tuple[int | None, bool, bool, bool]
) -> None:
    """As RFC 9112 section 6.3 has it, by the head and the request's method."""
    found = parse_response(data, method)
    assert found is not None
    head, consumed = found
    assert consumed == len(data)
    assert (head.length, head.chunked, head.until_close, head.keep_alive) == expected


_DECIDING = (b"host", b"content-length", b"transfer-encoding", b"upgrade", b"expect", b"connection")
TOKEN = st.text("!#$%&'*+-.^_`|~0123456789abcXYZ", min_size=1, max_size=12).map(str.encode)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30).map(str.encode)
HEADERS = st.lists(
    st.tuples(TOKEN, VALUE).filter(lambda header: header[0].lower() not in _DECIDING), max_size=8
)


@given(st.sampled_from([b"GET", b"POST", b"PATCH"]), VALUE, HEADERS)
def test_round_trip(method: bytes, path: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """What is written is what is read."""
    target = b"/" + path.replace(b"#", b"")
    sent = [(b"Host", b"a.example"), *headers]
    found = parse_request(serialise_request(method, target, sent))
    assert found is not None
    assert (found[0].method, found[0].path, list(found[0].headers)) == (method, target, sent)
    answered = parse_response(serialise_response(200, b"OK", headers), b"GET")
    assert answered is not None
    assert list(answered[0].headers) == headers


PIECES = st.sampled_from(
    [b"GET", b"CONNECT", b" ", b"/", b"http://a.example", b"a.example:443", b" HTTP/1.1", b"\r\n"]
    + [b"Host:", b" a.example", b"Content-Length: 1", b"Transfer-Encoding: chunked", b"\n", b"\0"]
    + [b"Connection: close", b":", b"\r\n\r\n", b"\xff"]
)


@given(st.lists(PIECES, max_size=25).map(b"".join) | st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    """Whatever comes, the answer is a head, "not yet" or a refusal; the same byte by byte."""

    def whole(buffer: bytes) -> object:
        try:
            return parse_request(buffer)
        except MalformedError:
            return "refused"

    expected = whole(data)
    earlier = next((r for n in range(len(data)) if (r := whole(data[:n])) is not None), None)
    if earlier is not None:
        assert earlier == expected
    if isinstance(expected, tuple):
        assert data[: expected[1]].endswith(b"\r\n\r\n")


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(1, 30), max_size=60))
def test_chunked_bodies_however_they_come(contents: list[bytes], sizes: list[int]) -> None:
    """A chunked body split anywhere has the same content, trailers and end."""
    data = b"".join(map(chunk, contents)) + last_chunk([(b"grpc-status", b"0")]) + b"next"
    reader = BodyReader(None, True)
    found = b""
    at = 0
    for size in [*sizes, len(data)]:
        found += reader.feed(data[at : at + size])
        at += size
    assert found == b"".join(contents)
    assert reader.done
    assert reader.trailers == [(b"grpc-status", b"0")]
    assert reader.rest == b"next"


@pytest.mark.parametrize(
    "data",
    [
        b"5\r\nabcdefgh\r\n",
        b"-1\r\n",
        b"0x5\r\n",
        b" 5\r\n",
        b"5;a\nabcde\r\n",
        b"5\n",
        b"\r\n",
        b"g\r\n",
    ]
    + [b"1" * 17 + b"\r\n", b"5;" + b"a" * 5000, b"0\r\nX y\r\n\r\n", b"0\r\n: x\r\n\r\n"],
)
def test_chunks_that_make_no_sense(data: bytes) -> None:
    """Sizes, line ends and trailers have one spelling."""
    with pytest.raises(MalformedError):
        BodyReader(None, True).feed(data)


def test_bodies_that_end_early() -> None:
    """A connection that closes before the promised end is no end."""
    reader = BodyReader(5, False)
    assert reader.feed(b"abc") == b"abc"
    with pytest.raises(MalformedError):
        reader.end()
    forever = BodyReader(None, False)
    assert forever.feed(b"abc") == b"abc"
    forever.end()
    assert forever.done
