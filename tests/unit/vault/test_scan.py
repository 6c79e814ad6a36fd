"""E35, E34: secrets are found and scrubbed in every named form, wherever the bytes are cut."""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64encode, encodebytes, urlsafe_b64encode
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import RefusedError
from casemate.vault import decoding
from casemate.vault.decoding import Decoder
from casemate.vault.exchange import Credential
from casemate.vault.forms import whole
from casemate.vault.scan import Needles, Scan, find
from casemate.vault.scrub import Replacements, Scrub, scrub
from casemate.vault.session import Secrets

SECRET = b'sk-A/b+c"d\\9x8Y7z6W5v4U3t2S1r0QpOnMlKjIhGfEdCbAZyXw'
LOOKS = b'sk-Z/z+z"z\\1a2B3c4D5e6F7g8H9i0JkLmNoPqRsTuVwXyZaBcD'
PEM = (
    b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC\n"
    b"q8R1s7T3u9V2w4X6y8Z0a1B3c5D7e9F2g4H6i8J0k1L3m5N7o9P\nQ2r4S6t8==\n"
    b"-----END PRIVATE KEY-----\n"
)
NEEDLES = Needles([("S", SECRET), ("PEM", PEM)])
RULES = Replacements([(SECRET, LOOKS)])

FORMS = {
    "raw": SECRET,
    "base64": b64encode(SECRET),
    "base64 behind one": b64encode(b"u" + SECRET + b"x"),
    "base64 behind two": b64encode(b"u:" + SECRET + b"xyz"),
    "url-safe": urlsafe_b64encode(b"{}" + SECRET),
    "wrapped base64": encodebytes(SECRET + b"tail" * 20),
    "hex": SECRET.hex().encode(),
    "upper hex": SECRET.hex().upper().encode(),
    "hex dump": SECRET.hex(" ").encode(),
    "query": quote(SECRET, safe="").encode(),
    "all escaped": b"".join(b"%%%02x" % byte for byte in SECRET),
    "JSON": json.dumps(SECRET.decode()).encode(),
    "JSON code units": "".join(f"\\u{byte:04x}" for byte in SECRET).encode(),
    "JSON slashes": json.dumps(SECRET.decode()).replace("/", "\\/").encode(),
    "query in JSON": json.dumps(quote(SECRET, safe="")).encode(),
    "base64 in a query": quote(b64encode(SECRET), safe="").encode(),
    "wrapped base64 in JSON": json.dumps({"d": encodebytes(SECRET).decode()}).encode(),
    "PEM": PEM,
    "PEM in JSON": json.dumps(PEM.decode()).encode(),
    "PEM in base64": b64encode(b"." + PEM),
}


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    """The data cut at some places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found(form: str) -> None:
    """Each named form is found, whole and with every byte a chunk of its own."""
    data = b'{"text": "' + FORMS[form] + b'"}'
    stream = Scan(NEEDLES)

    assert find(NEEDLES, data)
    assert any(stream.feed(bytes((byte,))) for byte in data)


@given(st.sampled_from(sorted(FORMS)), st.binary(max_size=300), st.lists(st.integers(0, 5000)))
def test_cuts_do_not_matter(form: str, noise: bytes, cuts: list[int]) -> None:
    """A secret is found however the bytes before, in and behind it are cut."""
    data = noise.rstrip(b"%\\" + bytes(range(48, 58)) + b"abcdefABCDEFu") + b"\n" + FORMS[form]
    stream = Scan(NEEDLES)

    assert any(stream.feed(chunk) for chunk in chunks(data + noise, cuts))


@given(st.binary(max_size=2000), st.lists(st.integers(0, 5000)))
def test_whole_and_cut_agree(data: bytes, cuts: list[int]) -> None:
    """What is found does not depend on the cuts, in escapes that are broken either."""
    needles = Needles([("S", b"abcdefgh")])
    data = data.replace(b"\0", b"abcd%65f\\u0067h").replace(b"\1", b"\\\\u0061bcdefgh")
    stream = Scan(needles)

    assert any(stream.feed(chunk) for chunk in chunks(data, cuts)) == bool(find(needles, data))


@pytest.mark.parametrize("data", [LOOKS, b"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq", b""])
def test_nothing_is_found_in_what_holds_nothing(data: bytes) -> None:
    """A placeholder, and what every key has in common, are no leak."""
    assert find(NEEDLES, data) == ""


PIECES = st.lists(
    st.one_of(
        st.sampled_from(whole(SECRET)),
        st.sampled_from([SECRET[:9], SECRET[:-1], b64encode(SECRET)[:20], SECRET[:5] + SECRET]),
        st.binary(max_size=30),
    ),
    max_size=8,
)


@given(PIECES, st.lists(st.integers(0, 5000)))
def test_scrubbing_does_not_depend_on_cuts(pieces: list[bytes], cuts: list[int]) -> None:
    """Scrubbed in chunks or at once, the bytes are the same, as long as before, and clean."""
    data = b"".join(pieces)
    stream = Scrub(RULES)

    out = b"".join([stream.feed(chunk) for chunk in chunks(data, cuts)]) + stream.finish()

    assert out == scrub(RULES, data)
    assert len(out) == len(data)
    assert not any(form in out for form in whole(SECRET))


def test_scrubbing_holds_back_only_a_beginning() -> None:
    """An event that cannot be the beginning of a secret is handed on at once."""
    stream = Scrub(RULES)

    assert stream.feed(b"data: hello\n\n") == b"data: hello\n\n"
    assert stream.feed(b"data: " + SECRET[:10]) == b"data: "
    assert stream.feed(b"!") == SECRET[:10] + b"!"


def secrets(**options: object) -> Secrets:
    return Secrets([Credential("S", LOOKS, SECRET, hosts=["api.example.com"], **options)])  # type: ignore[arg-type]


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, lambda d: zlib.compress(d)[2:-4]])
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_compressed_bodies(pack: object, size: int) -> None:
    """A secret inside a compressed body is refused; the bytes themselves do not show it."""
    coding = "gzip" if pack is gzip.compress else "deflate"
    packed = pack(b"x" * 100_000 + SECRET + b"y" * 1000)  # type: ignore[operator]
    body = secrets().request_body("other.example", coding)

    assert not find(NEEDLES, packed)
    with pytest.raises(RefusedError, match="secret S") as caught:
        for at in range(0, len(packed), size):
            body.feed(packed[at : at + size])
    assert caught.value.code == "secret-leak"
    assert SECRET.decode() not in str(caught.value.as_json())


def test_compressed_without_saying_so() -> None:
    """A gzip file as a body, also as the second of two, is looked into."""
    body = secrets().request_body("other.example", "")

    with pytest.raises(RefusedError):
        for byte in gzip.compress(b"first") + gzip.compress(SECRET):
            body.feed(bytes((byte,)))


def test_unknown_codings_are_searched_as_they_are() -> None:
    """What cannot be unpacked is noted, and searched nevertheless."""
    body = secrets().request_body("other.example", "br")

    assert body.feed(b"\x8b\x02") == b"\x8b\x02"
    assert "br" in body.note
    with pytest.raises(RefusedError):
        body.feed(SECRET)


def test_damaged_gzip_is_searched_as_it_is() -> None:
    """Plain text that claims to be gzip does not slip by."""
    body = secrets().request_body("other.example", "gzip")

    body.feed(b"no gzip at all ")
    assert "damaged" in body.note
    with pytest.raises(RefusedError):
        body.feed(SECRET)


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that unpacks to far more than it is ends in a refusal, in bounded memory."""
    monkeypatch.setattr(decoding, "FREE", 1 << 20)
    bomb = gzip.compress(bytes(32 << 20))

    with pytest.raises(RefusedError) as caught:
        for piece in Decoder("gzip").feed(bomb):
            assert len(piece) <= decoding.PIECE
    assert caught.value.code == "encoding"


