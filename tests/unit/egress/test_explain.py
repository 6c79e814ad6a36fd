"""`casemate why URL`: the rule that decides, what becomes of the connection, and the way on."""

from __future__ import annotations

import json

import pytest

from casemate.egress.explain import Explanation, explain
from casemate.errors import CasemateError, UsageError
from casemate.policy.endpoints import parse_budget, parse_denial, parse_endpoint, parse_pin
from casemate.policy.model import Network, Origin, Secret

NETWORK = Network(
    allow=(
        parse_endpoint(
            "api.example GET /v1/** <=5MB down <=9req", origin=Origin("casemate.toml", 4)
        ),
        parse_endpoint("web.example:80,443,8443", reason="docs"),
        parse_endpoint("pinned.example"),
    ),
    deny=(
        parse_denial("web.example POST", reason="no uploads", origin=Origin("casemate.toml", 9)),
    ),
    total=parse_budget("<=50MB"),
    opaque=("pinned.example",),
    resolve=(parse_pin("pinned.example = 127.0.0.1:9443", origin=Origin("casemate.toml", 12)),),
)
SECRETS = (Secret(name="KEY", to=("**.api.example",)),)


def asked(text: str, method: str = "") -> Explanation:
    return explain(NETWORK, SECRETS, text, method)


def test_an_allowed_request() -> None:
    """Rule, place, inspection, secrets, and every budget that counts."""
    text = asked("https://api.example/v1/x?q=1").as_text()
    assert "GET https://api.example/v1/x?q=1 is allowed" in text
    assert '"api.example GET /v1/** <=5MB down <=9req" (casemate.toml:4)' in text
    assert "looked into" in text
    assert "put in there: KEY" in text
    assert "<=5MB down of" in text
    assert "<=9req of" in text
    assert "<=50MB of network.total" in text


@pytest.mark.parametrize(
    ("text", "method", "code", "allow"),
    [
        ("https://api.example/v2", "", "path", "api.example:443 GET /v2"),
        ("https://api.example/v1/x", "PUT", "method", "api.example:443 PUT /v1/x"),
        ("https://new.example/a/b?c", "POST", "host", "new.example:443 POST /a/b"),
        ("new.example:99", "", "host", "new.example:99"),
        ("ssh://web.example", "", "port", "web.example:22"),
        ("http://api.example:443/v1/x", "", "protocol", "api.example:443 http"),
        ("https://[2001:db8::1]/", "", "host", "[2001:db8::1]:443 GET /"),
    ],
)
def test_a_refusal_and_its_line(text: str, method: str, code: str, allow: str) -> None:
    """The exact line, which can be read as a rule."""
    found = asked(text, method)
    assert (found.allowed, found.code) == (False, code)
    assert found.allow == f'network.allow = ["{allow}"]'
    parse_endpoint(allow)
    assert json.loads(json.dumps(found.as_json()))["allow"] == found.allow


def test_a_denial() -> None:
    """The rule that denies, with its place and reason, and no line."""
    found = asked("https://web.example/x", "POST")
    assert (found.code, found.allow) == ("denied", "")
    assert "no uploads" in found.note
    assert "casemate.toml:9" in found.rule
    assert asked("https://web.example/x").allowed


def test_a_host_that_stays_closed() -> None:
    """Opaque and pinned hosts say so."""
    found = asked("pinned.example:443")
    assert found.opaque
    assert not found.inspected
    assert "127.0.0.1:9443 (casemate.toml:12)" in found.as_text()
    assert "network.opaque" in found.as_text()


@pytest.mark.parametrize(
    ("text", "method"),
    [
        ("gopher://a.example", ""),
        ("https://a.example:0/", ""),
        ("https://a.example:99999/", ""),
        ("https://user@a.example/", ""),
        ("https://127.1/", ""),
        ("https:///x", ""),
        ("a.example:443", "BREW"),
        ("ssh://a.example/x", ""),
        ("https://a\x1b[2J/", ""),
    ],
)
def test_what_is_no_place(text: str, method: str) -> None:
    """An error, not an answer, and nothing in it that a terminal obeys."""
    with pytest.raises(CasemateError) as caught:
        asked(text, method)
    assert "\x1b" not in caught.value.as_text()


def test_what_a_client_would_escape() -> None:
    """A path as a person writes it is judged as a client would send it."""
    assert asked("https://api.example/v1/ä b").allowed
    assert asked("https://api.example?x=/v1/").code == "path"
    with pytest.raises(UsageError):
        asked("ssh://web.example:22", "GET")
