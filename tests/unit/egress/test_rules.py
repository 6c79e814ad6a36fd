"""Rules: deny beats allow, empty means nothing, and a refusal says what would allow it."""

from __future__ import annotations

import timeit
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.egress.model import Target
from casemate.egress.paths import matches, readings
from casemate.egress.rules import Rules
from casemate.errors import PolicyError, RefusedError
from casemate.policy.endpoints import covers, parse_denial, parse_endpoint, parse_pin
from casemate.policy.model import Endpoint, Network, Secret


def rules(*allow: str, deny: tuple[str, ...] = (), opaque: tuple[str, ...] = ()) -> Rules:
    return Rules(
        Network(
            allow=tuple(map(parse_endpoint, allow)),
            deny=tuple(map(parse_denial, deny)),
            opaque=opaque,
        )
    )


def refusal(found: Rules, host: str, port: int = 443) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        found.connection(Target(host, port))
    return caught.value


def test_e20_empty_means_nothing() -> None:
    """Without a rule nothing is allowed, and the refusal carries the line that would allow it."""
    error = refusal(rules(), "api.example.com", 8443)
    assert error.code == "host"
    assert error.allow == 'network.allow = ["api.example.com:8443"]'
    line = error.allow.split('"')[1]
    rules(line).connection(Target("api.example.com", 8443))


@pytest.mark.parametrize(
    ("rule", "inside", "outside"),
    [
        ("a.example", ["a.example"], ["b.a.example", "xa.example", "a.example.evil.example"]),
        ("*.a.example", ["b.a.example", "c.b.a.example"], ["a.example", "xa.example"]),
        ("**.a.example", ["a.example", "b.a.example"], ["xa.example", "a.example.b"]),
        ("192.0.2.7", ["192.0.2.7"], ["192.0.2.8", "7.2.0.192.in-addr.arpa"]),
        ("192.0.2.0/24", ["192.0.2.1"], ["192.0.3.1", "a192.0.2.1.example", "2001:db8::1"]),
        ("[2001:db8::]/32", ["2001:db8::1"], ["2001:db9::1", "192.0.2.1"]),
    ],
)
def test_e23_hosts(rule: str, inside: list[str], outside: list[str]) -> None:
    """A rule is for whole labels or whole addresses: nothing that merely ends or begins alike."""
    found = rules(rule)
    for host in inside:
        assert found.connection(Target(host, 443)).rules
    for host in outside:
        assert refusal(found, host).code == "host"


def test_ports() -> None:
    """Another port of an allowed host is refused by that name."""
    found = rules("a.example:80,8000-8010")
    assert found.connection(Target("a.example", 8005)).rules
    error = refusal(found, "a.example", 443)
    assert error.code == "port"
    assert "a.example:80" in error.rule


def test_deny_beats_allow() -> None:
    """However the rules are ordered; a denied request leaves the rest of the host alone."""
    found = rules("**.a.example", deny=("b.a.example", "a.example DELETE /x/**"))
    assert refusal(found, "b.a.example").code == "denied"
    assert refusal(found, "b.a.example").allow == ""
    target = Target("a.example", 443)
    assert found.connection(target).inspect
    assert found.request(target, "GET", "/x/y", "tls").text == "**.a.example"
    with pytest.raises(RefusedError, match="denied"):
        found.request(target, "DELETE", "/x/y", "tls")


def test_requests() -> None:
    """Methods and paths decide about each request, and the refusal names the smallest rule."""
    found = rules("api.example.com GET /repos/**", "api.example.com POST /repos/*/issues")
    target = Target("api.example.com", 443)
    assert found.connection(target).inspect
    assert found.request(target, "GET", "/repos/a/b?c=/../d", "tls").methods == ("GET",)
    assert found.request(target, "POST", "/repos/a/issues", "tls").methods == ("POST",)
    with pytest.raises(RefusedError) as caught:
        found.request(target, "POST", "/repos/a/b/issues", "tls")
    assert caught.value.code == "path"
    assert caught.value.allow == 'network.allow = ["api.example.com:443 POST /repos/a/b/issues"]'
    with pytest.raises(RefusedError) as caught:
        found.request(target, "DELETE", "/repos/a", "tls")
    assert caught.value.code == "method"


