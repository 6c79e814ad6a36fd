"""AWS Signature Version 4: requests signed with a placeholder are signed again with the secret.

Source: AWS General Reference, "Signature Version 4 signing process", and the S3 API reference.
A signature is first recomputed with the placeholder. That shows which secret was meant, that the
request is one the agent signed, and which of the service's spellings of path and payload it used.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from itertools import product

from casemate.errors import RefusedError
from casemate.vault.forms import url_escaped
from casemate.vault.scan import percent_decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Headers = list[tuple[bytes, bytes]]

ALGORITHM = b"AWS4-HMAC-SHA256"
_UNSIGNED = b"UNSIGNED-PAYLOAD"


class Signed:
    """A signed request taken apart. `presigned`: the signature stands in the query."""

    def __init__(self, method: bytes, host: bytes, path: bytes, headers: Headers) -> None:
        self.method, self.path, self.headers = method, path, headers
        self.host = host
        self.query = _query(path)
        self.presigned = any(name == b"X-Amz-Signature" for name, _ in self.query)
        if self.presigned:
            fields = {name.removeprefix(b"X-Amz-"): value for name, value in self.query}
        else:
            text = _value(headers, b"authorization").partition(b" ")[2]
            parts = (part.strip().partition(b"=") for part in text.split(b","))
            fields = {name: value for name, _, value in parts}
        self.credential = fields.get(b"Credential", b"")
        self.names = fields.get(b"SignedHeaders", b"").lower().split(b";")
        self.signature = fields.get(b"Signature", b"")
        self.date = fields.get(b"Date") or _value(headers, b"x-amz-date")
        self.scope = self.credential.partition(b"/")[2]
        if self.scope.count(b"/") != 3 or not self.signature or not self.date:
            raise RefusedError("the AWS signature of the request is incomplete", code="malformed")

    def sign(self, key: bytes, payload: bytes, *, escaped_twice: bool) -> bytes:
        """The signature, in hexadecimal digits, with a secret access key."""
        path = self.path.partition(b"?")[0] or b"/"
        if escaped_twice:
            path = url_escaped(path, upper=True).replace(b"%2F", b"/")
        pairs = sorted(
            (url_escaped(name, upper=True), url_escaped(value, upper=True))
            for name, value in self.query
            if name != b"X-Amz-Signature"
        )
        lines = [self.method, path, b"&".join(name + b"=" + value for name, value in pairs)]
        lines += [name + b":" + self._joined(name) for name in self.names]
        lines += [b"", b";".join(self.names), payload]
        request = sha256(b"\n".join(lines)).hexdigest().encode()
        text = b"\n".join((ALGORITHM, self.date, self.scope, request))
        signing = b"AWS4" + key
        for part in self.scope.split(b"/"):
            signing = hmac.digest(signing, part, "sha256")
        return hmac.new(signing, text, "sha256").hexdigest().encode()

    def _joined(self, name: bytes) -> bytes:
        values = [b" ".join(value.split()) for key, value in self.headers if key.lower() == name]
        return b",".join(values) or (self.host if name == b"host" else b"")

    def payloads(self, body: bytes | None) -> Iterator[bytes]:
        """The payload hashes the signer can have used. Raises `RefusedError`."""
        stated = _value(self.headers, b"x-amz-content-sha256")
        if stated.startswith(b"STREAMING-" + ALGORITHM):
            raise RefusedError(
                "a body whose chunks are signed one by one cannot be signed again",
                code="sigv4-streaming",
                hint="let the client send UNSIGNED-PAYLOAD, or switch chunked signing off",
            )
        if stated:
            yield stated
            return
        if self.presigned:
            yield _UNSIGNED
        if body is None:
            raise RefusedError(
                "this request can be signed again only with its whole body at hand",
                code="sigv4-body",
                hint="send the header x-amz-content-sha256",
            )
        yield sha256(body).hexdigest().encode()


def is_signed(path: bytes, headers: Headers) -> bool:
    """Whether the request carries an AWS signature."""
    return _value(headers, b"authorization").startswith(ALGORITHM) or b"X-Amz-Signature=" in path


def resign(
    request: Signed,
    body: bytes | None,
    keys: Iterable[tuple[bytes, bytes]],
    replace: Callable[[bytes], bytes],
) -> tuple[bytes, Headers] | None:
    """Path and headers signed again; None if the signature was made with none of the placeholders.

    `keys` are pairs of placeholder and secret access key; `replace` puts the other secrets of the
    request (access key, session token) in the place of their placeholders.
    """
    known = list(keys)
    for payload in request.payloads(body):
        for (placeholder, secret), twice in product(known, (False, True)):
            made = request.sign(placeholder, payload, escaped_twice=twice)
            if hmac.compare_digest(made, request.signature):
                path = replace(request.path)
                headers = [(name, replace(value)) for name, value in request.headers]
                real = Signed(request.method, request.host, path, headers)
                return _with_signature(real, real.sign(secret, payload, escaped_twice=twice))
    return None


def _with_signature(request: Signed, signature: bytes) -> tuple[bytes, Headers]:
    old = b"Signature=" + request.signature
    new = b"Signature=" + signature
    if request.presigned:
        return request.path.replace(b"X-Amz-" + old, b"X-Amz-" + new), request.headers
    return request.path, [
        (name, value.replace(old, new) if name.lower() == b"authorization" else value)
        for name, value in request.headers
    ]


def _value(headers: Headers, name: bytes) -> bytes:
    return next((value.strip() for key, value in headers if key.lower() == name), b"")


def _query(path: bytes) -> list[tuple[bytes, bytes]]:
    pairs = (part.partition(b"=") for part in path.partition(b"?")[2].split(b"&") if part)
    return [(percent_decoded(name), percent_decoded(value)) for name, _, value in pairs]
