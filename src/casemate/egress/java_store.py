"""A file of certificate authorities as Java programs read it, made of one as all others do.

Source: the format "JKS" of the Java security documentation, which every Java since 1.2 reads
whatever it calls its file.
"""

from __future__ import annotations

import binascii
import hashlib
from collections.abc import Iterator

PASSWORD = "changeit"
"""What Java's own file is protected with; it keeps nobody out, and Java's tools ask for it."""

_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_MAGIC, _VERSION, _TRUSTED = 0xFEEDFEED, 2, 2
_WHITENER = b"Mighty Aphrodite"
_SEQUENCE, _TWO_BYTES = 0x30, 0x82


def java_store(bundle: bytes) -> bytes:
    """The certificates of a PEM file as a trust store."""
    entries = [
        _u32(_TRUSTED)
        + _text(f"authority-{number}")
        + bytes(8)  # when it was added
        + _text("X.509")
        + _u32(len(certificate))
        + certificate
        for number, certificate in enumerate(dict.fromkeys(_certificates(bundle)))
    ]
    body = _u32(_MAGIC) + _u32(_VERSION) + _u32(len(entries)) + b"".join(entries)
    # Finds accidents only, as Java means it: SHA-1 is what it compares.
    seal = hashlib.sha1(PASSWORD.encode("utf-16-be") + _WHITENER + body, usedforsecurity=False)
    return body + seal.digest()


def _certificates(bundle: bytes) -> Iterator[bytes]:
    """Each certificate; what is none is passed over, since Java would refuse the whole file."""
    for part in bundle.split(_BEGIN)[1:]:
        text, found, _ = part.partition(_END)
        try:
            certificate = binascii.a2b_base64(text) if found else b""
        except binascii.Error:
            continue
        head, size = certificate[:2], int.from_bytes(certificate[2:4], "big")
        if head == bytes((_SEQUENCE, _TWO_BYTES)) and len(certificate) == size + 4:
            yield certificate


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode("ascii")
