"""Host names and addresses as network rules write them: one spelling for each.

Names follow RFC 1123 with the underscore that real names carry; addresses follow RFC 791 in full
dotted decimal and RFC 4291. Everything that a resolver or a C library would read as another
spelling of an address (0x7f.1, 0177.0.0.1, 2130706433, ::ffff:127.0.0.1) is refused, so that a
rule and the broker can never mean different hosts by one text.
"""

from __future__ import annotations

import re

from casemate.errors import PolicyError

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMERIC = re.compile(r"(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)
_DOTTED = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})", re.ASCII)


def parse_host(text: str) -> str:
    """The normal form of a host: a name, `*.name`, `**.name`, an address, or a network in CIDR.

    An IPv6 address or network is written in brackets, `[2001:db8::]/32`, and returned without.
    Raises `PolicyError`.
    """
    if not text:
        raise PolicyError("the host is missing")
    if not text.isascii():
        raise PolicyError(f'"{text}" is not ASCII', hint=_punycode_hint(text))
    if text.startswith("["):
        return _bracketed(text)
    if "/" in text:
        return _network(text)
    wildcard, name = "", text.lower()
    for prefix in ("**.", "*."):
        if name.startswith(prefix):
            wildcard, name = prefix, name[len(prefix) :]
            break
    if "*" in name:
        raise PolicyError(
            f'"{text}": a wildcard stands only for whole labels at the front',
            hint='"*.example.com" is every name below, "**.example.com" the name itself as well',
        )
    if ":" in name:
        raise PolicyError(f'"{text}" is not a host', hint="an IPv6 address goes in brackets")
    if _NUMERIC.fullmatch(name.rsplit(".", 1)[-1]):
        return _address(text, wildcard)
    return wildcard + _name(text, name, wildcard)


def _name(text: str, name: str, wildcard: str) -> str:
    if name.endswith("."):
        raise PolicyError(f'"{text}" ends in a dot', hint=f'write "{text.rstrip(".")}"')
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise PolicyError(f'"{text}" is not a host name')
    if wildcard and len(labels) == 1:
        raise PolicyError(
            f'"{text}" covers a whole top-level domain', hint="name the domains that are needed"
        )
    return name


def _address(text: str, wildcard: str) -> str:
    octets = text.split(".")
    if wildcard or not _DOTTED.fullmatch(text) or any(int(octet) > 255 for octet in octets):
        raise PolicyError(
            f'"{text}" is not an IPv4 address in full dotted decimal', hint='as in "192.0.2.7"'
        )
    return text


def _bracketed(text: str) -> str:
    import ipaddress

    inner, bracket, rest = text[1:].partition("]")
    if not bracket or (rest and not rest.startswith("/")):
        raise PolicyError(f'"{text}": an IPv6 address is written as "[2001:db8::1]"')
    if rest:
        return _network(inner + rest)
    try:
        address = ipaddress.IPv6Address(inner)
    except ValueError as error:
        raise PolicyError(f'"{inner}" is not an IPv6 address') from error
    if address.ipv4_mapped is not None:
        raise PolicyError(
            f'"{inner}" is an IPv4 address in disguise', hint=str(address.ipv4_mapped)
        )
    if address.scope_id is not None:
        raise PolicyError(f'"{inner}" names a network interface: rules cannot')
    return str(address)


def _network(text: str) -> str:
    import ipaddress

    address, _, length = text.partition("/")
    if ":" not in address:
        _address(address, "")
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", length, re.ASCII):
        raise PolicyError(
            f'"{text}": the prefix length is a plain number', hint='as in "10.0.0.0/8"'
        )
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        hint = ""
        try:
            hint = f'the network is "{ipaddress.ip_network(text, strict=False)}"'
        except ValueError:
            pass
        raise PolicyError(f'"{text}" is not a network', hint=hint) from error


def _punycode_hint(text: str) -> str:
    try:
        return f'write the wire form "{text.encode("idna").decode("ascii")}"'
    except UnicodeError:
        return 'write the wire form, which begins with "xn--"'


def covers(outer: str, inner: str) -> bool:
    """Whether every host that `inner` stands for is one that `outer` stands for (both normal)."""
    if outer == inner:
        return True
    if outer.startswith("**."):
        base = outer[3:]
        return inner == base or _below(inner, base) or inner in (f"*.{base}", outer)
    if outer.startswith("*."):
        base = outer[2:]
        # `**.base` also stands for the base itself, which `*.base` leaves out.
        return inner != f"**.{base}" and _below(inner.removeprefix("**.").removeprefix("*."), base)
    if "/" in outer:
        import ipaddress

        try:
            network = ipaddress.ip_network(inner)
            around = ipaddress.ip_network(outer)
        except ValueError:
            return False
        return network.version == around.version and network.subnet_of(around)  # type: ignore[arg-type]
    return False


def _below(name: str, base: str) -> bool:
    return name.endswith(f".{base}") and len(name) > len(base) + 1
