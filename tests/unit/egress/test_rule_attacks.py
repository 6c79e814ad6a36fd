"""Ways past a rule that a naive reading of it leaves open, and what holds for every rule."""

from __future__ import annotations

import asyncio
import timeit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.egress.model import Target
from casemate.egress.paths import matches, readings
from casemate.egress.registration import network_as_json, network_from_json, secrets_from_json
from casemate.egress.rules import Rules, Spoken
from casemate.egress.upstream import choose
from casemate.errors import PolicyError, RefusedError
from casemate.policy.endpoints import parse_denial, parse_endpoint, parse_pin
from casemate.policy.model import Endpoint, Network, Origin, Secret

HOST = "a.example"


def rules(*allow: str, deny: tuple[str, ...] = ()) -> Rules:
    return Rules(
        Network(allow=tuple(map(parse_endpoint, allow)), deny=tuple(map(parse_denial, deny)))
    )


def verdict(found: Rules, method: str, path: str, spoken: Spoken = "tls", port: int = 443) -> str:
    """ "allowed", or the code of the refusal."""
    try:
        found.connection(Target(HOST, port))
        found.request(Target(HOST, port), method, path, spoken)
    except RefusedError as error:
        return error.code
    return "allowed"


@pytest.mark.parametrize(
    "path",
    ["/admin", "/admin/", "/admin/x", "/ADMIN/x", "/Admin", "/%61dmin/x", "/admin;v=1/x"]
    + ["/admin%3bv/x", "/admin%2fx", "/admin?x", "/%41DMIN%2Fx"],
)
def test_a_denied_path_by_another_spelling(path: str) -> None:
    """Servers answer them all alike, so a comparison with the text as sent is not enough."""
    assert verdict(rules(HOST), "GET", path) == "allowed"
    found = rules(HOST, deny=(f"{HOST} /admin/**",))
    assert verdict(found, "GET", path) == "denied"
    assert verdict(found, "GET", "/administration") == "allowed"


@pytest.mark.parametrize(
    "path", ["/x/../admin", "/x//admin", "/%2e/admin", "/\\admin", "/%252fadmin"]
)
def test_a_path_of_no_one_meaning_is_not_let_past_a_denied_one(path: str) -> None:
    """What it leads to is the server's guess, so it is refused, and no line would allow it."""
    assert verdict(rules(HOST), "GET", path) == "allowed"
    with pytest.raises(RefusedError) as caught:
        rules(HOST, deny=(f"{HOST} /admin/**",)).request(Target(HOST, 443), "GET", path, "tls")
    assert (caught.value.code, caught.value.allow) == ("path", "")


def test_a_denied_method_in_small_letters() -> None:
    """Methods differ by case, and some servers do not care."""
    found = rules(HOST, deny=(f"{HOST} DELETE",))
    assert verdict(found, "delete", "/x") == "denied"
    assert verdict(rules(f"{HOST} DELETE"), "delete", "/x") == "method"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/npm/@types%2fnode", "allowed"),
        ("/npm%2fx", "path"),
        ("/other%2f..%2fnpm/x", "path"),
        ("/npm/x;v=1", "allowed"),
        ("/npm;/x", "path"),
        ("*", "path"),
    ],
)
def test_every_reading_must_be_allowed(path: str, expected: str) -> None:
    """Encoded slashes and parameters are read in two ways; one allowed way is not enough."""
    assert verdict(rules(f"{HOST} GET /npm/**"), "GET", path) == expected


def test_the_server_as_a_whole_is_no_path() -> None:
    """`OPTIONS *` is for all of a server, so a rule for a part of it does not allow it."""
    assert verdict(rules(f"{HOST} /"), "OPTIONS", "*") == "path"
    assert verdict(rules(f"{HOST} OPTIONS /**"), "OPTIONS", "*") == "allowed"


def test_a_rule_is_for_what_it_says_is_spoken() -> None:
    """A rule for TLS allows no plain request, even beside one that allows a few of them."""
    found = rules(f"{HOST}:8080 tls", f"{HOST}:8080 http GET /x")
    assert verdict(found, "GET", "/x", "http", 8080) == "allowed"
    assert verdict(found, "POST", "/other", "http", 8080) == "method"
    assert verdict(found, "POST", "/other", "tls", 8080) == "allowed"
    assert verdict(rules(HOST), "GET", "/", "http", 443) == "protocol"
    with pytest.raises(RefusedError) as caught:
        rules(HOST).connection(Target(HOST, 443)).speaking("http")
    line = caught.value.allow.split('"')[1]
    assert rules(HOST, line).connection(Target(HOST, 443)).speaking("http").rules


