"""`[secrets.NAME]`: what it says, and who may say it."""

from __future__ import annotations

import pytest

from casemate.errors import PolicyError
from casemate.policy.layers import Ranked, combine
from casemate.policy.model import CredentialFile
from casemate.policy.reader import Layer, read

FULL = """\
[secrets.TOKEN]
to = ["git.example"]
own_only = true
optional = true
environment = "GH_TOKEN"
source = 'command:["pass", "show", "token"]'
files = ["~/.netrc", { path = "~/.x", content = "t=${TOKEN}" }, { copy = "~/.codex/auth.json" }]
"""


def layer(text: str) -> Layer:
    return read(f"version = 1\n{text}".encode(), source="casemate.toml", base="/home/u/project")


def test_every_key() -> None:
    """Every key of a secret arrives."""
    (secret,) = combine([Ranked(layer(FULL))]).policy.secrets

    assert (secret.own_only, secret.optional, secret.environment) == (True, True, "GH_TOKEN")
    assert secret.source == 'command:["pass", "show", "token"]'
    assert secret.files == (
        CredentialFile("~/.netrc"),
        CredentialFile("~/.x", "t=${TOKEN}"),
        CredentialFile("~/.codex/auth.json", "", "~/.codex/auth.json"),
    )


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('source = "vault:x"', "source"),
        ('source = "env:A B"', "source"),
        ('source = "keyring:x"', "source"),
        ('source = "command:pass show x"', "source"),
        ("source = 'command:[]'", "source"),
        ("source = 'command:[1]'", "source"),
        ('environment = "HOME"', "environment"),
        ('environment = "A-B"', "environment"),
        ('files = ["/etc/passwd"]', "files[0]"),
        ('files = ["~/../x"]', "files[0]"),
        ('files = [{ path = "~/.x", content = "a", copy = "~/.x" }]', "files[0]"),
        ('files = [{ copy = "/etc/shadow" }]', "files[0]"),
        ("own_only = 1", "own_only"),
    ],
)
def test_mistakes(line: str, key: str) -> None:
    """What makes no sense is named by its key."""
    with pytest.raises(PolicyError) as caught:
        layer(f'[secrets.A]\nto = ["a.example"]\n{line}\n')

    assert f"secrets.A.{key}" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        FULL.replace("TOKEN]", "NEW]"),
        FULL.replace("git.example", "evil.example"),
        FULL.replace('"git.example"', '"git.example", "evil.example"'),
        FULL.replace("git.example", "**.git.example"),
        FULL.replace('"show"', '"rm"'),
        FULL.replace("own_only = true", "own_only = false"),
        FULL.replace("GH_TOKEN", "LD_PRELOAD"),
        FULL.replace("t=${TOKEN}", "other"),
        FULL.replace("~/.codex/auth.json", "~/.ssh/id_rsa"),
    ],
)
def test_an_untrusted_project_changes_no_secret(text: str) -> None:
    """An untrusted policy defines no source and no host, and widens none; a trusted one does."""
    mine = Ranked(layer(FULL))
    alone = combine([mine]).policy.secrets

    assert combine([mine, Ranked(layer(text))]).policy.secrets != alone
    loaded = combine([mine, Ranked(layer(text), trusted=False)])
    assert loaded.policy.secrets == alone
    assert any("ignored" in notice.message for notice in loaded.notices)
