"""`casemate why URL`: whether a connection or request may go, by which rule, and what would allow
it."""

from __future__ import annotations

from dataclasses import dataclass

from casemate.egress.model import Target
from casemate.egress.names import normalise
from casemate.egress.rules import Rules
from casemate.errors import RefusedError, UsageError
from casemate.policy.endpoints import METHODS
from casemate.policy.model import Network, Secret
from casemate.policy.values import printable

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ssh": 22, "git": 9418}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer for one endpoint."""

    what: str
    allowed: bool
    code: str
    rule: str
    origin: str
    note: str
    allow: str
    inspected: bool
    secrets: tuple[str, ...]

    def as_text(self) -> str:
        """For a terminal."""
        lines = [f"{self.what} is {'allowed' if self.allowed else f'refused ({self.code})'}"]
        if self.rule:
            lines.append(f"  rule: {self.rule}" + (f" ({self.origin})" if self.origin else ""))
        if self.note:
            lines.append(f"  {self.note}")
        if self.allowed:
            how = "looked into, request by request" if self.inspected else "passed as it is"
            lines.append(f"  the connection is {how}")
        if self.secrets:
            lines.append(f"  put in there: {', '.join(self.secrets)}")
        if self.allow:
            lines.append(f"  to allow it: {self.allow}")
        return "\n".join(printable(line) for line in lines)

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {name: getattr(self, name) for name in self.__slots__}


def explain(network: Network, secrets: tuple[Secret, ...], text: str, method: str) -> Explanation:
    """The answer for a URL or HOST:PORT. Raises `UsageError`, `MalformedError`."""
    target, path = parse_place(text)
    if method and method not in METHODS:
        raise UsageError(f"{method} is not a method", hint=", ".join(METHODS))
    rules = Rules(network, secrets)
    what = f"{method or 'a connection'} to {target}" if not path else f"{method or 'GET'} {text}"
    held = tuple(s.name for s in secrets if rules.has_secret(target.host) and _belongs(s, target))
    try:
        scope = rules.connection(target)
        rule = scope.rules[0]
        if path or method:
            rule = rules.request(target, method or "GET", path or "/")
    except RefusedError as error:
        note = error.message if error.message != what else ""
        return Explanation(what, False, error.code, error.rule, "", note, error.allow, False, held)
    note = f"reason: {rule.reason}" if rule.reason else ""
    return Explanation(
        what, True, "allowed", f'"{rule.text}"', str(rule.origin), note, "", scope.inspect, held
    )


def parse_place(text: str) -> tuple[Target, str]:
    """A URL or HOST:PORT as a target and a path. Raises `UsageError`, `MalformedError`."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "https", text
    if scheme not in PORTS:
        raise UsageError(f"{scheme} is not a scheme that is known", hint=", ".join(PORTS))
    authority, slash, path = rest.partition("/")
    host, colon, port = authority.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = authority, str(PORTS[scheme])
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f'"{port}" is not a port')
    return Target(normalise(host), int(port)), slash + path.partition("#")[0]


def _belongs(secret: Secret, target: Target) -> bool:
    from casemate.policy.hosts import covers

    return any(covers(host, target.host) for host in secret.to)
