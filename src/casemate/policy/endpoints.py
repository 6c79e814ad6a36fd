"""One line of network policy: a host, and optionally ports, methods, a path and budgets.

    endpoint = host [":" ports] word* [methods] [path] budget*
    ports    = port ["-" port] ("," port ["-" port])*      443 when left out (denying: all)
    word     = "tls" | "http" | "tcp"                     what must be spoken, else by the port
             | "ech"                                      an encrypted client hello may pass
    methods  = METHOD ("," METHOD)*
    path     = "/" ...                                     `*` one segment, `**` any number
    budget   = "<=" size ["up" | "down"]                   bytes, both ways together without a word
             | "<=" count "req"                            requests in the session
             | "<=" count "req/min"                        requests in any minute
             | "<=" count "conn" ["total"]                 connections at once, or in the session

as in `api.github.com:443 GET,POST /repos/** <=10MB <=500req`. A rule that denies has neither words
nor budgets. Errors name the column, from 1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from casemate.errors import PolicyError
from casemate.policy.hosts import covers as host_covers
from casemate.policy.hosts import parse_host
from casemate.policy.model import (
    DEFAULT_ORIGIN,
    Budget,
    Endpoint,
    Network,
    Origin,
    Pin,
    Protocol,
    Secret,
)
from casemate.policy.units import SIZE_UNITS, format_size, nearest, parse_size

METHODS = (
    ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY")
    + ("COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "REPORT", "SEARCH", "UNLOCK")
)  # fmt: skip
"""RFC 9110, RFC 5789 and the WebDAV family. CONNECT and TRACE are never needed by a rule."""

LENGTH_MAX = 2048
ALL_PORTS = ((1, 65535),)
WORDS = ("tls", "http", "tcp", "ech")

_TOKEN = re.compile(r"[^ \t]+")
_BUDGET = re.compile(r"<=([0-9][0-9_]*(?:\.[0-9]+)?)([A-Za-z/]*)", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*", re.ASCII)

Token = tuple[int, str]
"""Column, from 1, and text."""


def parse_endpoint(text: str, *, reason: str = "", origin: Origin = DEFAULT_ORIGIN) -> Endpoint:
    """Read a rule that allows. Raises `PolicyError` that names the column."""
    tokens = _tokens(text)
    host, ports = _place(_first(tokens, 'as in "api.github.com:443 GET /repos/**"'))
    protocol, ech = _words(tokens)
    column = tokens[0][0] if tokens else 1
    methods, path = _requests(tokens)
    if (methods or path) and protocol == "tcp":
        raise _fail(column, "a rule for plain TCP cannot name methods or a path")
    if not ports:
        if host == "localhost":
            raise _fail(1, "a service of this machine needs its port", 'as in "localhost:5432"')
        ports = ((443, 443),)
    return Endpoint(
        text=text,
        host=host,
        ports=ports,
        methods=methods,
        path=path,
        protocol=protocol,
        ech=ech,
        budget=_budget(tokens),
        reason=reason,
        origin=origin,
    )


def parse_denial(text: str, *, reason: str = "", origin: Origin = DEFAULT_ORIGIN) -> Endpoint:
    """Read a rule that denies; without ports it is for all. Raises `PolicyError` as above."""
    tokens = _tokens(text)
    host, ports = _place(_first(tokens, 'as in "gist.github.com POST"'))
    if tokens and tokens[0][1] in WORDS:
        raise _fail(tokens[0][0], f'"{tokens[0][1]}": a rule denies whatever is spoken')
    methods, path = _requests(tokens)
    if tokens and tokens[0][1].startswith("<"):
        raise _fail(tokens[0][0], "a rule that denies has no budget", "it belongs to network.allow")
    _budget(tokens)
    return Endpoint(
        text=text,
        host=host,
        ports=ports or ALL_PORTS,
        methods=methods,
        path=path,
        reason=reason,
        origin=origin,
    )


def parse_budget(text: str) -> Budget:
    """Read budgets alone, as in `network.total`. Raises `PolicyError` that names the column."""
    return _budget(_tokens(text))


def budget_words(budget: Budget) -> tuple[str, ...]:
    """The budgets as a rule spells them."""
    sizes = {"bytes_total": "", "bytes_up": " up", "bytes_down": " down"}
    counts = {
        "requests": "req",
        "requests_per_minute": "req/min",
        "connections": "conn",
        "connections_total": "conn total",
    }
    found = []
    for name, word in (sizes | counts).items():
        value = getattr(budget, name)
        if value is not None:
            found.append(f"<={format_size(value) if name in sizes else value}{word}")
    return tuple(found)


def needs_requests(rule: Endpoint) -> bool:
    """Whether a rule decides about requests rather than about connections."""
    budget = rule.budget
    counted = budget.requests is not None or budget.requests_per_minute is not None
    return bool(rule.methods or rule.path or counted)


def inspects(network: Network, secrets: Sequence[Secret]) -> bool:
    """Whether some connection may have to be looked into."""
    return bool(secrets) or any(map(needs_requests, (*network.allow, *network.deny)))


def covers(outer: Endpoint, inner: Endpoint) -> bool:
    """Whether `outer` surely allows all that `inner` does; budgets are not compared."""
    if (outer.methods or outer.path) and not (inner.methods or inner.path):
        return False  # What is no request passes under the inner one alone.
    ports = all(any(a <= low and high <= b for a, b in outer.ports) for low, high in inner.ports)
    methods = not outer.methods or (inner.methods and set(inner.methods) <= set(outer.methods))
    path = outer.path in ("", "/**", inner.path) or (
        outer.path.endswith("/**")
        and "*" not in outer.path[:-2]
        and inner.path.startswith(outer.path[:-2])
    )
    spoken = outer.protocol in ("auto", inner.protocol) and (outer.ech or not inner.ech)
    if outer.protocol == "auto" and inner.protocol == "tcp":
        spoken = False
    return host_covers(outer.host, inner.host) and ports and bool(methods) and path and spoken


def _tokens(text: str) -> list[Token]:
    return [(found.start() + 1, found.group()) for found in _TOKEN.finditer(_limited(text))]


def _limited(text: str) -> str:
    if len(text) > LENGTH_MAX:
        raise _fail(LENGTH_MAX + 1, f"a rule is at most {LENGTH_MAX} characters")
    return text


def _fail(column: int, problem: str, hint: str = "") -> PolicyError:
    return PolicyError(f"column {column}: {problem}", hint=hint)


def _first(tokens: list[Token], hint: str) -> Token:
    if not tokens:
        raise _fail(1, "the rule is empty", hint)
    return tokens.pop(0)


def _place(token: Token) -> tuple[str, tuple[tuple[int, int], ...]]:
    """A host and its ports; () where none are named."""
    column, text = token
    if "://" in text:
        raise _fail(column, "a rule names a host, not a URL", f'write "{_from_url(text)}"')
    bracket = text.rfind("]")
    colon = text.find(":", bracket + 1) if text.startswith("[") else text.rfind(":")
    host_text, port_text = (text, "") if colon == -1 else (text[:colon], text[colon + 1 :])
    if colon != -1 and not text.startswith("[") and text.count(":") > 1:
        raise _fail(column, f'"{text}" is not a host', "an IPv6 address goes in brackets")
    try:
        host = parse_host(host_text)
    except PolicyError as error:
        raise _fail(column, error.problem, error.hint) from error
    return host, _ports(column + colon + 1, port_text) if colon != -1 else ()


def _from_url(text: str) -> str:
    scheme, _, rest = text.partition("://")
    host, slash, path = rest.partition("/")
    port = ":80" if scheme == "http" and ":" not in host else ""
    return f"{host}{port}" + (f" {slash}{path}" if path else "")


def _ports(column: int, text: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        numbers = (low, high if dash else low)
        for number in numbers:
            if not re.fullmatch(r"[1-9][0-9]{0,4}", number, re.ASCII) or int(number) > 65535:
                raise _fail(column, f'"{part}" is not a port', 'as in "443", "80,443", "8000-8010"')
        if int(numbers[0]) > int(numbers[1]):
            raise _fail(column, f'the range "{part}" runs backwards')
        ranges.append((int(numbers[0]), int(numbers[1])))
        column += len(part) + 1
    return tuple(sorted(set(ranges)))


def _words(tokens: list[Token]) -> tuple[Protocol, bool]:
    protocol: Protocol = "auto"
    ech = False
    while tokens and tokens[0][1] in WORDS:
        column, word = tokens.pop(0)
        if ech if word == "ech" else protocol != "auto":
            raise _fail(column, f'"{word}": a second word of the same kind')
        if word == "ech":
            ech = True
        else:
            protocol = cast("Protocol", word)
    return protocol, ech


def _requests(tokens: list[Token]) -> tuple[tuple[str, ...], str]:
    methods: tuple[str, ...] = ()
    if tokens and tokens[0][1][0] not in "/<":
        methods = _methods(tokens.pop(0))
    return methods, _path(tokens.pop(0)) if tokens and tokens[0][1].startswith("/") else ""


def parse_pin(text: str, *, origin: Origin = DEFAULT_ORIGIN) -> Pin:
    """Read `HOST:PORT = ADDRESS[:PORT]`. Raises `PolicyError` that names the column."""
    left, sign, right = _limited(text).partition("=")
    tokens = _tokens(left)
    hint = 'as in "api.example.com:443 = 127.0.0.1:8443"'
    if not sign or len(tokens) != 1:
        raise _fail(1, f'"{text}" names no host and address', hint)
    host, ports = _place(tokens[0])
    ports = ports or ((443, 443),)
    targets = _tokens(right)
    if len(targets) != 1:
        raise _fail(len(left) + 2, "the address is missing", hint)
    column, target = targets[0]
    address, to_ports = _place((len(left) + 1 + column, target))
    to_ports = to_ports or ports
    single = all(len(found) == 1 and found[0][0] == found[0][1] for found in (ports, to_ports))
    if not single or "*" in host or "/" in host:
        raise _fail(1, "one host and one port are pinned to one address and port", hint)
    if not (":" in address or address.replace(".", "").isdigit()) or "/" in address:
        raise _fail(len(left) + 1 + column, f'"{address}" is not an IP address', hint)
    return Pin(host=host, port=ports[0][0], address=address, to_port=to_ports[0][0], origin=origin)


def _methods(token: Token) -> tuple[str, ...]:
    column, text = token
    methods = []
    for method in text.split(","):
        if method not in METHODS:
            hint = nearest(method, METHODS)
            raise _fail(column, f'"{method}" is neither a method, a path nor a budget', hint)
        methods.append(method)
        column += len(method) + 1
    return tuple(dict.fromkeys(methods))


def _path(token: Token) -> str:
    column, text = token
    for character, remedy in (("?", "rules do not see queries"), ("#", "fragments are not sent")):
        if character in text:
            raise _fail(column + text.index(character), f'"{character}" ends a path', remedy)
    found = _PATH.match(text)
    end = found.end() if found else 0
    if end != len(text):
        raise _fail(column + end, f'"{text[end]}" cannot stand in a path', "write it decoded")
    segments = text[1:].split("/")
    for index, segment in enumerate(segments):
        if segment in (".", "..") or (not segment and index != len(segments) - 1):
            raise _fail(column, f'the path "{text}" is not normal', 'no "//", "." or ".."')
        if "**" in segment and segment != "**":
            raise _fail(column, f'"{segment}": "**" stands for whole segments')
    return text


def _budget(tokens: list[Token]) -> Budget:
    fields: dict[str, int] = {}
    while tokens:
        column, text = tokens.pop(0)
        found = _BUDGET.fullmatch(text)
        if found is None:
            hint = 'as in "<=10MB", "<=1GB down", "<=500req", "<=60req/min", "<=4conn"'
            raise _fail(column, f'"{text}" is not a budget', hint)
        number, unit = found.groups()
        following = tokens[0][1] if tokens else ""
        word = following if following in ("up", "down", "total") else ""
        name, value = _budget_field(column, number, unit, word)
        if word:
            tokens.pop(0)
        if name in fields:
            raise _fail(column, f'a second budget of the same kind: "{text}"')
        fields[name] = value
    return Budget(**fields)


def _budget_field(column: int, number: str, unit: str, word: str) -> tuple[str, int]:
    counted = {
        ("req", ""): "requests",
        ("req/min", ""): "requests_per_minute",
        ("conn", ""): "connections",
        ("conn", "total"): "connections_total",
    }
    if (unit, word) in counted:
        if "." in number:
            raise _fail(column, f'"{number}" is not a whole number')
        return counted[unit, word], int(number)
    if unit in ("req", "req/min", "conn"):
        raise _fail(column, f'"{word}" does not go with "{unit}"')
    if not unit:
        raise _fail(column, f'"<={number}" has no unit', f'as in "<={number}MB" or "<={number}req"')
    if unit not in SIZE_UNITS:
        hint = nearest(unit, ("req", "req/min", "conn", *SIZE_UNITS))
        raise _fail(column, f'unknown unit "{unit}"', hint)
    try:
        size = parse_size(number + unit)
    except PolicyError as error:
        raise _fail(column, error.problem, error.hint) from error
    return {"up": "bytes_up", "down": "bytes_down"}.get(word, "bytes_total"), size
