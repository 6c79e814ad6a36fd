"""Which package indexes the user's own tools use: read from their configuration, never guessed."""

from __future__ import annotations

import pytest
from tests.support.fake_host import FakeHost

from casemate.plan.indexes import ECOSYSTEMS, find
from casemate.policy.model import INDEXES


@pytest.mark.parametrize(
    ("name", "files", "environment", "rules", "variables"),
    [
        (
            "python",
            {"/home/u/.config/pip/pip.conf": b"[global]\nindex-url = https://i.example/simple\n"},
            {},
            ["i.example:443 GET,HEAD"],
            {
                "PIP_INDEX_URL": "https://i.example/simple",
                "UV_DEFAULT_INDEX": "https://i.example/simple",
            },
        ),
        (
            "python",
            {},
            {"PIP_INDEX_URL": "http://i.example:8080/x"},
            ["i.example:8080 http GET,HEAD"],
            {"PIP_INDEX_URL": "http://i.example:8080/x", "UV_DEFAULT_INDEX": "http://i.example:8080/x"},
        ),
        (
            "node",
            {"/home/u/.npmrc": b"registry=https://n.example/\n@me:registry = https://m.example:8443/\n"},
            {},
            ["n.example:443 GET,HEAD", "m.example:8443 tls GET,HEAD"],
            {"npm_config_registry": "https://n.example/"},
        ),
        (
            "rust",
            {"/home/u/.cargo/config.toml": b'[source.m]\nregistry = "sparse+https://c.example/i/"\n'},
            {},
            ["c.example:443 GET,HEAD"],
            {},
        ),
        (
            "go",
            {},
            {"GOPROXY": "https://g.example,direct"},
            ["g.example:443 GET,HEAD"],
            {"GOPROXY": "https://g.example"},
        ),
    ],
)  # fmt: skip
def test_found(
    name: str,
    files: dict[str, bytes],
    environment: dict[str, str],
    rules: list[str],
    variables: dict[str, str],
) -> None:
    """Each tool's own configuration, by file or variable."""
    found = find((name,), FakeHost(files), "/home/u", environment)
    assert [rule.text for rule in found.endpoints] == rules
    assert found.variables == variables
    assert found.notes == ()


def test_credentials_stay_outside() -> None:
    """An address with a password is used without it, and the plan says so."""
    environment = {"PIP_INDEX_URL": "https://me:hunter22@i.example/simple"}
    found = find(("python",), FakeHost({}), "/home/u", environment)
    assert "hunter22" not in repr(found)
    assert found.variables["PIP_INDEX_URL"] == "https://i.example/simple"
    assert "credentials" in found.notes[0]


@pytest.mark.parametrize("name", INDEXES)
def test_nothing_configured(name: str) -> None:
    """Without a configuration nothing is allowed, and a note says what would."""
    found = find((name,), FakeHost({}), "/home/u", {})
    assert found.endpoints == ()
    assert "network.allow" in found.notes[0]
    assert set(ECOSYSTEMS) == set(INDEXES)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"[global", b"[global]\nindex-url = ftp://x/\n", b"= = =", b"[source]\nx = 1"],
)
def test_nonsense(content: bytes) -> None:
    """A configuration that makes no sense names nothing."""
    places = ("/home/u/.config/pip/pip.conf", "/home/u/.npmrc", "/home/u/.cargo/config.toml")
    host = FakeHost(dict.fromkeys(places, content))
    assert find(("python", "node", "rust"), host, "/home/u", {}).endpoints == ()
