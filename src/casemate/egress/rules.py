"""The decision about a connection and about a request. Pure; rules are compiled once.

Deny beats allow; what no rule allows is refused; every refusal carries the line that would allow
it. Rules with a method or a path decide about requests, so a connection they match is inspected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from casemate.egress.model import Target
from casemate.egress.paths import matches, matches_loosely, readings, spelled
from casemate.egress.rule_index import RuleIndex
from casemate.errors import PolicyError, RefusedError
from casemate.policy.endpoints import needs_requests, parse_endpoint
from casemate.policy.hosts import covers as host_covers
from casemate.policy.model import Endpoint, Network, Pin, Secret

Spoken = Literal["tls", "http", "tcp"]
"""What the client's first bytes turned out to be; "tcp" is anything else."""

LOCALHOST = "localhost"
"""The host of a rule for a service of this machine."""

_EXPECTED = {80: "http", 443: "tls"}


@dataclass(frozen=True, slots=True)
class Scope:
    """What is possible on a connection that is not refused outright."""

    target: Target
    rules: tuple[Endpoint, ...]
    inspect: bool
    """TLS must be taken apart, because a rule or a secret needs to see the requests."""
    denied: bool
    """Some requests are denied, so nothing may pass that is not seen."""
    own_only: bool
    """No other credentials may be sent, so only a rule that says `tcp` lets bytes pass unseen."""

    def speaking(self, spoken: Spoken) -> Scope:
        """The part of it that holds for what is spoken. Raises `RefusedError` if there is none."""
        rules = tuple(_speaking(self.rules, self.target.port, spoken))
        if not rules:
            raise _misspoken(self.target, self.rules, spoken)
        return replace(self, rules=rules)

    @property
    def expects(self) -> bool:
        """Whether only TLS or HTTP may be spoken."""
        return not _speaking(self.rules, self.target.port, "tcp")

    @property
    def anything(self) -> bool:
        """Whether a rule lets anything pass in so many words, and nothing needs to be seen."""
        return not self.inspect and any(rule.protocol == "tcp" for rule in self.rules)

    @property
    def ech(self) -> bool:
        """Whether an Encrypted Client Hello may pass."""
        return any(rule.ech for rule in self.rules)

    @property
    def opaque_rule(self) -> Endpoint | None:
        """The first rule that allows traffic nobody looks into."""
        if self.denied:
            return None
        for rule in self.rules:
            if not needs_requests(rule) and (not self.own_only or rule.protocol == "tcp"):
                return rule
        return None


class Rules:
    """The network policy of one session. Raises `PolicyError` for rules that contradict."""

    def __init__(self, network: Network, secrets: Sequence[Secret] = ()) -> None:
        self._allow = RuleIndex(network.allow)
        self._deny = RuleIndex(network.deny)
        self._pins = {(pin.host, pin.port): pin for pin in network.resolve}
        self._opaque = RuleIndex(Endpoint(text=host, host=host) for host in network.opaque)
        self._secrets = RuleIndex(
            Endpoint(text=secret.name, host=host) for secret in secrets for host in secret.to
        )
        self._own = RuleIndex(
            Endpoint(text=secret.name, host=host)
            for secret in secrets
            for host in secret.to
            if secret.own_only
        )
        _check_opaque(network, secrets)

    def pin(self, target: Target) -> Pin | None:
        """Where the target's connections go instead of where its name leads."""
        return self._pins.get((target.host, target.port))

    def secrets(self, host: str) -> tuple[str, ...]:
        """The names of the secrets that belong to a host."""
        return tuple(dict.fromkeys(rule.text for rule in self._secrets.hosts(host)))

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
            raise self._unlisted(target, _line(target, "", ""))
        opaque = self.is_opaque(target.host)
        if opaque:
            rules = [rule for rule in rules if not needs_requests(rule)]
            if denied or not rules:
                raise RefusedError(
                    f"{target} is never looked into, and the rules for it need to see requests",
                    code="opaque",
                    rule=f'network.opaque = ["{target.host}"]',
                )
        needed = bool(denied) or any(map(needs_requests, rules)) or self.secrets(target.host)
        return Scope(
            target=target,
            rules=tuple(rules),
            inspect=bool(needed) and not opaque,
            denied=bool(denied),
            own_only=not opaque and bool(self._own.hosts(target.host)),
        )

    def request(self, target: Target, method: str, path: str, spoken: Spoken) -> Endpoint:
        """The first rule that allows a request; `path` is as sent, with its query, `spoken` what it
        comes in.

        Raises `RefusedError` with the code "denied", "host", "port", "protocol", "method" or
        "path".
        """
        path = path.partition("?")[0]
        denied, listed = self._deny.at(target), self._allow.at(target)
        rules = _speaking(listed, target.port, spoken)
        ways: tuple[str, ...] = ()
        strange = None
        if any(rule.path for rule in (*denied, *rules)):
            try:
                ways = readings(path)
            except RefusedError as error:
                strange = error
        for rule in denied:
            if rule.methods and method.upper() not in rule.methods:
                continue
            if rule.path and strange is not None:
                raise strange
            if not rule.path or any(matches_loosely(rule.path, way) for way in ways):
                raise _denied(rule, f"{method} {target}{path}")
        if not listed:
            raise self._unlisted(target, _line(target, method, path, spoken))
        if not rules:
            raise _misspoken(target, listed, spoken)
        meant = [rule for rule in rules if not rule.methods or method in rule.methods]
        for rule in meant:
            if not rule.path or (ways and all(matches(rule.path, way) for way in ways)):
                return rule
        shown = _shown(rules)
        if strange is not None and meant:
            strange.rule, strange.allow = shown, _line(target, method, "", spoken)
            raise strange
        raise RefusedError(
            f"no rule allows {method} {path} at {target}",
            code="path" if meant else "method",
            rule=shown,
            allow=_line(target, method, path, spoken),
        )

    def lists_address(self, target: Target, address: str) -> bool:
        """Whether a rule means this address, public or not, for the target's port.

        A network so wide that it holds most of the internet means the public addresses in it.
        """
        rules = self._allow.at(Target(address, target.port))
        return any("/" not in rule.host or _is_narrow(rule.host) for rule in rules)

    def denying(self, address: str, port: int) -> Endpoint | None:
        """The rule that denies every connection to an address, whatever name led there."""
        denied = self._deny.at(Target(address, port))
        return next((rule for rule in denied if not needs_requests(rule)), None)

    def _unlisted(self, target: Target, line: str) -> RefusedError:
        others = self._allow.hosts(target.host)
        reason = f"not port {target.port} of it" if others else "it is not listed"
        if not self._allow.rules:
            reason = "no endpoint is"
        return RefusedError(
            f"{target} is not allowed: {reason}",
            code="port" if others else "host",
            rule=_shown(others),
            allow=line,
        )