def test_e34_reflection() -> None:
    """E34: an answer that echoes the request's headers shows the placeholder, in headers too."""
    echo = json.dumps({"authorization": f"Bearer {SECRET.decode()}"}).encode()
    body = secrets().response_body("api.example.com", "")

    out = body.feed(echo[:30]) + body.feed(echo[30:]) + body.finish()

    assert SECRET.decode() in json.loads(echo)["authorization"]
    assert json.loads(out) == {"authorization": f"Bearer {LOOKS.decode()}"}
    headers = secrets().scrubbed("api.example.com", [(b"x-echo", b"Bearer " + SECRET)])
    assert headers == [(b"x-echo", b"Bearer " + LOOKS)]


def test_e34_reflection_that_cannot_be_replaced() -> None:
    """E34: a secret in code units, or in a compressed answer, stops the answer."""
    units = "".join(f"\\u{byte:04x}" for byte in SECRET).encode()
    for coding, data in (("", units), ("gzip", gzip.compress(SECRET))):
        body = secrets().response_body("api.example.com", coding)
        with pytest.raises(RefusedError) as caught:
            body.feed(data)
            body.finish()
        assert caught.value.code == "secret-reflected"


def test_placeholders_in_bodies() -> None:
    """A body placeholder is exchanged towards its host alone, cut anywhere, at the same length."""
    data = b'{"key": "' + LOOKS + b'"}'
    own = secrets(form="body").request_body("api.example.com", "")
    other = secrets(form="body").request_body("other.example", "")

    assert b"".join(own.feed(data[at : at + 1]) for at in range(len(data))) + own.finish() == (
        data.replace(LOOKS, SECRET)
    )
    assert other.feed(data) + other.finish() == data
