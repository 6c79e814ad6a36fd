"""The forms in which a secret may travel: raw, base64, hex, escaped for URLs and for JSON."""

from __future__ import annotations

import base64
import json
import urllib.parse
from collections.abc import Iterator


def forms(value: bytes) -> Iterator[bytes]:
    """The value in each form, always in the same order and, for values of one length and one
    shape, each of one length: a form of one can stand in the place of the same form of another.

    Of base64 only the part that does not depend on what stands before and after the value.
    """
    yield value
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + value)
        # The first characters hold bits of what stands before, the last ones of what follows.
        start = (0, 2, 3)[offset]
        end = len(encoded) if (offset + len(value)) % 3 == 0 else -4
        core = encoded[start:end]
        yield core
        yield core.replace(b"+", b"-").replace(b"/", b"_")
    yield value.hex().encode()
    yield value.hex().upper().encode()
    yield urllib.parse.quote_from_bytes(value, safe="").encode()
    yield "".join(f"%{byte:02x}" for byte in value).encode()
    yield "".join(f"%{byte:02X}" for byte in value).encode()
    text = value.decode("latin-1")
    yield json.dumps(text)[1:-1].encode()
    yield json.dumps(text)[1:-1].replace("/", "\\/").encode()
    yield "".join(f"\\u{byte:04x}" for byte in value).encode()
