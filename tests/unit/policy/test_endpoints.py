"""The grammar of network lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import PolicyError
from casemate.policy.endpoints import (
    LENGTH_MAX,
    METHODS,
    budget_words,
    covers,
    parse_budget,
    parse_denial,
    parse_endpoint,
    parse_pin,
)
from casemate.policy.hosts import parse_host
from casemate.policy.model import Budget, Endpoint


def test_a_full_line() -> None:
    """Host, port, methods, path and every budget in one line."""
    endpoint = parse_endpoint(
        "API.github.com:443 GET,POST /repos/** <=10MB <=500req <=4conn <=60req/min <=9MB up <=1GB"
        " down <=100conn total"
    )

    assert endpoint.host == "api.github.com"
    assert endpoint.ports == ((443, 443),)
    assert endpoint.methods == ("GET", "POST")
    assert endpoint.path == "/repos/**"
    assert endpoint.budget == Budget(
        bytes_total=10_000_000,
        bytes_up=9_000_000,
        bytes_down=10**9,
        requests=500,
        requests_per_minute=60,
        connections=4,
        connections_total=100,
    )


@pytest.mark.parametrize(
    ("text", "host", "ports"),
    [
        ("example.com", "example.com", ((443, 443),)),
        ("*.internal.example:8443", "*.internal.example", ((8443, 8443),)),
        ("**.example.com:80,443", "**.example.com", ((80, 80), (443, 443))),
        ("example.com:8000-8010,80", "example.com", ((80, 80), (8000, 8010))),
        ("192.0.2.7", "192.0.2.7", ((443, 443),)),
        ("[2001:DB8:0::1]:8443", "2001:db8::1", ((8443, 8443),)),
        ("[2001:db8::]/32:443", "2001:db8::/32", ((443, 443),)),
        ("10.0.0.0/8:5432", "10.0.0.0/8", ((5432, 5432),)),
        ("localhost:5432", "localhost", ((5432, 5432),)),
        ("xn--bcher-kva.example", "xn--bcher-kva.example", ((443, 443),)),
        ("_acme.my_bucket.example", "_acme.my_bucket.example", ((443, 443),)),
    ],
)
def test_hosts_and_ports(text: str, host: str, ports: tuple[tuple[int, int], ...]) -> None:
    """Every form of host, normalised, and every form of port list."""
    endpoint = parse_endpoint(text)

    assert (endpoint.host, endpoint.ports) == (host, ports)


@pytest.mark.parametrize(
    ("text", "column", "hint"),
    [
        ("https://api.github.com/x", 1, "api.github.com /x"),
        ("http://a.example/", 1, "a.example:80"),
        ("example.com.", 1, "example.com"),
        ("bücher.example", 1, "xn--bcher-kva.example"),
        ("127.1", 1, "dotted"),
        ("0x7f.0.0.1", 1, "dotted"),
        ("0177.0.0.1", 1, "dotted"),
        ("2130706433", 1, "dotted"),
        ("0x7f000001", 1, "dotted"),
        ("1.2.3.256", 1, "dotted"),
        ("*.1.2.3.4", 1, "dotted"),
        ("[::ffff:127.0.0.1]", 1, "127.0.0.1"),
        ("[fe80::1%eth0]", 1, "interface"),
        ("::1", 1, "brackets"),
        ("10.0.0.1/8", 1, "10.0.0.0/8"),
        ("10.0.0.0/255.0.0.0", 1, "plain number"),
        ("*", 1, "front"),
        ("*.com", 1, "top-level"),
        ("a.*.com", 1, "front"),
        ("exa mple.com", 5, "mple"),
        ("evil@example.com", 1, "host name"),
        ("localhost", 1, "port"),
        ("example.com:", 13, "port"),
        ("example.com:443,99999", 17, "port"),
        ("example.com:90-80", 13, "backwards"),
        ("example.com get", 13, "GET"),
        ("example.com GET,GTE", 17, "GET"),
        ("example.com CONNECT", 13, "method"),
        ("example.com GET /a?b=1", 19, "queries"),
        ("example.com GET /a/../b", 17, "normal"),
        ("example.com GET //a", 17, "normal"),
        ("example.com GET /a%2fb", 19, "decoded"),
        ("example.com GET /a**", 17, "whole segments"),
        ("example.com <=10", 13, "10MB"),
        ("example.com <=10Mb", 13, "MB"),
        ("example.com <=10MB <=20MB", 20, "second"),
        ("example.com <=1.5req", 13, "whole number"),
        ("example.com <=5req up", 13, "does not go"),
        ("example.com 10MB", 13, "method"),
        ("example.com /x GET", 16, "budget"),
        ("", 0, "empty"),
        ("exa\0mple.com", 1, "host name"),
        ("example.com\r\nHost: x", 1, "host name"),
    ],
)
def test_errors_name_the_column(text: str, column: int, hint: str) -> None:
    """A wrong line is refused with the column and a way out."""
    with pytest.raises(PolicyError) as caught:
        parse_endpoint(text)

    told = caught.value.problem + " " + caught.value.hint
    assert hint in told
    assert not column or f"column {column}:" in told


LABEL = st.from_regex(r"[a-z_]([a-z0-9_-]{0,8}[a-z0-9_])?", fullmatch=True)
NAME = st.lists(LABEL, min_size=2, max_size=4).map(".".join)
HOST = st.one_of(
    NAME,
    NAME.map("*.".__add__),
    NAME.map("**.".__add__),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str).filter(lambda one: IPv6Address(one).ipv4_mapped is None),
    st.just("localhost"),
)
SPANS = st.lists(
    st.tuples(st.integers(1, 65535), st.integers(0, 9)).map(
        lambda pair: (pair[0], min(65535, pair[0] + pair[1]))
    ),
    min_size=1,
    max_size=3,
    unique=True,
)
AMOUNT = st.one_of(st.none(), st.integers(0, 1 << 50))
BUDGETS = st.builds(
    Budget,
    bytes_up=AMOUNT,
    bytes_down=AMOUNT,
    bytes_total=AMOUNT,
    requests=AMOUNT,
    requests_per_minute=AMOUNT,
    connections=AMOUNT,
    connections_total=AMOUNT,
)
ENDPOINTS = st.builds(
    Endpoint,
    text=st.just(""),
    host=HOST,
    ports=SPANS.map(lambda spans: tuple(sorted(spans))),
    methods=st.lists(st.sampled_from(METHODS), max_size=3, unique=True).map(tuple),
    path=st.sampled_from(["", "/", "/a/*/b", "/**", "/v*/x.json", "/@a/b;c/~d"]),
    protocol=st.sampled_from(["auto", "tls", "http", "tcp"]),
    ech=st.booleans(),
    budget=BUDGETS,
).filter(lambda one: one.protocol != "tcp" or not (one.methods or one.path))


def written(endpoint: Endpoint) -> str:
    """An endpoint as a line."""
    spans = (f"{low}-{high}" if high > low else str(low) for low, high in endpoint.ports)
    words = [f"{host6(endpoint.host) if ':' in endpoint.host else endpoint.host}:{','.join(spans)}"]
    words += [endpoint.protocol] if endpoint.protocol != "auto" else []
    words += ["ech"] if endpoint.ech else []
    words += [",".join(endpoint.methods)] if endpoint.methods else []
    words += [endpoint.path] if endpoint.path else []
    return " ".join([*words, *budget_words(endpoint.budget)])


@given(ENDPOINTS)
def test_reads_back_what_was_written(endpoint: Endpoint) -> None:
    """Parsing is the inverse of writing, of every part at once."""
    text = written(endpoint)
    assert replace(parse_endpoint(text), text="") == endpoint
    assert parse_budget(" ".join(budget_words(endpoint.budget))) == endpoint.budget


@given(HOST.filter(lambda host: "*" not in host), st.ip_addresses(), st.integers(1, 65535))
def test_reads_back_pins(host: str, address: object, port: int) -> None:
    """A host and port, and the address and port they lead to."""
    if getattr(address, "ipv4_mapped", None) is not None:
        return

    def place(name: str) -> str:
        return f"{host6(name) if ':' in name else name}:{port}"

    pin = parse_pin(f" {place(host)}  = {place(str(address))}")
    assert (pin.host, pin.port, pin.address, pin.to_port) == (host, port, str(address), port)


PIECES = st.sampled_from(
    ["a.example", "*.", "localhost", ":", "443", "80-", "9-1", " ", "  ", "\t", "tls", "tcp", "ech"]
    + ["GET", "GET,", "get", "/", "/a", "/**", "/..", "//", "?", "#", "<=", "<=5", "MB", "req", "req/min"]
    + ["conn", "total", "up", "down", "[::1]", "[", "]", "=", "10.0.0.0/8", "1.2.3.4", "é", "\0", "%", "https://"]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=12).map("".join))


@given(TEXTS, st.sampled_from([parse_endpoint, parse_denial, parse_pin, parse_budget]))
def test_any_text_is_read_or_refused(text: str, parse: Callable[[str], object]) -> None:
    """No input raises anything but `PolicyError`, and its column is in the text or at its end."""
    try:
        found = parse(text)
    except PolicyError as error:
        column = re.match(r"column ([0-9]+): ", error.problem)
        assert column
        assert 1 <= int(column[1]) <= len(text) + 1
        return

    if isinstance(found, Endpoint):
        assert found.host.isascii()
        assert found.host == parse_host(host6(found.host) if ":" in found.host else found.host)


def test_a_line_has_an_end() -> None:
    """What is longer than a rule can be is refused at the first character too many."""
    for parse in (parse_endpoint, parse_denial, parse_pin, parse_budget):
        with pytest.raises(PolicyError, match=f"column {LENGTH_MAX + 1}:"):
            parse("a" * (LENGTH_MAX + 1))


def host6(host: str) -> str:
    """An IPv6 host as a rule writes it."""
    address, slash, length = host.partition("/")
    return f"[{address}]{slash}{length}"


def test_budget_alone() -> None:
    """`network.total` is budgets without a host."""
    assert parse_budget("<=50MB up <=1GB down <=5000req <=64conn") == Budget(
        bytes_up=50_000_000, bytes_down=10**9, requests=5000, connections=64
    )


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        ("*.a.example", "x.a.example", True),
        ("*.a.example", "a.example", False),
        ("**.a.example", "a.example", True),
        ("*.a.example", "**.a.example", False),
        ("*.a.example", "**.x.a.example", True),
        ("*.a.example", "evila.example", False),
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.0.0.0/8", "11.0.0.1", False),
        ("10.0.0.0/8", "a.example", False),
        ("a.example:1-100", "a.example:80,90", True),
        ("a.example:80", "a.example:79-80", False),
        ("a.example GET", "a.example", False),
        ("a.example", "a.example GET", True),
        ("a.example GET,POST", "a.example GET", True),
        ("a.example /x/**", "a.example /x/y", True),
        ("a.example /x/**", "a.example /xy", False),
        ("a.example /x/**", "a.example", False),
        ("a.example /**", "a.example", False),
        ("a.example", "a.example <=5req", True),
    ],
)
def test_covers(outer: str, inner: str, expected: bool) -> None:
    """A rule covers another only if it surely allows all of it."""
    assert covers(parse_endpoint(outer), parse_endpoint(inner)) is expected
