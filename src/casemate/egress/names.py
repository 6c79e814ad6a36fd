"""Host names as they come from inside: one spelling for each, and nothing but plain ones.

What passes here is byte for byte what the rules compare, what the resolver is asked and what a
server name or Host header is held against, so that no two of them can mean different hosts.
Sources: RFC 1123 section 2.1, RFC 5891 (A-labels), RFC 5952 (IPv6 text).
"""

from __future__ import annotations

import re

from casemate.egress.model import MalformedError

NAME_MAX = 253

_NAME = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?",
    re.ASCII,
)
# What inet_aton(3) or a browser takes for a number ends in a label like these.
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_DOTTED = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})", re.ASCII)


def normalise(text: str | bytes) -> str:
    """The normal form of a host name or address literal.

    A name in lower case without the dot at the end; IPv4 in full dotted decimal; IPv6 in the form
    of RFC 5952, given with or without brackets. Raises `MalformedError` for everything else:
    control characters, percent signs, user information, other scripts, short, octal or hexadecimal
    IPv4, an IPv4 address in the clothes of IPv6, zone identifiers, empty or overlong labels.
    """
    if isinstance(text, bytes):
        # What is not ASCII comes out as something that is refused below.
        text = text.decode("latin-1")
    if ":" in text or text.startswith("["):
        return _ipv6(text)
    name = text.lower() if text.isascii() else text
    name = name.removesuffix(".")
    if len(name) > NAME_MAX or not _NAME.fullmatch(name):
        raise _refuse(text)
    if _NUMERIC.fullmatch(name.rpartition(".")[2]):
        if text != name or not _DOTTED.fullmatch(name):
            raise _refuse(text)
        if any(int(octet) > 255 for octet in name.split(".")):
            raise _refuse(text)
    elif "xn--" in name:
        _check_international(name, text)
    return name


def is_address(host: str) -> bool:
    """Whether a host in normal form is an IP address rather than a name."""
    return ":" in host or (host[-1:].isdigit() and _DOTTED.fullmatch(host) is not None)


def _ipv6(text: str) -> str:
    import ipaddress

    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        address = ipaddress.IPv6Address(inner)
    except ValueError:
        raise _refuse(text) from None
    if address.scope_id is not None or address.ipv4_mapped is not None:
        raise _refuse(text)
    return str(address)


def _check_international(name: str, text: str) -> None:
    """An A-label that does not survive decoding and encoding could be read as another name."""
    for label in name.split("."):
        if not label.startswith("xn--"):
            continue
        try:
            decoded = label[4:].encode("ascii").decode("punycode")
            encoded = decoded.encode("punycode").decode("ascii")
        except UnicodeError:
            raise _refuse(text) from None
        if encoded != label[4:] or decoded.isascii():
            raise _refuse(text)


def _refuse(text: str) -> MalformedError:
    shown = ascii(text if len(text) <= 80 else text[:80] + "...")[1:-1]
    return MalformedError(
        f'"{shown}" is not a plain host name or address',
        hint='as in "api.example.com", "192.0.2.7" or "[2001:db8::1]"',
    )
