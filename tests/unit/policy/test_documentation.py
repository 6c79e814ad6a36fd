"""The policy reference says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from casemate.policy import presets
from casemate.policy.layers import Ranked, combine
from casemate.policy.model import KERNEL_CAPABILITIES
from casemate.policy.reader import read
from casemate.policy.schema import KEYS, keys_of
from casemate.policy.secrets import SOURCE

REFERENCE = Path(__file__).parents[3] / "docs/policy.md"


@pytest.fixture(scope="module")
def text() -> str:
    """The reference."""
    return REFERENCE.read_text()


def test_the_example_is_a_policy(text: str) -> None:
    """The example at the top reads, and nothing in it is left out."""
    example = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)[0]
    loaded = combine([Ranked(read(example.encode(), source="docs/policy.md", base="/p"))])

    assert loaded.notices == ()
    assert loaded.policy.network.allow[1].host == "localhost"


def test_every_key_is_documented(text: str) -> None:
    """Each key of the format has its row."""
    rows = [line for line in text.split("\n") if line.startswith("| `")]
    named = set(re.findall(r"`([a-z_.]+)(?:\.NAME)?`", " ".join(row.split("|")[1] for row in rows)))
    named = {name if not name.startswith(".") else f"network{name}" for name in named}

    assert named == {*KEYS, "extends", "locked"}
    assert all(keys_of(name) for name in KEYS)


def test_every_name_is_documented(text: str) -> None:
    """Presets, kernel capabilities and sources of secrets are listed."""
    for name in (*KERNEL_CAPABILITIES, *presets.names()):
        assert f"`{name}`" in text
    for form in ("env:NAME", "file:PATH", "keyring:SERVICE/USER"):
        assert f"`{form}`" in text
        assert SOURCE.fullmatch(form)
