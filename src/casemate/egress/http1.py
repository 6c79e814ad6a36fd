"""HTTP/1.1 heads, read strictly: what two servers could understand differently is refused.

Request smuggling, header injection and ambiguous framing all live in leniency, so there is none:
one spelling of a line end, one Host, one kind of body length, no folding. Sources: RFC 9110,
RFC 9112. Bodies are in `http1_body`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, NoReturn

from casemate.egress.model import MalformedError
from casemate.egress.names import normalise

HEAD_MAX = 64 << 10
HEADERS_MAX = 200
LENGTH_MAX = 1 << 62

Header = tuple[bytes, bytes]
Form = Literal["origin", "absolute", "authority", "asterisk"]

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) ([!-~\x80-\xff]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
HEADER = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)[ \t]*"
)
_AUTHORITY = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[^\[\]:@/?#]+)(?::([0-9]{1,5}))?")
_ABSOLUTE = re.compile(rb"(?i:(https?))://([^/?#]+)([/?][!-~\x80-\xff]*)?")
_LENGTH = re.compile(rb"[0-9]{1,19}")

HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate")
    + (b"proxy-authorization", b"te", b"trailer", b"transfer-encoding", b"upgrade")
)
"""Meant for the next hop alone. RFC 9110 section 7.6.1, and two that predate it."""


@dataclass(frozen=True, slots=True)
class RequestHead:
    """The head of a request. `host` is in normal form, "" only for HTTP/1.0 without one."""

    method: bytes
    target: bytes
    version: tuple[int, int]
    headers: tuple[Header, ...]
    form: Form
    scheme: str
    """"http" or "https" for the absolute form, else ""."""
    host: str
    port: int | None
    path: bytes
    """Path and query, as origin-form; "*" for OPTIONS, "" for CONNECT."""
    length: int | None
    """Bytes of the body that Content-Length promises; None where there is no such header."""
    chunked: bool
    keep_alive: bool
    upgrade: bytes
    expect_continue: bool

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """The head of a response, and how its body ends."""

    version: tuple[int, int]
    status: int
    reason: bytes
    headers: tuple[Header, ...]
    length: int | None
    """Bytes of the body, 0 for none; None if chunked or until the connection closes."""
    chunked: bool
    until_close: bool
    keep_alive: bool


def parse_request(buffer: bytes | bytearray) -> tuple[RequestHead, int] | None:
    """The request at the start of `buffer` and the bytes its head takes; None for "not yet".

    Raises `MalformedError`.
    """
    found = _lines(buffer)
    if found is None:
        return None
    lines, consumed = found
    line = _REQUEST_LINE.fullmatch(lines[0])
    if line is None:
        _refuse("the request line makes no sense")
    method, target, minor = line[1], line[2], line[3]
    headers = _headers(lines)
    version = (1, minor == b"1")
    fields = _fields(headers)
    form, scheme, host, port, path = _target(method, target)
    given = fields.get(b"host")
    if given is None:
        if minor == b"1":
            _refuse("HTTP/1.1 needs a Host header")
    elif form != "authority" or given:
        named = authority_of(given)
        if form in ("absolute", "authority"):
            default = 443 if scheme == "https" else 80
            wanted = port if form == "authority" else port or default
            # A client that tunnels may leave the port out of Host. RFC 9112 section 3.2.3
            if (
                named[0] != host
                or (named[1] or (wanted if form == "authority" else default)) != wanted
            ):
                _refuse("the Host header names another host than the request line")
        else:
            host, port = named
    length, chunked = _framing(fields, minor)
    if chunked and minor == b"0":
        _refuse("a chunked body in HTTP/1.0")
    options = _tokens(fields.get(b"connection", b""))
    expect = fields.get(b"expect", b"").lower()
    if expect not in (b"", b"100-continue"):
        _refuse("an unknown expectation")
    upgrade = fields.get(b"upgrade", b"") if b"upgrade" in options else b""
    return (
        RequestHead(
            method, target, (1, int(version[1])), headers, form, scheme, host, port, path, length,
            chunked, (b"close" not in options) and (minor == b"1" or b"keep-alive" in options),
            upgrade, expect == b"100-continue",
        ),
        consumed,
    )  # fmt: skip


def parse_response(buffer: bytes | bytearray, method: bytes) -> tuple[ResponseHead, int] | None:
    """The response to a request of `method`, as `parse_request`. Raises `MalformedError`."""
    found = _lines(buffer)
    if found is None:
        return None
    lines, consumed = found
    line = _STATUS_LINE.fullmatch(lines[0])
    if line is None:
        _refuse("the status line makes no sense")
    minor, status = line[1], int(line[2])
    headers = _headers(lines)
    fields = _fields(headers)
    length, chunked = _framing(fields, minor)
    until_close = False
    if method == b"HEAD" or status < 200 or status in (204, 304):
        length, chunked = 0, False
    elif method == b"CONNECT" and 200 <= status < 300:
        length, chunked, until_close = None, False, True
    elif length is None and not chunked:
        until_close = True
    options = _tokens(fields.get(b"connection", b""))
    keep = b"close" not in options and (minor == b"1" or b"keep-alive" in options)
    head = ResponseHead(
        (1, int(minor)), status, line[3] or b"", headers, length, chunked, until_close,
        keep and not until_close,
    )  # fmt: skip
    return head, consumed


def end_to_end(headers: tuple[Header, ...]) -> list[Header]:
    """The headers without those for one hop, the ones that Connection names among them."""
    dropped = HOP_BY_HOP
    for name, value in headers:
        if name.lower() == b"connection":
            dropped |= _tokens(value)
    return [header for header in headers if header[0].lower() not in dropped]


def serialise_request(method: bytes, target: bytes, headers: list[Header]) -> bytes:
    """A request head in HTTP/1.1."""
    lines = [b"%s %s HTTP/1.1\r\n" % (method, target)]
    lines += [b"%s: %s\r\n" % header for header in headers]
    lines.append(b"\r\n")
    return b"".join(lines)


def serialise_response(status: int, reason: bytes, headers: list[Header]) -> bytes:
    """A response head in HTTP/1.1."""
    lines = [b"HTTP/1.1 %d %s\r\n" % (status, reason)]
    lines += [b"%s: %s\r\n" % header for header in headers]
    lines.append(b"\r\n")
    return b"".join(lines)


def _refuse(problem: str) -> NoReturn:
    raise MalformedError(f"HTTP: {problem}")


def _lines(buffer: bytes | bytearray) -> tuple[list[bytes], int] | None:
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        if len(buffer) > HEAD_MAX:
            _refuse(f"a head of more than {HEAD_MAX} bytes")
        return None
    if end > HEAD_MAX:
        _refuse(f"a head of more than {HEAD_MAX} bytes")
    lines = bytes(buffer[:end]).split(b"\r\n")
    if len(lines) > HEADERS_MAX + 1:
        _refuse(f"more than {HEADERS_MAX} headers")
    return lines, end + 4


def _headers(lines: list[bytes]) -> tuple[Header, ...]:
    headers = []
    match = HEADER.fullmatch
    for line in lines[1:]:
        found = match(line)
        if found is None:
            _refuse("a header line makes no sense")
        headers.append((found[1], found[2]))
    return tuple(headers)


_SINGLE = frozenset((b"host", b"content-length", b"transfer-encoding", b"upgrade", b"expect"))


def _fields(headers: tuple[Header, ...]) -> dict[bytes, bytes]:
    """The headers that decide about framing and target; each but Connection at most once."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _SINGLE:
            if lower in fields:
                _refuse(f"two {name.decode('latin-1')} headers")
            fields[lower] = value
        elif lower == b"connection":
            fields[lower] = fields[lower] + b"," + value if lower in fields else value
    return fields


