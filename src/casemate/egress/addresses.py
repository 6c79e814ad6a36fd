"""Which addresses are public. Everything else is reached only where a rule lists the address.

Sources: the IANA special-purpose address registries (RFC 6890), RFC 6052 (NAT64), RFC 3056 (6to4),
RFC 4380 (Teredo). An address that carries another one inside is judged by that one as well.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

PUBLIC = "public"

_V4 = (
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "documentation"),
    ("192.88.99.0/24", "6to4"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmark"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
)
_V6 = (
    ("::/128", "unspecified"),
    ("::1/128", "loopback"),
    ("::ffff:0:0/96", "mapped"),
    ("64:ff9b:1::/48", "private"),
    ("100::/64", "reserved"),
    ("2001::/32", "teredo"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "reserved"),
    ("fc00::/7", "private"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "private"),
    ("ff00::/8", "multicast"),
)
# Cloud platforms answer with credentials at these.
_METADATA = frozenset(
    {"169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"}
    | {"168.63.129.16", "fd20:ce::254"}
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_GLOBAL = ipaddress.IPv6Network("2000::/3")

_TABLE = {
    4: [(ipaddress.ip_network(text), word) for text, word in _V4],
    6: [(ipaddress.ip_network(text), word) for text, word in _V6],
}


@lru_cache(maxsize=4096)
def classify(address: str) -> str:
    """`"public"`, or in a word why the address (in any spelling `ipaddress` reads) is not.

    Raises `ValueError` for what is no address.
    """
    if address in _METADATA:
        return "metadata"
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        if found.scope_id is not None:
            return "link-local"
        if str(found) in _METADATA:
            return "metadata"
        inner = _inside(found)
        if inner is not None and (word := classify(str(inner))) != PUBLIC:
            return word
    for network, word in _TABLE[found.version]:
        if found in network:
            return word
    if isinstance(found, ipaddress.IPv6Address) and found not in _GLOBAL:
        return "nat64" if found in _NAT64 else "reserved"
    if isinstance(found, ipaddress.IPv6Address) and found.sixtofour is not None:
        return "6to4"
    return PUBLIC


def _inside(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for or leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None
