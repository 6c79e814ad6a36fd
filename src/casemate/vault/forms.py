"""The shapes in which a secret can appear in bytes. Pure; on the start path: imports next to nothing.

A placeholder differs from its secret only in letters and digits, so whatever escapes the other
characters treats both alike: every form of the one is as long as the same form of the other.
"""

from __future__ import annotations

from binascii import b2a_base64, hexlify

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WINDOW = 40
"""Bytes of a long secret that are searched for: its end, which is the random part of a token."""
SHORTEST = 8
"""Bytes of the shortest secret that can be told from ordinary text."""
BLANKS = b" \t\r\n"

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_JSON = {0x22: b'\\"', 0x5C: b"\\\\", 0x0A: b"\\n", 0x0D: b"\\r", 0x09: b"\\t"}
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def base64_cores(value: bytes) -> Iterator[bytes]:
    """What base64 makes of the value whatever surrounds it: three alignments, both alphabets.

    Characters that also hold bits of a neighbouring byte are left out. Source: RFC 4648.
    """
    for before in range(3):
        bits = (before + len(value)) * 8
        encoded = b2a_base64(bytes(before) + value, newline=False)
        core = encoded[(before * 8 + 5) // 6 : bits // 6]
        yield core
        yield core.translate(_URL_SAFE)


def url_escaped(value: bytes, *, upper: bool) -> bytes:
    """The value with everything but RFC 3986's unreserved characters escaped."""
    style = "%%%02X" if upper else "%%%02x"
    return b"".join(
        bytes((byte,)) if byte in _UNRESERVED else (style % byte).encode() for byte in value
    )


def json_escaped(value: bytes, *, slashes: bool) -> bytes:
    """The value as within a JSON string; with `slashes`, `/` is escaped too."""
    table = _JSON | ({0x2F: b"\\/"} if slashes else {})
    return b"".join(table.get(byte, bytes((byte,))) for byte in value)


def whole(value: bytes) -> list[bytes]:
    """Every form of the whole value, in an order that depends on its length alone."""
    digits = hexlify(value)
    return [
        value,
        *base64_cores(value),
        digits,
        digits.upper(),
        url_escaped(value, upper=True),
        url_escaped(value, upper=False),
        json_escaped(value, slashes=False),
        json_escaped(value, slashes=True),
    ]


def replacements(secret: bytes, placeholder: bytes) -> dict[bytes, bytes]:
    """Each form of the secret, and the same form of its placeholder."""
    return dict(zip(whole(secret), whole(placeholder), strict=True))


def needles(value: bytes) -> set[bytes]:
    """What betrays the value in text without blanks and without escapes."""
    core = value
    if value.startswith(b"-----BEGIN ") and b"\n" in value:
        # The armour of every key is the same; what lies between is this one's.
        core = value.partition(b"\n")[2].partition(b"-----END")[0]
    # Of the longest words the last: the first line of a key only names its kind.
    word = max(reversed(core.split()), key=len, default=core)
    window = (word if len(word) >= 2 * SHORTEST else core.strip(BLANKS))[-WINDOW:]
    digits = hexlify(window)
    return {window.translate(None, BLANKS), digits, digits.upper(), *base64_cores(window)}
