"""Synthetic addresses: what a sandbox is told a name's address is, and back.

Only the broker can tell which name an address stands for, so a connection to one carries its name
even where the program knows nothing of proxies. Sources: RFC 2544 (198.18.0.0/15), RFC 4193.
"""

from __future__ import annotations

from collections import OrderedDict
from ipaddress import IPv4Address, IPv6Address

NAMES_MAX = 50_000
"""Names a session may have at once: far fewer than there are addresses, so that an address is
given again only long after it was last used."""

_V4 = int(IPv4Address("198.18.0.0"))
_V6 = int(IPv6Address("fdca:5e00::"))
_FIRST, _LAST = 256, (1 << 17) - 2
"""Below the first are the sandbox's own services: the name server and the proxy."""


class Names:
    """The names of one session, and their addresses."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[str, int] = OrderedDict()
        self._names: dict[int, str] = {}
        self._next = _FIRST

    def addresses(self, name: str) -> tuple[str, str]:
        """The IPv4 and the IPv6 address of a name in normal form."""
        number = self._numbers.get(name)
        if number is None:
            number = self._assign(name)
        self._numbers.move_to_end(name)
        return str(IPv4Address(_V4 + number)), str(IPv6Address(_V6 + number))

    def name(self, address: str) -> str | None:
        """The name that an address of this session stands for."""
        number = number_of(address)
        name = None if number is None else self._names.get(number)
        if name is not None:
            self._numbers.move_to_end(name)
        return name

    def _assign(self, name: str) -> int:
        if len(self._numbers) >= NAMES_MAX:
            _, old = self._numbers.popitem(last=False)
            del self._names[old]
        while self._next in self._names:
            self._advance()
        number = self._next
        self._advance()
        self._numbers[name] = number
        self._names[number] = name
        return number

    def _advance(self) -> None:
        self._next = self._next + 1 if self._next < _LAST else _FIRST


def number_of(address: str) -> int | None:
    """Which of the synthetic addresses this is; None if it is none."""
    if ":" in address:
        number = int(IPv6Address(address)) - _V6
    else:
        number = int(IPv4Address(address)) - _V4
    return number if 0 <= number < 1 << 17 else None
