"""Where placeholders become secrets, and where that is refused."""

from __future__ import annotations

from base64 import b64encode

import pytest

from casemate.errors import RefusedError
from casemate.vault.exchange import Credential, Exchange
from casemate.vault.session import Secrets

SECRET, LOOKS = b"ghp_realREAL0123456789+/", b"ghp_fakeFAKE9876543210+/"
OTHER, OTHER_LOOKS = b"xoxb-1111-realreal", b"xoxb-2222-fakefake"
HOST = "api.example.com"
Headers = list[tuple[bytes, bytes]]


def run(
    headers: Headers, path: bytes = b"/", host: str = HOST, **options: object
) -> tuple[bytes, dict[bytes, bytes]]:
    """A request past a credential of `api.example.com` and one of `chat.example`."""
    mine = Credential("MINE", LOOKS, SECRET, hosts=["api.example.com", "*.up.example"], **options)  # type: ignore[arg-type]
    other = Credential("OTHER", OTHER_LOOKS, OTHER, hosts=["chat.example"])
    path, headers = Exchange([mine, other], host).request(b"GET", path, headers, None)
    return path, dict(headers)


def basic(text: bytes) -> bytes:
    return b"Basic " + b64encode(text)


@pytest.mark.parametrize(
    ("form", "name", "before", "after"),
    [
        ("bearer", b"Authorization", b"Bearer " + LOOKS, b"Bearer " + SECRET),
        ("bearer", b"authorization", b"token " + LOOKS, b"token " + SECRET),
        ("bearer", b"Authorization", basic(b"u:" + LOOKS), basic(b"u:" + SECRET)),
        ("basic", b"Authorization", basic(LOOKS + b":"), basic(SECRET + b":")),
        ("basic", b"Authorization", basic(b"u:x"), basic(b"u:x")),
        ("basic", b"Authorization", b"Bearer " + LOOKS, b"Bearer " + LOOKS),
        ("header:x-api-key", b"X-Api-Key", LOOKS, SECRET),
        ("header:cookie", b"Cookie", b"a=1; s=" + LOOKS, b"a=1; s=" + SECRET),
        ("header:x-api-key", b"X-Other", LOOKS, LOOKS),
    ],
)
def test_forms(form: str, name: bytes, before: bytes, after: bytes) -> None:
    """Each form is exchanged in its own place and nowhere else."""
    kind, _, form_name = form.partition(":")

    assert run([(name, before)], form=kind, form_name=form_name)[1][name] == after


def test_query() -> None:
    """A query field is exchanged, escaped where it must be; others and the path stay."""
    path, _ = run([], b"/a?x=1&key=" + LOOKS + b"&y=" + LOOKS, form="query", form_name="key")

    assert path == b"/a?x=1&key=ghp_realREAL0123456789%2B%2F&y=" + LOOKS


def test_plain_answers_are_asked_for() -> None:
    """Towards a host with secrets the answer is to come uncompressed; elsewhere nothing changes."""
    headers = [(b"Accept-Encoding", b"gzip, br")]

    assert run(headers)[1] == {b"accept-encoding": b"identity"}
    assert run(headers, host="plain.example")[1] == {b"Accept-Encoding": b"gzip, br"}


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ([(b"Authorization", b"Bearer " + LOOKS)], b"/"),
        ([(b"Authorization", basic(b"x:" + LOOKS))], b"/"),
        ([(b"X-Anything", LOOKS)], b"/"),
        ([], b"/archive?token=" + LOOKS),
        ([], b"/archive?token=ghp%5FfakeFAKE9876543210%2B%2F"),
    ],
)
def test_e36_redirected_to_another_host(headers: Headers, path: bytes) -> None:
    """E36: a placeholder that follows a redirect is refused there, and never exchanged."""
    with pytest.raises(RefusedError) as caught:
        run(headers, path, host="codeload.example.com")

    assert caught.value.code == "secret-host"
    assert "MINE" in caught.value.message
    assert "codeload.example.com" in caught.value.allow


@pytest.mark.parametrize(
    ("headers", "path"),
    [
        ([(b"Authorization", b"Bearer ghp_attacker")], b"/"),
        ([(b"Authorization", b"Bearer " + LOOKS), (b"authorization", b"Bearer x")], b"/"),
        ([(b"Authorization", b"Bearer x " + LOOKS)], b"/"),
        ([(b"Authorization", basic(LOOKS + b":ghp_attacker"))], b"/"),
        ([(b"Authorization", b"Bearer " + LOOKS), (b"X-Api-Key", b"attacker")], b"/"),
        ([(b"Authorization", b"Bearer " + LOOKS), (b"Cookie", b"session=attacker")], b"/"),
        ([(b"Authorization", b"Bearer " + LOOKS)], b"/?access_token=attacker"),
        ([(b"Authorization", b"Bearer " + LOOKS)], b"/?Access%5Ftoken=attacker"),
        ([(b"Authorization", b"Bearer " + OTHER)], b"/"),
        ([], b"/"),
    ],
)
def test_e32_own_credentials_only(headers: Headers, path: bytes) -> None:
    """E32: an allowed host cannot be used with the attacker's key, nor beside the user's own."""
    run(headers, path)  # Without the protection the request goes out.

    with pytest.raises(RefusedError) as caught:
        run(headers, path, own_only=True)
    assert caught.value.code == "foreign-credential"


def test_own_credentials_pass() -> None:
    """The user's own credential is no foreign one, in any of its places."""
    for value in (b"Bearer " + LOOKS, basic(b"git:" + LOOKS), basic(LOOKS + b":x-oauth-basic")):
        assert run([(b"Authorization", value)], own_only=True)


@pytest.mark.parametrize("place", ["path", "name", "value"])
def test_e35_secrets_in_the_head(place: str) -> None:
    """E35: a real value in the head is refused, also encoded, and its own host is no exception."""
    secrets = Secrets([Credential("MINE", LOOKS, SECRET, hosts=[HOST])])
    hidden = b64encode(b"xy" + SECRET)
    path = b"/" + hidden if place == "path" else b"/"
    header = (hidden if place == "name" else b"a", hidden if place == "value" else b"b")

    with pytest.raises(RefusedError) as caught:
        secrets.outgoing(HOST, b"GET", path, [header], None)
    assert caught.value.code == "secret-leak"
    assert SECRET.decode() not in str(caught.value.as_json())


def test_e35_placeholder_in_a_token() -> None:
    """E35: a placeholder inside a JWT stays what it is: nothing but the look of a secret leaves."""
    token = b"Bearer e30." + b64encode(LOOKS) + b".sig"

    assert run([(b"Authorization", token)])[1][b"Authorization"] == token
