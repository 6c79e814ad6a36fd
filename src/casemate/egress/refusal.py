"""A refusal as an HTTP response: what was refused, by which rule, and the line that would allow it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from casemate.egress.http1 import parse_request, serialise_response
from casemate.egress.model import MalformedError, UpstreamError

if TYPE_CHECKING:
    from casemate.egress.stream import Stream
    from casemate.errors import RefusedError

HEAD_SECONDS = 10.0
LINGER_SECONDS = 2.0
LINGER_BYTES = 1 << 20
"""What a client that was refused may still send before it is cut off."""


def status(error: RefusedError) -> tuple[int, bytes]:
    """The number and the words of a refusal's response."""
    if isinstance(error, UpstreamError):
        return 502, b"Bad Gateway"
    if isinstance(error, MalformedError):
        return 400, b"Bad Request"
    return 403, b"Forbidden"


def body(error: RefusedError) -> bytes:
    """What an agent reads of a refusal: the same as `--json` gives a person's programs."""
    return json.dumps({"casemate": True, **error.as_json()}, indent=1).encode("ascii") + b"\n"


def response(error: RefusedError, *, close: bool, empty: bool = False) -> bytes:
    """The whole response; `empty` for a request (HEAD) whose responses have no body."""
    number, reason = status(error)
    content = body(error)
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", b"%d" % len(content)),
        (b"Cache-Control", b"no-store"),
        (b"Connection", b"close" if close else b"keep-alive"),
    ]
    return serialise_response(number, reason, headers) + (b"" if empty else content)


async def refuse_http(stream: Stream, error: RefusedError) -> None:
    """Answer the one request that is coming with a refusal, and close."""
    try:
        head = await asyncio.wait_for(stream.read_until(parse_request), HEAD_SECONDS)
        if head is not None:
            stream.write(response(error, close=True, empty=head.method == b"HEAD"))
    except (MalformedError, TimeoutError):
        stream.write(response(error, close=True))
    except OSError:
        pass
    await part(stream)


async def part(stream: Stream) -> None:
    """Close such that the last response still arrives: a reset would take it back."""
    taken = 0
    try:
        stream.write_end()
        async with asyncio.timeout(LINGER_SECONDS):
            while taken < LINGER_BYTES and (data := await stream.read()):
                taken += len(data)
    except (OSError, TimeoutError):
        pass
    stream.abort()
