"""The grammar of network lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import PolicyError
from casemate.policy.endpoints import METHODS, covers, parse_budget, parse_endpoint
from casemate.policy.hosts import parse_host
from casemate.policy.model import Budget
from casemate.policy.units import format_size


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


HOST = st.sampled_from(["a.example", "*.a.example", "**.b.example", "192.0.2.1", "[2001:db8::1]"])
PORTS = st.lists(st.integers(1, 65535), max_size=3).map(lambda ports: ",".join(map(str, ports)))


@given(
    HOST,
    PORTS,
    st.lists(st.sampled_from(METHODS), max_size=3, unique=True),
    st.sampled_from(["", "/", "/a/*/b", "/**"]),
    st.one_of(st.none(), st.integers(0, 1 << 50)),
    st.one_of(st.none(), st.integers(0, 10**9)),
)
def test_reads_back_what_was_written(
    host: str, ports: str, methods: list[str], path: str, size: int | None, requests: int | None
) -> None:
    """Parsing is the inverse of writing."""
    words = [host + (f":{ports}" if ports else ""), ",".join(methods), path]
    words.append("" if size is None else f"<={format_size(size)}")
    words.append("" if requests is None else f"<={requests}req")
    endpoint = parse_endpoint(" ".join(word for word in words if word))

    wanted = sorted({int(port) for port in ports.split(",") if port} or {443})
    assert endpoint.host == host.strip("[]")
    assert endpoint.ports == tuple((port, port) for port in wanted)
    assert endpoint.methods == tuple(methods)
    assert endpoint.path == path
    assert endpoint.budget == Budget(bytes_total=size, requests=requests)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No input raises anything but `PolicyError`, and what is accepted is plain ASCII."""
    try:
        endpoint = parse_endpoint(text)
    except PolicyError:
        return

    assert endpoint.host.isascii()
    assert endpoint.host == parse_host(
        endpoint.host if ":" not in endpoint.host else host6(endpoint.host)
    )


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
    ],
)
def test_covers(outer: str, inner: str, expected: bool) -> None:
    """A rule covers another only if it surely allows all of it."""
    assert covers(parse_endpoint(outer), parse_endpoint(inner)) is expected
