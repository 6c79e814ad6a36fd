"""Placeholders: fake credentials in the shape of the real ones. On the start path.

A placeholder has the length of its secret and the same prefix; every letter and digit behind that
is drawn anew from its own class, everything else stays. So programs that check the look of a key
accept it, and every escape of the one is as long as that of the other.
"""

from __future__ import annotations

import os

from casemate.errors import UsageError
from casemate.vault.forms import SHORTEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

PREFIXES = (
    *(b"sk-ant-api03-", b"sk-ant-oat01-", b"sk-proj-", b"sk-svcacct-", b"sk-or-v1-", b"sk-"),
    *(b"github_pat_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"glpat-", b"gldt-"),
    *(b"AKIA", b"ASIA", b"AIza", b"xoxb-", b"xoxp-", b"xapp-", b"npm_", b"pypi-", b"hf_", b"gsk_"),
    *(b"sk_live_", b"sk_test_", b"rk_live_", b"rk_test_", b"dop_v1_", b"SG."),
)
"""What issuers put before the random part, the longer before the shorter that begin alike."""

LONGEST = 64 << 10
"""Bytes of the longest secret."""
CHANGEABLE = 6
"""Letters and digits that must differ from secret to placeholder, at the least."""
_LOWER, _UPPER, _DIGITS = (
    b"abcdefghijklmnopqrstuvwxyz",
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    b"0123456789",
)
_LIMIT = 256


def placeholder(name: str, secret: bytes, taken: Container[bytes] = ()) -> bytes:
    """A placeholder for the secret, distinct from it and from those in `taken`.

    Raises `UsageError` for a secret that is too short or too long, spans a zero byte, or has
    too few letters and digits to hide.
    """
    if len(secret) < SHORTEST:
        raise UsageError(
            f"the secret {name} has {len(secret)} bytes; one below {SHORTEST} cannot be told from "
            "ordinary text, so its leaks could not be found",
            hint=f"use a longer secret, or remove [secrets.{name}]",
        )
    if len(secret) > LONGEST or b"\0" in secret:
        raise UsageError(f"the secret {name} is longer than {LONGEST} bytes or holds a zero byte")
    fixed = _fixed(secret)
    variable = bytes(byte for byte, kept in zip(secret, fixed, strict=True) if not kept)
    alphabets = [
        b"" if kept else _alphabet(byte, variable) for byte, kept in zip(secret, fixed, strict=True)
    ]
    if sum(map(bool, alphabets)) < CHANGEABLE:
        raise UsageError(
            f"the secret {name} has fewer than {CHANGEABLE} letters and digits that could be hidden",
            hint=f"use another secret, or remove [secrets.{name}]",
        )
    for _ in range(_LIMIT):
        drawn = _draw(secret, alphabets)
        if drawn != secret and drawn not in taken:
            return drawn
    raise UsageError(f"no placeholder could be found for the secret {name}")


def _fixed(secret: bytes) -> bytearray:
    """A flag for each byte that stays because of what it means."""
    fixed = bytearray(len(secret))
    for prefix in PREFIXES:
        if secret.startswith(prefix):
            fixed[: len(prefix)] = b"\1" * len(prefix)
            return fixed
    if secret.startswith(b"-----BEGIN "):
        at = 0
        for line in secret.splitlines(keepends=True):
            if line.startswith(b"-----") or b": " in line:
                fixed[at : at + len(line)] = b"\1" * len(line)
            at += len(line)
    elif secret.startswith(b"eyJ") and secret.count(b".") == 2:
        # The header of a JWT names an algorithm; the payload begins as JSON does.
        header = secret.index(b".") + 1
        kept = header + (3 if secret[header:].startswith(b"eyJ") else 0)
        fixed[:kept] = b"\1" * kept
    return fixed


def _alphabet(byte: int, variable: bytes) -> bytes:
    """What the byte may become; empty for one that stays."""
    if byte in _DIGITS:
        return _DIGITS
    for letters in (_LOWER, _UPPER):
        if byte in letters:
            used = variable.translate(None, bytes(set(range(256)) - set(letters)))
            # Hexadecimal stays hexadecimal.
            return letters[:6] if not used.strip(letters[:6]) else letters
    return b""


def _draw(secret: bytes, alphabets: list[bytes]) -> bytes:
    # 16 bits per character: what is left of a bias is below 1 in 2000, and only looks matter.
    noise = os.urandom(2 * len(secret))
    return bytes(
        alphabet[(noise[2 * at] << 8 | noise[2 * at + 1]) % len(alphabet)] if alphabet else byte
        for at, (byte, alphabet) in enumerate(zip(secret, alphabets, strict=True))
    )