def _speaking(rules: Iterable[Endpoint], port: int, spoken: Spoken) -> list[Endpoint]:
    """The rules that let this be spoken; without a word it goes by the port."""
    found = []
    for rule in rules:
        wanted = _EXPECTED.get(port, "") if rule.protocol == "auto" else rule.protocol
        if wanted in ("", "tcp", spoken):
            found.append(rule)
    return found


def _is_narrow(network: str) -> bool:
    """Whether a network is no wider than the widest of special use: 10.0.0.0/8, fc00::/7."""
    _, _, length = network.partition("/")
    return int(length) >= (7 if ":" in network else 8)


def _check_opaque(network: Network, secrets: Sequence[Secret]) -> None:
    needs = [(rule, f'the rule "{rule.text}"') for rule in network.allow if needs_requests(rule)]
    needs += [(rule, f'the rule "{rule.text}"') for rule in network.deny if needs_requests(rule)]
    needs += [
        (Endpoint(text="", host=host, origin=secret.origin), f"the secret {secret.name}")
        for secret in secrets
        for host in secret.to
    ]
    for rule, what in needs:
        for host in network.opaque:
            if host_covers(host, rule.host):
                raise PolicyError(
                    f'network.opaque = ["{host}"] keeps {rule.host} from being looked into, but '
                    f"{what} needs to see its requests",
                    path=rule.origin.source,
                    line=rule.origin.line,
                    key=rule.origin.key,
                    hint=f'take "{host}" out of network.opaque, or {what} out of the policy',
                )


def _shown(rules: Sequence[Endpoint]) -> str:
    return "; ".join(f'"{rule.text}" ({rule.origin})' for rule in rules[:5])


def _denied(rule: Endpoint, what: str) -> RefusedError:
    reason = f": {rule.reason}" if rule.reason else ""
    return RefusedError(
        f"{what} is denied{reason}",
        code="denied",
        rule=f'network.deny "{rule.text}" ({rule.origin})',
        hint="a rule that denies is taken back only where it stands",
    )


def _misspoken(target: Target, rules: Sequence[Endpoint], spoken: Spoken) -> RefusedError:
    wanted = {
        _EXPECTED[target.port] if rule.protocol == "auto" else rule.protocol for rule in rules
    }
    words = " and ".join(sorted(word.upper() for word in wanted))
    said = "something else" if spoken == "tcp" else spoken.upper()
    return RefusedError(
        f"{target} is for {words}, and {said} is spoken",
        code="protocol",
        rule=_shown(rules),
        allow=f'network.allow = ["{target} {spoken}"]',
    )


def _line(target: Target, method: str, path: str, spoken: Spoken | None = None) -> str:
    """The smallest rule that would allow this, as a line of policy."""
    expected = _EXPECTED.get(target.port, spoken)
    place = str(target) if spoken in (None, expected) else f"{target} {spoken}"
    narrow = spelled(path) if path else ""
    for text in (f"{place} {method} {narrow}".strip(), f"{place} {method}".strip(), place):
        try:
            parse_endpoint(text)
        except PolicyError:
            continue
        return f'network.allow = ["{text}"]'
    return ""
