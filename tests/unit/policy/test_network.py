"""The keys of `[network]`: who may say them, and what a layer below may still take away."""

from __future__ import annotations

import pytest

from casemate.errors import PolicyError
from casemate.policy.layers import Loaded, Ranked, combine
from casemate.policy.model import Network
from casemate.policy.reader import Layer, read

GRANTS = [
    ("allow", '["evil.example"]'),
    ("resolve", '["api.example:443 = 127.0.0.1:9443"]'),
    ("trust", '["/evil.pem"]'),
    ("opaque", '["api.example"]'),
    ("indexes", '["python"]'),
]


def layer(text: str, source: str, locked: str = "") -> Layer:
    lines = f"version = 1\nlocked = [{locked}]\n[network]\n{text}"
    return read(lines.encode(), source=source, base="/base")


def stranger(text: str) -> Ranked:
    return Ranked(layer(text, "stranger"), trusted=False)


def said(network: Network, key: str) -> int:
    return len(getattr(network, key))


@pytest.mark.parametrize(("key", "value"), GRANTS)
def test_what_gives_is_only_for_the_trusted(key: str, value: str) -> None:
    """A user may say it; the same line of an untrusted project or below a lock says nothing, and
    is told with its place."""
    line = f"{key} = {value}"
    assert said(combine([Ranked(layer(line, "user"))]).policy.network, key) == 1
    untrusted = combine([stranger(line)])
    below = combine([Ranked(layer("", "org", f'"network.{key}"')), Ranked(layer(line, "user"))])
    for loaded in (untrusted, below):
        assert said(loaded.policy.network, key) == 0
        assert [notice.origin.line for notice in loaded.notices] == [4]


def test_an_untrusted_pin_does_not_move_a_trusted_one() -> None:
    """Where a host's connections go stays what the user said, port for port."""
    own = Ranked(layer('resolve = ["a.example = 127.0.0.1:9443"]', "user"))
    loaded = combine([own, stranger('resolve = ["a.example = 127.0.0.1:9444"]')])
    assert [pin.to_port for pin in loaded.policy.network.resolve] == [9443]
    assert "127.0.0.1:9444" in loaded.notices[0].message


def test_everybody_may_deny() -> None:
    """Denying takes away, so the least trusted layer may, and no later one takes it back."""
    loaded = combine(
        [
            Ranked(layer('allow = ["a.example"]\ndeny = ["x.example"]', "user", '"network"')),
            stranger('deny = [{ rule = "a.example POST", reason = "no uploads" }]'),
        ]
    )
    assert [rule.text for rule in loaded.policy.network.deny] == ["x.example", "a.example POST"]
    assert loaded.policy.network.deny[1].reason == "no uploads"
    assert not loaded.notices


def test_a_total_is_only_lowered_by_a_stranger() -> None:
    """Each kind of budget apart."""
    loaded: Loaded = combine(
        [Ranked(layer('total = "<=5MB <=10req"', "user")), stranger('total = "<=1MB <=20req"')]
    )
    total = loaded.policy.network.total
    assert (total.bytes_total, total.requests) == (10**6, 10)
    assert len(loaded.notices) == 1


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('deny = ["a.example <=5req"]', "column 11"),
        ('deny = [{ reason = "why" }]', "rule is missing"),
        ('opaque = ["10.0.0.0/8"]', "not networks"),
        ('resolve = ["a.example = b.example"]', "column 13"),
        ('trust = ["~other/x.pem"]', "own home"),
    ],
)
def test_mistakes_are_named(text: str, hint: str) -> None:
    """With file, line and column."""
    with pytest.raises(PolicyError, match=hint) as caught:
        layer(text, "casemate.toml")
    assert caught.value.line == 4
    assert caught.value.path == "casemate.toml"
