"""The decision about a connection and about a request. Pure; rules are compiled once.

Deny beats allow; what no rule allows is refused; every refusal carries the line that would allow
it. Rules with a method or a path decide about requests, so a connection they match is inspected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network

from casemate.egress.model import Target
from casemate.egress.names import is_address
from casemate.egress.paths import matches, normal_path
from casemate.errors import PolicyError, RefusedError
from casemate.policy.endpoints import needs_requests, parse_endpoint
from casemate.policy.hosts import covers as host_covers
from casemate.policy.model import Endpoint, Network, Pin, Protocol, Secret

LOCALHOST = "localhost"
"""The host of a rule for a service of this machine."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is possible on a connection that is not refused outright."""

    rules: tuple[Endpoint, ...]
    inspect: bool
    """TLS must be taken apart, because a rule or a secret needs to see the requests."""
    protocol: Protocol
    ech: bool

    @property
    def opaque_rule(self) -> Endpoint | None:
        """The first rule that allows traffic nobody looks into."""
        return next((rule for rule in self.rules if not needs_requests(rule)), None)


class Rules:
    """The network policy of one session. Raises `PolicyError` for rules that contradict."""

    def __init__(self, network: Network, secrets: Sequence[Secret] = ()) -> None:
        self._allow = _Index(network.allow)
        self._deny = _Index(network.deny)
        self._pins = {(pin.host, pin.port): pin for pin in network.resolve}
        self._opaque = _Index([Endpoint(text=host, host=host) for host in network.opaque])
        bound = [(secret, host) for secret in secrets for host in secret.to]
        self._secrets = _Index([Endpoint(text=secret.name, host=host) for secret, host in bound])
        for rule in network.allow:
            if needs_requests(rule) and any(host_covers(o, rule.host) for o in network.opaque):
                raise _contradiction(f'the rule "{rule.text}" needs to see requests', rule.host)
        for secret, host in bound:
            if any(host_covers(o, host) for o in network.opaque):
                raise _contradiction(f"the secret {secret.name} is put in", host)

    @property
    def ports(self) -> tuple[tuple[int, int], ...]:
        """Inclusive ranges of all ports that some rule allows."""
        return tuple(sorted({span for rule in self._allow.rules for span in rule.ports}))

    def pin(self, target: Target) -> Pin | None:
        """Where the target's connections go instead of where its name leads."""
        return self._pins.get((target.host, target.port))

    def has_secret(self, host: str) -> bool:
        """Whether a secret belongs to the host."""
        return bool(self._secrets.hosts(host))

    def is_opaque(self, host: str) -> bool:
        """Whether the policy keeps the host's TLS closed."""
        return bool(self._opaque.hosts(host))

    def connection(self, target: Target) -> Scope:
        """What a connection to the target may carry.

        Raises `RefusedError` with the code "denied", "host", "port" or "opaque".
        """
        denied = self._deny.at(target)
        for rule in denied:
            if not needs_requests(rule):
                raise _denied(rule, str(target))
        rules = self._allow.at(target)
        if not rules:
            raise self._unlisted(target)
        opaque = self.is_opaque(target.host)
        inspect = bool(denied) or any(map(needs_requests, rules)) or self.has_secret(target.host)
        if opaque:
            rules = [rule for rule in rules if not needs_requests(rule)]
            if denied or not rules:
                raise RefusedError(
                    f"{target} is never looked into, and the rules for it need to see requests",
                    code="opaque",
                    rule=f'network.opaque = ["{target.host}"]',
                )
        spoken = {rule.protocol for rule in rules}
        return Scope(
            tuple(rules),
            inspect and not opaque,
            spoken.pop() if len(spoken) == 1 else _widest(spoken),
            any(rule.ech for rule in rules),
        )

    def request(self, target: Target, method: str, path: str) -> Endpoint:
        """The rule that allows a request; `path` is as sent, with its query.

        Raises `RefusedError` with the code "denied", "host", "port", "method" or "path".
        """
        denied, rules = self._deny.at(target), self._allow.at(target)
        if not rules:
            raise self._unlisted(target)
        plain = path.partition("?")[0]
        if any(rule.path for rule in (*denied, *rules)):
            plain = normal_path(plain, _line(target, method, ""))
        for rule in denied:
            if _matches(rule, method, plain):
                raise _denied(rule, f"{method} {target}{plain}")
        for rule in rules:
            if _matches(rule, method, plain):
                return rule
        code = "path" if any(_method(rule, method) for rule in rules) else "method"
        raise RefusedError(
            f"no rule allows {method} {plain} at {target}",
            code=code,
            rule="; ".join(f'"{rule.text}" ({rule.origin})' for rule in rules[:5]),
            allow=_line(target, method, plain),
        )

    def lists_address(self, target: Target, address: str) -> bool:
        """Whether a rule means this address, public or not, for the target's port.

        A network so wide that it holds most of the internet means the public addresses in it.
        """
        rules = self._allow.at(Target(address, target.port))
        return any("/" not in rule.host or _is_narrow(rule.host) for rule in rules)

    def _unlisted(self, target: Target) -> RefusedError:
        others = self._allow.hosts(target.host)
        listed = "; ".join(f'"{rule.text}" ({rule.origin})' for rule in others[:5])
        what = "port" if others else "host"
        reason = f"not port {target.port} of it" if others else "it is not listed"
        if not self._allow.rules:
            reason = "no endpoint is"
        return RefusedError(
            f"{target} is not allowed: {reason}",
            code=what,
            rule=listed,
            allow=_line(target, "", ""),
        )


class _Index:
    """Rules by host: exact names and addresses, suffixes, networks."""

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
        """The rules for a host, in the policy's order, whatever the port."""
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


def _is_narrow(network: str) -> bool:
    """Whether a network is no wider than the widest of special use: 10.0.0.0/8, fc00::/7."""
    _, _, length = network.partition("/")
    return int(length) >= (7 if ":" in network else 8)


_address = lru_cache(maxsize=4096)(ip_address)


def _matches(rule: Endpoint, method: str, path: str) -> bool:
    return _method(rule, method) and (not rule.path or matches(rule.path, path))


def _method(rule: Endpoint, method: str) -> bool:
    return not rule.methods or method in rule.methods


def _widest(spoken: set[Protocol]) -> Protocol:
    return "tcp" if "tcp" in spoken else "auto"


def _denied(rule: Endpoint, what: str) -> RefusedError:
    reason = f": {rule.reason}" if rule.reason else ""
    return RefusedError(
        f"{what} is denied{reason}",
        code="denied",
        rule=f'network.deny "{rule.text}" ({rule.origin})',
        hint="a rule that denies is taken back only where it stands",
    )


def _line(target: Target, method: str, path: str) -> str:
    """The smallest rule that would allow this, as a line of policy."""
    place = str(target)
    for text in (f"{place} {method} {path}".strip(), f"{place} {method}".strip(), place):
        try:
            parse_endpoint(text)
        except PolicyError:
            continue
        return f'network.allow = ["{text}"]'
    return ""


def _contradiction(what: str, host: str) -> PolicyError:
    return PolicyError(
        f'"{host}" is never looked into, but {what}',
        key="network.opaque",
        hint="take the host out of network.opaque",
    )
