"""AWS Signature Version 4 against the examples that AWS publishes."""

from __future__ import annotations

from hashlib import sha256

import pytest

from casemate.errors import RefusedError
from casemate.vault.exchange import Credential, Exchange
from casemate.vault.sigv4 import Signed

KEY = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SUITE_KEY = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
EMPTY = sha256(b"").hexdigest().encode()
Headers = list[tuple[bytes, bytes]]


def authorization(access: bytes, scope: bytes, names: bytes, signature: bytes) -> bytes:
    return b"AWS4-HMAC-SHA256 Credential=%s/%s,SignedHeaders=%s,Signature=%s" % (
        access, scope, names, signature,
    )  # fmt: skip


# "Signature calculations for the Authorization header", S3 API reference: GET object.
S3_HEADERS = [
    (b"Host", b"examplebucket.s3.amazonaws.com"),
    (b"Range", b"bytes=0-9"),
    (b"x-amz-content-sha256", EMPTY),
    (b"x-amz-date", b"20130524T000000Z"),
]
S3_SCOPE = b"20130524/us-east-1/s3/aws4_request"
S3_NAMES = b"host;range;x-amz-content-sha256;x-amz-date"
S3_SIGNATURE = b"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
# "Authenticating requests: using query parameters", S3 API reference.
PRESIGNED = (
    b"/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524"
    b"%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400"
    b"&X-Amz-SignedHeaders=host&X-Amz-Signature="
)
PRESIGNED_SIGNATURE = b"aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"


def test_published_header_form() -> None:
    """The signature of the S3 GET example is recomputed."""
    value = authorization(b"AKIAIOSFODNN7EXAMPLE", S3_SCOPE, S3_NAMES, S3_SIGNATURE)
    headers = [*S3_HEADERS, (b"Authorization", value)]
    request = Signed(b"GET", b"x", b"/test.txt", headers)

    assert request.sign(KEY, EMPTY, escaped_twice=False) == S3_SIGNATURE


def test_published_query_form() -> None:
    """The signature of the presigned example is recomputed."""
    headers = [(b"Host", b"examplebucket.s3.amazonaws.com")]
    request = Signed(b"GET", b"x", PRESIGNED + PRESIGNED_SIGNATURE, headers)

    assert request.presigned
    assert request.sign(KEY, b"UNSIGNED-PAYLOAD", escaped_twice=False) == PRESIGNED_SIGNATURE


