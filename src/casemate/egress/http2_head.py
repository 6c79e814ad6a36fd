"""The head of an HTTP/2 request: what the rules see of it, and how it goes out. RFC 9113 section 8.3"""

from __future__ import annotations

from typing import TYPE_CHECKING

from casemate.egress.http1 import Form, RequestHead, authority_of, end_to_end
from casemate.egress.model import MalformedError

if TYPE_CHECKING:
    from casemate.egress.admission import Admitted
    from casemate.egress.http1 import Header


def request_of(headers: list[Header]) -> RequestHead:
    """A request as the rules see it. Raises `MalformedError`."""
    pseudo = {bytes(name): bytes(value) for name, value in headers if name.startswith(b":")}
    plain = [(bytes(name), bytes(value)) for name, value in headers if not name.startswith(b":")]
    method, path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if pseudo.get(b":scheme") != b"https" or not method or b":protocol" in pseudo:
        raise MalformedError("HTTP/2: a request that is none")
    if path != b"*" and not path.startswith(b"/"):
        raise MalformedError("HTTP/2: a path that is none")
    if any(byte <= 0x20 or byte == 0x7F or byte == 0x23 for byte in path):
        raise MalformedError("HTTP/2: a path with characters that no path has")
    named = pseudo.get(b":authority", b"")
    hosts = [value for name, value in plain if name == b"host"]
    if len(hosts) > 1 or (hosts and named and hosts[0] != named):
        raise MalformedError("HTTP/2: two hosts")
    host, port = authority_of(named or (hosts[0] if hosts else b""))
    rest = [header for header in plain if header[0] != b"host"]
    all_headers = ((b"host", named or hosts[0]), *rest)
    form: Form = "asterisk" if path == b"*" else "origin"
    return RequestHead(
        method, path, (2, 0), all_headers, form, "", host, port, path, None, False, True, b"", False
    )  # fmt: skip


def headers_of(head: RequestHead, admitted: Admitted) -> list[Header]:
    """An admitted request as it goes out."""
    headers = [
        (b":method", head.method),
        (b":scheme", b"https"),
        (b":authority", admitted.authority),
        (b":path", admitted.path),
    ]
    kept = end_to_end(tuple(admitted.headers))
    headers += [(name.lower(), value) for name, value in kept if name.lower() != b"host"]
    if (b"te", b"trailers") in head.headers:
        headers.append((b"te", b"trailers"))
    return headers