def test_nothing_passes_unseen_where_requests_are_denied() -> None:
    """A denied request could be sent as bytes that do not look like one, even under `tcp`."""
    target = Target(HOST, 8080)
    for word in ("", " tcp"):
        assert rules(f"{HOST}:8080{word}").connection(target).opaque_rule is not None
        scope = rules(f"{HOST}:8080{word}", deny=(f"{HOST} DELETE",)).connection(target)
        assert scope.inspect
        assert not scope.anything
        assert scope.opaque_rule is None


def test_own_credentials_only_means_unseen_bytes_only_by_name() -> None:
    """What is not looked into may hold another credential, unless a rule says `tcp`."""
    secret = Secret(name="KEY", to=(HOST,), own_only=True)
    for allow, passes in ((f"{HOST}:22", False), (f"{HOST}:22 tcp", True)):
        network = Network(allow=(parse_endpoint(allow),))
        scope = Rules(network, [secret]).connection(Target(HOST, 22)).speaking("tcp")
        assert (scope.opaque_rule is not None) is passes
    travelled = secrets_from_json([{"name": "KEY", "to": [HOST], "own_only": True}])
    assert travelled == (secret,)


def test_a_denial_is_for_every_port() -> None:
    """Unless it names some; and it travels to the broker as what it is."""
    network = Network(
        allow=(parse_endpoint(f"{HOST}:80,443"),),
        deny=(parse_denial(HOST, reason="no", origin=Origin("f", 3, "network.deny[0]")),),
    )
    assert network_from_json(network_as_json(network)) == network
    with pytest.raises(RefusedError) as caught:
        Rules(network).connection(Target(HOST, 80))
    assert "no" in caught.value.message
    assert "f:3" in caught.value.rule
    assert verdict(rules(f"{HOST}:80,443", deny=(f"{HOST}:80",)), "GET", "/") == "allowed"
    for text in (f"{HOST} <=5req", f"{HOST} tcp", f"{HOST} GET tls", f"{HOST} /x <=1MB"):
        with pytest.raises(PolicyError, match="column"):
            parse_denial(text)
    assert parse_denial("localhost").ports == ((1, 65535),)


@pytest.mark.parametrize(
    ("allow", "host", "denied"),
    [
        (("10.0.0.0/8", "n.example"), "n.example", "10.0.0.5"),
        (("n.example",), "n.example", "203.0.114.0/24"),
        (("n.example", "pin"), "n.example", "127.0.0.1"),
        (("localhost:443",), "localhost", "127.0.0.0/8"),
    ],
)
def test_a_denied_address_behind_an_allowed_name(
    allow: tuple[str, ...], host: str, denied: str
) -> None:
    """A name that leads to a denied address is let through by its name alone, and refused."""
    answer = "10.0.0.5" if "10.0.0.0/8" in allow else "203.0.114.9"

    async def lookup(_host: str, _port: int) -> list[str]:
        return [answer]

    def network(deny: tuple[Endpoint, ...]) -> Network:
        pins = (parse_pin("n.example = 127.0.0.1"),) if "pin" in allow else ()
        listed = tuple(parse_endpoint(text) for text in allow if text != "pin")
        return Network(allow=listed, deny=deny, resolve=pins)

    target = Target(host, 443)
    assert asyncio.run(choose(Rules(network(())), target, lookup))
    denials = (parse_denial(denied), parse_denial("[::1]"))
    with pytest.raises(RefusedError) as caught:
        asyncio.run(choose(Rules(network(denials)), target, lookup))
    assert caught.value.code == "denied"


@pytest.mark.parametrize("where", ["allow", "deny", "secret"])
def test_a_host_cannot_be_closed_and_looked_into(where: str) -> None:
    """The error names both sides, with the file and line of the one that needs to see."""
    origin = Origin("policy.toml", 7, "network.allow[0]")
    network = Network(
        allow=(parse_endpoint(f"{HOST} GET", origin=origin),) if where == "allow" else (),
        deny=(parse_denial(f"{HOST} GET", origin=origin),) if where == "deny" else (),
        opaque=("**.a.example",),
    )
    secrets = [Secret(name="KEY", to=(HOST,), origin=origin)] if where == "secret" else []
    with pytest.raises(PolicyError) as caught:
        Rules(network, secrets)
    assert 'network.opaque = ["**.a.example"]' in str(caught.value)
    assert ("KEY" if where == "secret" else f"{HOST} GET") in str(caught.value)
    assert (caught.value.path, caught.value.line) == ("policy.toml", 7)