def _framing(fields: dict[bytes, bytes], minor: bytes) -> tuple[int | None, bool]:
    length = fields.get(b"content-length")
    encoding = fields.get(b"transfer-encoding")
    if encoding is not None:
        if length is not None:
            _refuse("both Content-Length and Transfer-Encoding")
        if encoding.lower() != b"chunked":
            _refuse("a transfer encoding other than chunked")
        return None, True
    if length is None:
        return None, False
    if not _LENGTH.fullmatch(length) or int(length) > LENGTH_MAX:
        _refuse("a Content-Length that is no number")
    return int(length), False


def _target(method: bytes, target: bytes) -> tuple[Form, str, str, int | None, bytes]:
    if method == b"CONNECT":
        host, port = authority_of(target)
        if port is None:
            _refuse("CONNECT needs a port")
        return "authority", "", host, port, b""
    if target.startswith(b"/"):
        _check_path(target)
        return "origin", "", "", None, target
    if target == b"*":
        if method != b"OPTIONS":
            _refuse('the target "*" is for OPTIONS')
        return "asterisk", "", "", None, target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        _refuse("the target of the request makes no sense")
    host, port = authority_of(found[2])
    path = found[3] or b"/"
    if path.startswith(b"?"):
        path = b"/" + path
    _check_path(path)
    return "absolute", found[1].decode().lower(), host, port, path


def _check_path(path: bytes) -> None:
    if b"#" in path:
        _refuse("a fragment in the target")


def authority_of(text: bytes) -> tuple[str, int | None]:
    """A host, in normal form, and the port if there is one. Raises `MalformedError`."""
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        _refuse("the host of the request makes no sense")
    port = None if found[2] is None else int(found[2])
    if port is not None and not 0 < port < 65536:
        _refuse("a port that does not exist")
    return normalise(found[1]), port


def _tokens(value: bytes) -> frozenset[bytes]:
    if not value:
        return frozenset()
    return frozenset(token.strip(b" \t").lower() for token in value.split(b","))
