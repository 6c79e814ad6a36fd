"""Rules found by host, however many there are: exact names and addresses, suffixes, networks."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import ip_address, ip_network

from casemate.egress.model import Target
from casemate.egress.names import is_address
from casemate.policy.model import Endpoint

_address = lru_cache(maxsize=4096)(ip_address)


class RuleIndex:
    """The rules of one list, in the policy's order."""

    def __init__(self, rules: Iterable[Endpoint]) -> None:
        self.rules = tuple(rules)
        self._exact: dict[str, list[int]] = {}
        self._below: dict[str, list[int]] = {}
        self._networks = []
        for number, rule in enumerate(self.rules):
            if rule.host.startswith("*"):
                stars, _, base = rule.host.partition(".")
                self._below.setdefault(base, []).append(number)
                if stars == "**":
                    self._exact.setdefault(base, []).append(number)
            elif "/" in rule.host:
                self._networks.append((ip_network(rule.host), number))
            else:
                self._exact.setdefault(rule.host, []).append(number)

    def hosts(self, host: str) -> list[Endpoint]:
        """The rules for a host, whatever the port. Rules for addresses are never for names."""
        if not self.rules:
            return []
        found = list(self._exact.get(host, ()))
        if is_address(host):
            if self._networks:
                address = _address(host)
                found += [number for network, number in self._networks if address in network]
        elif self._below:
            at = host.find(".")
            while at >= 0:
                found += self._below.get(host[at + 1 :], ())
                at = host.find(".", at + 1)
        return [self.rules[number] for number in sorted(found)]

    def at(self, target: Target) -> list[Endpoint]:
        """The rules for a host and port."""
        port = target.port
        rules = self.hosts(target.host)
        return [rule for rule in rules if any(low <= port <= high for low, high in rule.ports)]