@pytest.mark.parametrize(
    "path",
    [
        "/repos/../user",
        "/repos/%2e%2e/user",
        "/repos/%c0%ae%c0%ae/user",
        "/repos/.%2E/user",
        "/repos//user",
        "/repos/./x",
    ]
    + ["/repos/..%2fuser", "/repos/%2F/x", "/repos/..;x/user", "/repos/;x/user", "/repos\\..\\user"]
    + ["/repos/%5c..%5cuser", "/repos/%", "/repos/%zz", "/repos/%00", "/repos/%252e%252e/user"]
    + ["repos/x", "", "/repos/%0d%0aHost:x"],
)
def test_paths_that_servers_read_differently(path: str) -> None:
    """A comparison of prefixes lets them pass; a server that resolves them answers elsewhere."""
    found = rules("api.example.com GET /repos/**")
    with pytest.raises(RefusedError) as caught:
        found.request(Target("api.example.com", 443), "GET", path, "tls")
    assert caught.value.code == "path"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("/a/*", "/a/b", True),
        ("/a/*", "/a/b/c", False),
        ("/a/**", "/a", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/a/**/z", "/a/z", True),
        ("/a/**/z", "/a/b/c/z", True),
        ("/a/**/z", "/a/b/c", False),
        ("/v*/x.json", "/v1/x.json", True),
        ("/v*/x.json", "/v1/xyjson", False),
        ("/a*b*c", "/aXbYc", True),
        ("/a*b*c", "/aXcYb", False),
        ("/**", "/", True),
        ("/A", "/a", False),
    ],
)
def test_patterns(pattern: str, path: str, expected: bool) -> None:
    """One star within a segment, two for whole segments, and nothing else is special."""
    assert matches(pattern, path) is expected


def test_a_hostile_path_cannot_blow_up_the_search() -> None:
    """The time of a match grows with the product of the lengths, not beyond."""
    path = "/a" * 5000
    pattern = "/**/a/**/a/**/a/**/b"
    assert min(timeit.repeat(lambda: matches(pattern, path), number=1, repeat=3)) < 1
    assert not matches("/" + "a*" * 40 + "b", "/" + "a" * 3000)


def test_escapes_mean_what_they_stand_for() -> None:
    """An escaped letter is the letter."""
    assert readings("/%61%20b") == ("/a b",)
    assert rules("a.example GET /abc").request(Target("a.example", 443), "GET", "/%61bc", "tls")


def test_inspection_only_where_it_is_needed() -> None:
    """Plain rules leave TLS closed; methods, request budgets and secrets open it."""
    target = Target("a.example", 443)
    assert not rules("a.example <=1MB").connection(target).inspect
    assert rules("a.example <=5req").connection(target).inspect
    secret = Secret(name="KEY", to=("*.example",))
    network = Network(allow=(parse_endpoint("a.example"),))
    assert Rules(network, [secret]).connection(target).inspect
    mixed = rules("a.example GET", "a.example tls ech").connection(target)
    assert mixed.opaque_rule is not None
    assert mixed.ech


def test_opaque_hosts() -> None:
    """A host that is never looked into cannot have rules or secrets that need it."""
    with pytest.raises(PolicyError):
        rules("a.example GET", opaque=("*.example",))
    with pytest.raises(PolicyError):
        Rules(Network(opaque=("a.example",)), [Secret(name="KEY", to=("a.example",))])
    found = rules("**.a.example GET", opaque=("b.a.example",))
    assert refusal(found, "b.a.example").code == "opaque"
    assert (
        not rules("a.example", opaque=("a.example",)).connection(Target("a.example", 443)).inspect
    )


