"""`casemate why URL`: whether a connection or request may go, by which rule, and what would allow
it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from casemate.egress.model import Target
from casemate.egress.names import normalise
from casemate.egress.rules import Rules, Spoken
from casemate.errors import RefusedError, UsageError
from casemate.policy.endpoints import METHODS, budget_words
from casemate.policy.model import Network, Secret
from casemate.policy.values import printable

SCHEMES: dict[str, tuple[int, Spoken]] = {
    "http": (80, "http"),
    "https": (443, "tls"),
    "ws": (80, "http"),
    "wss": (443, "tls"),
    "ssh": (22, "tcp"),
    "git": (9418, "tcp"),
}
"""The port, and what is spoken there."""

_SENT = "".join(map(chr, range(0x21, 0x7F)))
"""What a client sends of a path as it is."""

_AUTHORITY = re.compile(r"[^/?#]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The answer for one endpoint."""

    what: str
    allowed: bool
    code: str
    rule: str
    origin: str = ""
    note: str = ""
    allow: str = ""
    inspected: bool = False
    opaque: bool = False
    pinned: str = ""
    """Where the connection goes instead of where its name leads."""
    secrets: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    """Every budget that counts, with the rule it stands in."""

    def as_text(self) -> str:
        """For a terminal."""
        lines = [f"{self.what} is {'allowed' if self.allowed else f'refused ({self.code})'}"]
        if self.rule:
            lines.append(f"  rule: {self.rule}" + (f" ({self.origin})" if self.origin else ""))
        if self.note:
            lines.append(f"  {self.note}")
        if self.allowed:
            how = "looked into, request by request" if self.inspected else "passed as it is"
            why = ", as network.opaque says" if self.opaque else ""
            lines.append(f"  the connection is {how}{why}")
        if self.pinned:
            lines.append(f"  it goes to {self.pinned}")
        if self.secrets:
            lines.append(f"  put in there: {', '.join(self.secrets)}")
        lines += [f"  budget: {budget}" for budget in self.budgets]
        if self.allow:
            lines.append(f"  to allow it: {self.allow}")
        return "\n".join(printable(line) for line in lines)

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {name: getattr(self, name) for name in self.__slots__}


def explain(network: Network, secrets: tuple[Secret, ...], text: str, method: str) -> Explanation:
    """The answer for a URL or HOST:PORT. Raises `UsageError`, `MalformedError`."""
    target, path, spoken = parse_place(text)
    if method and method not in METHODS:
        raise UsageError(f"{method} is not a method", hint=", ".join(METHODS))
    if (method or path) and spoken == "tcp":
        raise UsageError("only HTTP has methods and paths", hint="leave them out")
    rules = Rules(network, secrets)
    what = f"{method or 'GET'} {text}" if path else f"{method or 'a connection'} to {target}"
    held = rules.secrets(target.host)
    guess: Spoken = "http" if target.port == 80 else "tls"
    try:
        if path or method:
            rule = rules.request(target, method or "GET", path or "/", spoken or guess)
            scope = rules.connection(target)
        else:
            scope = rules.connection(target)
            scope = scope.speaking(spoken) if spoken else scope
            rule = scope.rules[0]
    except RefusedError as error:
        return Explanation(
            what=what,
            allowed=False,
            code=error.code,
            rule=error.rule,
            note=error.message,
            allow=error.allow,
            secrets=held,
        )
    pin = rules.pin(target)
    said = ((f'"{rule.text}"', rule.budget), ("network.total", network.total))
    return Explanation(
        what=what,
        allowed=True,
        code="allowed",
        rule=f'"{rule.text}"',
        origin=str(rule.origin),
        note=f"reason: {rule.reason}" if rule.reason else "",
        inspected=scope.inspect,
        opaque=rules.is_opaque(target.host),
        pinned=f"{Target(pin.address, pin.to_port)} ({pin.origin})" if pin else "",
        secrets=held,
        budgets=tuple(f"{one} of {name}" for name, budget in said for one in budget_words(budget)),
    )


def parse_place(text: str) -> tuple[Target, str, Spoken | None]:
    """A URL or HOST:PORT as a target, a path with its query, and what is spoken (None: not said).

    Raises `UsageError`, `MalformedError`.
    """
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "", text
    elif scheme.lower() not in SCHEMES:
        raise UsageError(f'"{printable(scheme)}" is not a known scheme', hint=", ".join(SCHEMES))
    port, spoken = SCHEMES[scheme.lower()] if scheme else (443, None)
    found = _AUTHORITY.match(rest)
    authority = found.group() if found else ""
    path = rest[len(authority) :].partition("#")[0]
    host, colon, number = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, number = authority, str(port)
    if not re.fullmatch("[0-9]{1,5}", number, re.ASCII) or not 0 < int(number) < 65536:
        raise UsageError(f'"{printable(number)}" is not a port')
    if path and not path.startswith("/"):
        path = f"/{path}"
    # Clients escape what a request line cannot hold.
    return Target(normalise(host), int(number)), quote(path, safe=_SENT), spoken
