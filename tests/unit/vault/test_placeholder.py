"""Placeholders look like what they stand for."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import UsageError
from casemate.vault.forms import whole
from casemate.vault.placeholder import PREFIXES, placeholder

CLASSES = (b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"0123456789")
RANDOM = st.text(st.characters(codec="ascii", min_codepoint=33), min_size=4, max_size=60)
SECRETS = st.builds(
    lambda prefix, start, rest: prefix + b"aZ3x9Q" + start.encode() + rest.encode(),
    st.sampled_from([b"", *PREFIXES]), RANDOM, RANDOM,
)  # fmt: skip

PEM = (
    b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nabcdEFGH1234+/==\n-----END PRIVATE KEY-----\n"
)
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P"


def kind(byte: int) -> object:
    """The class of a character, or the character itself where it has none."""
    return next((letters for letters in CLASSES if byte in letters), byte)


@given(SECRETS)
def test_shape(secret: bytes) -> None:
    """Same length, same prefix, same class of character everywhere, never the same value."""
    made = placeholder("S", secret)

    assert made != secret
    assert [kind(byte) for byte in made] == [kind(byte) for byte in secret]
    prefix = next((each for each in PREFIXES if secret.startswith(each)), b"")
    assert made.startswith(prefix)


@given(SECRETS)
def test_every_form_has_the_length_of_the_secrets_form(secret: bytes) -> None:
    """Escapes and encodings of a placeholder are as long as those of its secret."""
    made = placeholder("S", secret)

    assert [len(form) for form in whole(made)] == [len(form) for form in whole(secret)]


@pytest.mark.parametrize(
    ("secret", "shape"),
    [
        (b"sk-ant-api03-" + b"Ab1_" * 20, rb"sk-ant-api03-([A-Z][a-z][0-9]_){20}"),
        (b"ghp_" + b"aB3" * 12, rb"ghp_([a-z][A-Z][0-9]){12}"),
        (b"AKIAIOSFODNN7EXAMPLE", rb"AKIA[A-Z]{8}[0-9][A-Z]{7}"),
        (b"sk-" + b"0a1b2c3d" * 4, rb"sk-([0-9][a-f]){16}"),
        (JWT, rb"eyJhbGciOiJIUzI1NiJ9\.eyJ[A-Za-z0-9]+\.[A-Za-z0-9_]+"),
        (PEM, rb"-----BEGIN PRIVATE KEY-----\n\w{16}\n\w{12}\+/==\n-----END PRIVATE KEY-----\n"),
    ],
)
def test_known_shapes(secret: bytes, shape: bytes) -> None:
    """Tokens of known issuers, JWTs and PEM keys keep what programs recognise them by."""
    assert re.fullmatch(shape, placeholder("S", secret))


@pytest.mark.parametrize(
    "secret", [b"", b"short12", b"--------", b"abc-----", b"with\0zero-byte", b"a" * 70000]
)
def test_unfit_secrets(secret: bytes) -> None:
    """A secret whose leaks could not be found is refused by name, without its value."""
    with pytest.raises(UsageError, match="NAME") as caught:
        placeholder("NAME", secret)

    assert not secret or secret.decode() not in caught.value.as_text()


def test_distinct_in_a_session() -> None:
    """A value that is taken already is never drawn again."""

    class Taken:
        asked = 0

        def __contains__(self, value: object) -> bool:
            self.asked += 1
            return self.asked < 4

    taken = Taken()
    placeholder("S", b"abcdefgh", taken)

    assert taken.asked == 4