def test_pins_and_listed_addresses() -> None:
    """A pin names the address of one host and port; rules may list an address that is private."""
    pin = parse_pin("a.example:443 = 127.0.0.1:8443")
    assert (pin.host, pin.port, pin.address, pin.to_port) == ("a.example", 443, "127.0.0.1", 8443)
    assert parse_pin("a.example = 192.0.2.1").to_port == 443
    assert parse_pin("a.example = [::1]:5").address == "::1"
    found = Rules(Network(allow=(parse_endpoint("10.0.0.0/8:443"),), resolve=(pin,)))
    assert found.pin(Target("a.example", 443)) == pin
    assert found.pin(Target("a.example", 80)) is None
    assert found.lists_address(Target("a.example", 443), "10.1.2.3")
    assert not found.lists_address(Target("a.example", 80), "10.1.2.3")


@pytest.mark.parametrize(
    "text",
    ["", "a", "a =", "= 1.2.3.4", "a.b:1-2 = 1.2.3.4", "*.a.b = 1.2.3.4", "a.b = c.d", "a.b = ::1"],
)
def test_pins_that_make_no_sense(text: str) -> None:
    """One host, one port, one address."""
    with pytest.raises(PolicyError):
        parse_pin(text)


HOSTS = st.sampled_from(["a.example", "b.a.example", "*.a.example", "**.a.example", "c.example"])
SOME = st.lists(
    st.builds(
        lambda host, methods, path: Endpoint(text=host, host=host, methods=methods, path=path),
        HOSTS,
        st.sampled_from([(), ("GET",), ("GET", "POST")]),
        st.sampled_from(["", "/x", "/x/**", "/*"]),
    ),
    max_size=5,
)
PLACES = st.sampled_from(["a.example", "b.a.example", "c.example", "d.example"])
REQUESTS = st.tuples(
    PLACES, st.sampled_from(["GET", "POST"]), st.sampled_from(["/x", "/x/y", "/z"])
)


def allowed(allow: list[Endpoint], deny: list[Endpoint], request: tuple[str, str, str]) -> bool:
    found = Rules(Network(allow=tuple(allow), deny=tuple(deny)))
    host, method, path = request
    try:
        found.connection(Target(host, 443))
        found.request(Target(host, 443), method, path, "tls")
    except RefusedError:
        return False
    return True


@given(SOME, SOME, SOME, REQUESTS)
def test_more_rules(
    allow: list[Endpoint], more: list[Endpoint], deny: list[Endpoint], request: tuple[str, str, str]
) -> None:
    """Allowing more never takes away, denying more never gives, nothing denied is ever allowed."""
    if allowed(allow, deny, request):
        assert allowed([*more, *allow], deny, request)
        assert allowed(allow, [], request)
        assert not allowed(allow, [*deny, Endpoint(text="", host=request[0])], request)
    assert not allowed([], deny, request)


@given(SOME, REQUESTS)
def test_covering_rules(endpoints: list[Endpoint], request: tuple[str, str, str]) -> None:
    """A rule that covers another allows all that the other does."""
    for outer in endpoints:
        for inner in endpoints:
            if covers(outer, inner) and allowed([inner], [], request):
                assert allowed([outer], [], request)


def test_many_rules_decide_fast() -> None:
    """Five hundred rules cost no more than a few."""
    many = [parse_endpoint(f"host{number}.example") for number in range(250)]
    many += [parse_endpoint(f"*.zone{number}.example") for number in range(250)]
    few, found = Rules(Network(allow=tuple(many[-2:]))), Rules(Network(allow=tuple(many)))
    target = Target("a.b.c.zone249.example", 443)

    def cost(one: Rules) -> float:
        return min(timeit.repeat(lambda: one.connection(target), number=200, repeat=5))

    assert cost(found) < 5 * cost(few)


def test_words_of_the_grammar() -> None:
    """The words for what is spoken stand after the port, and narrow."""
    assert parse_endpoint("a.example:22 tcp").protocol == "tcp"
    assert parse_endpoint("a.example tls ech <=1MB").ech
    assert parse_endpoint("a.example:8080 http GET /x").methods == ("GET",)
    for text in ("a.example tcp GET", "a.example tls tcp", "a.example ech ech", "a.example udp"):
        with pytest.raises(PolicyError):
            parse_endpoint(text)
    plain = parse_endpoint("a.example")
    assert covers(plain, replace(plain, protocol="tls"))
    assert not covers(plain, replace(plain, protocol="tcp"))
    assert not covers(plain, replace(plain, ech=True))
