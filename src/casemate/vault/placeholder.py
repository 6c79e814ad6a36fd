"""Placeholders: what a sandbox holds in the place of a secret. On the start-up path.

One looks like the real thing (same known prefix, same length, letters for letters and digits for
digits), so that programs that check the form of a key accept it, and is worth nothing elsewhere.
"""

from __future__ import annotations

import os

from casemate.errors import UsageError

LENGTH_MIN = 8
"""Bytes of the shortest secret: a shorter one would be found everywhere by chance."""
LENGTH_MAX = 16 << 10

PREFIXES = (
    *(b"sk-ant-api03-", b"sk-ant-oat01-", b"sk-ant-", b"sk-proj-", b"sk-svcacct-", b"sk-or-v1-"),
    *(b"sk-", b"github_pat_", b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"glpat-", b"gldt-"),
    *(b"xoxb-", b"xoxp-", b"xapp-", b"AKIA", b"ASIA", b"AIza", b"npm_", b"pypi-", b"hf_", b"gsk_"),
    *(b"dop_v1_", b"shpat_", b"sq0atp-", b"rk_live_", b"sk_live_", b"sk_test_", b"eyJ", b"Bearer "),
)
_CLASSES = (b"0123456789", b"abcdefghijklmnopqrstuvwxyz", b"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_KEPT_MAX = 4
"""Random bytes that a placeholder has at the least."""


def placeholder(name: str, value: bytes) -> bytes:
    """A placeholder for the value of the secret `name`. Raises `UsageError`."""
    if not LENGTH_MIN <= len(value) <= LENGTH_MAX:
        raise UsageError(
            f"the secret {name} is {len(value)} bytes long, and must be at least {LENGTH_MIN} and "
            f"at most {LENGTH_MAX}"
        )
    if any(byte < 0x20 or byte == 0x7F for byte in value):
        raise UsageError(f"the secret {name} holds control characters, which no header can carry")
    kept = max((len(prefix) for prefix in PREFIXES if value.startswith(prefix)), default=0)
    while True:
        found = bytearray(value)
        changed = 0
        for at in range(kept, len(value)):
            for letters in _CLASSES:
                if value[at] in letters:
                    found[at] = letters[int.from_bytes(os.urandom(2), "little") % len(letters)]
                    changed += 1
        if changed < _KEPT_MAX:
            # Nothing of its form can be kept without giving it away.
            found = bytearray(os.urandom(len(value)).hex().encode()[: len(value)])
        if bytes(found) != value:
            return bytes(found)