PATHS = st.text(alphabet="ab/.;%2fFeE*?\\ ~é", max_size=12).map("/".__add__)
METHODS = st.sampled_from(["GET", "POST", "DELETE", "OPTIONS"])
PATTERNS = st.sampled_from(["", " /a", " /a/**", " /a/*", " /**/b", " /a*b", " /"])
PORTS = st.sampled_from([80, 443, 8080])
SPOKEN = st.sampled_from(["tls", "http"])
WORDS = st.sampled_from(["", " tls", " http"])
LINES = st.builds(
    lambda port, word, methods, pattern: f"{HOST}:{port}{word}{methods}{pattern}",
    PORTS,
    WORDS,
    st.sampled_from(["", " GET", " GET,POST"]),
    PATTERNS,
)


@given(st.lists(LINES, max_size=3), METHODS, PATHS, SPOKEN, PORTS)
def test_the_line_that_would_allow_it(
    allow: list[str], method: str, path: str, spoken: Spoken, port: int
) -> None:
    """Every refusal but a denial names a line; with that line added the request is allowed."""
    target = Target(HOST, port)
    try:
        rules(*allow).request(target, method, path, spoken)
    except RefusedError as error:
        line = error.allow.removeprefix('network.allow = ["').removesuffix('"]')
        assert error.code in ("host", "port", "protocol", "method", "path")
        rules(*allow, line).request(target, method, path, spoken)


@given(st.lists(LINES, max_size=3), LINES, METHODS, PATHS, SPOKEN, PORTS)
def test_another_rule_never_takes_away(
    allow: list[str], more: str, method: str, path: str, spoken: Spoken, port: int
) -> None:
    """Whatever is spoken and however the path is spelled, wherever the rule is added."""
    if verdict(rules(*allow), method, path, spoken, port) == "allowed":
        assert verdict(rules(*allow, more), method, path, spoken, port) == "allowed"
        assert verdict(rules(more, *allow), method, path, spoken, port) == "allowed"


@given(PATTERNS.filter(bool), METHODS, PATHS)
def test_what_a_path_allows_its_denial_denies(pattern: str, method: str, path: str) -> None:
    """A rule turned round refuses all that it allowed."""
    if verdict(rules(HOST + pattern), method, path) == "allowed":
        denied = rules(HOST + pattern, HOST, deny=(HOST + pattern,))
        assert verdict(denied, method, path) == "denied"


@given(PATHS)
def test_readings_hold_no_way_out(path: str) -> None:
    """No reading has a segment that leads elsewhere, and decoding it again changes no structure."""
    try:
        found = readings(path.partition("?")[0])
    except RefusedError:
        return
    for reading in found:
        inner = reading[1:].split("/")
        assert not {".", ".."} & {segment.partition(";")[0] for segment in inner}
        assert "" not in inner[:-1]
        assert matches("/**", reading)


@given(st.lists(st.sampled_from(["*.a.example", "**.a.example"]), max_size=2), st.booleans())
def test_a_wildcard_and_its_base(hosts: list[str], below: bool) -> None:
    """`*.` is for what is below alone, `**.` for the name as well; neither for an address."""
    found = rules(*hosts)
    place = Target("b.a.example" if below else HOST, 443)
    expected = bool(hosts) if below else "**.a.example" in hosts
    try:
        found.connection(place)
        allowed = True
    except RefusedError:
        allowed = False
    assert allowed is expected
    with pytest.raises(RefusedError):
        found.connection(Target("192.0.2.1", 443))


def test_five_hundred_rules_within_fifty_microseconds() -> None:
    """A decision about a connection or a request looks at the rules of its host alone."""
    many = [f"host{number}.example GET /v1/**" for number in range(200)]
    many += [f"*.zone{number}.example" for number in range(200)]
    many += [f"198.51.{number}.0/24" for number in range(100)]
    found = rules(*many, deny=tuple(f"bad{number}.example" for number in range(100)))
    deep, host = Target("a.b.c.zone199.example", 443), Target("host199.example", 443)

    def cost(decide: object) -> float:
        return min(timeit.repeat(decide, number=100, repeat=7)) / 100  # type: ignore[arg-type]

    assert cost(lambda: found.connection(deep)) < 50e-6
    assert cost(lambda: found.request(host, "GET", "/v1/x/y?z", "tls")) < 50e-6
