"""The secrets of one session inside the vault, and the streams that pass by them. Pure."""

from __future__ import annotations

from casemate.errors import RefusedError
from casemate.vault.decoding import Decoder
from casemate.vault.exchange import Credential, Exchange
from casemate.vault.scan import Needles, Scan, find
from casemate.vault.scrub import Replacements, Scrub, scrub

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Headers = list[tuple[bytes, bytes]]


class Secrets:
    """What one session's sandbox has placeholders for."""

    def __init__(self, credentials: Sequence[Credential]) -> None:
        self._credentials = tuple(credentials)
        self._needles = Needles((each.name, each.value) for each in credentials)

    def outgoing(
        self, host: str, method: bytes, path: bytes, headers: Headers, body: bytes | None
    ) -> tuple[bytes, Headers]:
        """The head of a request as it goes out. Raises `RefusedError`."""
        for text in (path, *(part for header in headers for part in header)):
            if name := find(self._needles, text):
                raise leak(name, host)
        return Exchange(self._credentials, host).request(method, path, headers, body)

    def scrubbed(self, host: str, headers: Headers) -> Headers:
        """Headers of an answer without the host's secrets; `host` "" means all secrets.

        Raises `RefusedError` when one remains in a form that cannot be replaced.
        """
        own = self._own(host)
        rules, needles = _rules(own)
        clean = [(name, scrub(rules, value)) for name, value in headers]
        for name, value in clean:
            if secret := find(needles, value) or find(needles, name):
                raise reflected(secret, host)
        return clean

    def request_body(self, host: str, coding: str) -> RequestBody:
        """A body on its way out."""
        mine = [each for each in self._own(host) if each.form == "body"]
        return RequestBody(host, self._needles, mine, coding)

    def response_body(self, host: str, coding: str) -> ResponseBody:
        """A body on its way in."""
        return ResponseBody(host, self._own(host), coding)

    def _own(self, host: str) -> list[Credential]:
        return [each for each in self._credentials if not host or each.belongs(host)]


class RequestBody:
    """Exchanges placeholders of the form `body`, and refuses a body that holds a secret."""

    def __init__(self, host: str, needles: Needles, own: Sequence[Credential], coding: str) -> None:
        self._host = host
        self._decoder = Decoder(coding)
        self._raw, self._decoded = Scan(needles), Scan(needles)
        pairs = [(each.placeholder, each.value) for each in own]
        self._exchange = Scrub(Replacements(pairs)) if pairs and self._decoder.plain else None

    @property
    def note(self) -> str:
        """Why the body was only looked at as it is; "" if it was understood."""
        return self._decoder.note

    def feed(self, data: bytes) -> bytes:
        """The bytes to send. Raises `RefusedError`."""
        name = self._raw.feed(data)
        for piece in self._decoder.feed(data):
            name = name or self._decoded.feed(piece)
        if name:
            raise leak(name, self._host)
        return self._exchange.feed(data) if self._exchange else data

    def finish(self) -> bytes:
        """The last bytes to send."""
        return self._exchange.finish() if self._exchange else b""


class ResponseBody:
    """Puts placeholders in the place of reflected secrets; refuses what it cannot replace."""

    def __init__(self, host: str, own: Sequence[Credential], coding: str) -> None:
        self._host = host
        self._decoder = Decoder(coding)
        rules, needles = _rules(own)
        self._raw, self._decoded = Scan(needles), Scan(needles)
        self._scrub = Scrub(rules) if own else None

    @property
    def note(self) -> str:
        """Why the body was only looked at as it is; "" if it was understood."""
        return self._decoder.note

    def feed(self, data: bytes) -> bytes:
        """The bytes to hand on. Raises `RefusedError`."""
        if not self._scrub:
            return data
        for piece in self._decoder.feed(data):
            self._check(self._decoded.feed(piece))
        return self._passed(self._scrub.feed(data) if self._decoder.plain else data)

    def finish(self) -> bytes:
        """The last bytes to hand on. Raises `RefusedError`."""
        return self._passed(self._scrub.finish()) if self._scrub else b""

    def _passed(self, data: bytes) -> bytes:
        self._check(self._raw.feed(data))
        return data

    def _check(self, name: str) -> None:
        if name:
            raise reflected(name, self._host)


def _rules(own: Sequence[Credential]) -> tuple[Replacements, Needles]:
    return (
        Replacements((each.value, each.placeholder) for each in own),
        Needles((each.name, each.value) for each in own),
    )


def leak(name: str, host: str) -> RefusedError:
    """A secret's real value on its way out; the value is never part of the text."""
    return RefusedError(
        f"the request to {host} holds the real value of the secret {name}",
        code="secret-leak",
        rule=f"secrets.{name}",
        hint=f"use the placeholder in the variable of {name}; find out where the value came from",
    )


def reflected(name: str, host: str) -> RefusedError:
    """A secret in an answer, in a form that cannot be replaced by its placeholder."""
    return RefusedError(
        f"the answer of {host} holds the secret {name} in a form that cannot be replaced",
        code="secret-reflected",
        rule=f"secrets.{name}",
    )