@pytest.mark.parametrize(
    ("path", "service", "host", "more", "signature"),
    [
        (  # get-vanilla of the signature test suite
            b"/", b"service", b"example.amazonaws.com", [],
            b"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
        ),
        (  # The IAM example of the General Reference
            b"/?Action=ListUsers&Version=2010-05-08", b"iam", b"iam.amazonaws.com",
            [(b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")],
            b"5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ],
)  # fmt: skip
def test_published_suite(
    path: bytes, service: bytes, host: bytes, more: Headers, signature: bytes
) -> None:
    """Services whose payload hash is not in a header: get-vanilla and the IAM example."""
    scope = b"20150830/us-east-1/" + service + b"/aws4_request"
    names = b";".join(sorted([b"host", b"x-amz-date", *(name for name, _ in more)]))
    headers = [(b"Host", host), (b"X-Amz-Date", b"20150830T123600Z"), *more]
    headers.append((b"Authorization", authorization(b"AKIDEXAMPLE", scope, names, signature)))
    request = Signed(b"GET", b"x", path, headers)

    assert list(request.payloads(b"")) == [EMPTY]
    assert request.sign(SUITE_KEY, EMPTY, escaped_twice=False) == signature


LOOKS_ACCESS, LOOKS_KEY = b"AKIAZZZZZZZZ1ZZZZZZZ", b"zZzzzzzzZZZ/Z1ZZZZZ/zZzZzzZZZZZZZZZZZZZZ"


def exchange(headers: Headers, path: bytes, body: bytes | None = None) -> tuple[bytes, Headers]:
    secrets = [
        Credential("AWS_ACCESS_KEY_ID", LOOKS_ACCESS, b"AKIAIOSFODNN7EXAMPLE",
                   hosts=["**.amazonaws.com"], form="sigv4"),
        Credential("AWS_SECRET_ACCESS_KEY", LOOKS_KEY, KEY,
                   hosts=["**.amazonaws.com"], form="sigv4"),
    ]  # fmt: skip
    host = "examplebucket.s3.amazonaws.com"
    return Exchange(secrets, host).request(b"GET", path, headers, body)


def signed(headers: Headers, path: bytes, key: bytes, payload: bytes = EMPTY) -> Headers:
    """The S3 example's headers, signed with a key."""
    value = authorization(LOOKS_ACCESS, S3_SCOPE, S3_NAMES, b"0")
    unsigned = Signed(b"GET", b"x", path, [*headers, (b"Authorization", value)])
    signature = unsigned.sign(key, payload, escaped_twice=False)
    value = authorization(LOOKS_ACCESS, S3_SCOPE, S3_NAMES, signature)
    return [*headers, (b"Authorization", value)]


def test_signed_again() -> None:
    """A request signed with the placeholder leaves with AWS's own published signature."""
    path, headers = exchange(signed(S3_HEADERS, b"/test.txt", LOOKS_KEY), b"/test.txt")

    expected = authorization(b"AKIAIOSFODNN7EXAMPLE", S3_SCOPE, S3_NAMES, S3_SIGNATURE)
    assert path == b"/test.txt"
    assert dict(headers)[b"Authorization"] == expected


def test_presigned_again() -> None:
    """So does a presigned address."""
    headers = [(b"Host", b"examplebucket.s3.amazonaws.com")]
    start = PRESIGNED.replace(b"AKIAIOSFODNN7EXAMPLE", LOOKS_ACCESS)
    request = Signed(b"GET", b"x", start + b"0", headers)
    signature = request.sign(LOOKS_KEY, b"UNSIGNED-PAYLOAD", escaped_twice=False)

    path, _ = exchange(headers, start + signature)

    assert path == PRESIGNED + PRESIGNED_SIGNATURE


def test_unsigned_payload() -> None:
    """A body that is not part of the signature needs not be at hand."""
    headers = [
        (name, b"UNSIGNED-PAYLOAD" if name == b"x-amz-content-sha256" else value)
        for name, value in S3_HEADERS
    ]
    request = signed(headers, b"/test.txt", LOOKS_KEY, b"UNSIGNED-PAYLOAD")

    assert dict(exchange(request, b"/test.txt")[1])[b"Authorization"].count(b"AKIAIOSFODNN7EXAMPLE")


@pytest.mark.parametrize(
    ("payload", "key", "code"),
    [
        (b"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", LOOKS_KEY, "sigv4-streaming"),
        (b"", LOOKS_KEY, "sigv4-body"),
        (EMPTY, b"the-attackers-own-secret-access-key", "foreign-credential"),
    ],
)
def test_refused(payload: bytes, key: bytes, code: str) -> None:
    """Chunk-wise signatures, an unknown body, and another's key are refused clearly."""
    headers = [
        (name, payload if name == b"x-amz-content-sha256" else value) for name, value in S3_HEADERS
    ]
    with pytest.raises(RefusedError) as caught:
        exchange(signed(headers, b"/test.txt", key), b"/test.txt")
    assert caught.value.code == code


@pytest.mark.parametrize("value", [b"", b" Credential=a", b" Credential=a/b/c/d/e,Signature="])
def test_incomplete(value: bytes) -> None:
    """A broken signature is refused."""
    with pytest.raises(RefusedError) as caught:
        exchange([(b"Authorization", b"AWS4-HMAC-SHA256" + value)], b"/")
    assert caught.value.code == "malformed"
