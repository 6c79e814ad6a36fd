"""Secrets and requests: placeholders exchanged towards their own hosts, and nothing else let out.

Pure: what the vault's process does with each message. Knows which hosts a secret belongs to.
"""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from dataclasses import dataclass

from casemate.errors import ProtocolError
from casemate.policy.hosts import covers
from casemate.vault.encodings import forms
from casemate.vault.protocol import ENTRY_FIELDS, fields
from casemate.vault.screen import PACKED, Finder, Inflater

Header = tuple[bytes, bytes]

CREDENTIALS = frozenset(
    (b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"x-goog-api-key")
    + (b"private-token", b"x-auth-token", b"x-access-token", b"cookie", b"job-token")
)
"""Headers that carry credentials, whoever's."""


class RefusedExchange(Exception):
    """The request may not go. Codes as in `RefusedError`; never holds a value."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, repr=False)
class Entry:
    """One secret. Its representation is never shown."""

    name: str
    value: bytes
    placeholder: bytes
    form: str
    form_name: bytes
    own_only: bool
    hosts: tuple[str, ...]

    def belongs_to(self, host: str) -> bool:
        return any(covers(outer, host) for outer in self.hosts)


class Keys:
    """The secrets of one session."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries
        self._leaks = [(form, None, entry.name) for entry in entries for form in forms(entry.value)]

    @classmethod
    def read(cls, data: bytes) -> Keys:
        """The secrets of a memory file. Raises `ProtocolError`."""
        parts = fields(data)
        if len(parts) % ENTRY_FIELDS:
            raise ProtocolError("the secrets of a session make no sense")
        entries = []
        for at in range(0, len(parts), ENTRY_FIELDS):
            name, value, placeholder, form, form_name, own_only, hosts = parts[
                at : at + ENTRY_FIELDS
            ]
            entries.append(
                Entry(
                    name.decode(),
                    value,
                    placeholder,
                    form.decode(),
                    form_name.lower() if form == b"header" else form_name,
                    bool(own_only),
                    tuple(hosts.decode().split(",")),
                )
            )
        return cls(entries)

    def request(self, host: str, path: bytes, headers: list[Header]) -> tuple[bytes, list[Header]]:
        """Path and headers as they go out. Raises `RefusedExchange`."""
        self._check_leaks(path, headers)
        bound = [entry for entry in self.entries if entry.belongs_to(host)]
        exchanged = set()
        result = []
        for name, value in headers:
            lower = name.lower()
            for entry in bound:
                changed = _in_header(entry, lower, value)
                if changed != value:
                    exchanged.add(lower)
                    value = changed
            if bound and lower == b"accept-encoding":
                # What comes back is looked through for secrets, and so has to come plain.
                value = b"identity"
            result.append((name, value))
        for entry in bound:
            if entry.form == "query":
                path = _in_query(entry, path)
        if any(entry.own_only for entry in bound):
            for name, _ in headers:
                if name.lower() in CREDENTIALS and name.lower() not in exchanged:
                    raise RefusedExchange(
                        "foreign-credential",
                        f"{name.decode('latin-1')} brings a credential of its own to {host}, where "
                        "only this session's may be used",
                    )
        self._check_strays(host, path, result)
        return path, result

    def body(self, host: str, encoding: bytes) -> Screen:
        """For a request's body towards `host`."""
        pairs: list[tuple[bytes, bytes | None, str]] = [*self._leaks]
        later: list[tuple[bytes, bytes | None, str]] = []
        for entry in self.entries:
            if entry.form == "body" and entry.belongs_to(host):
                later.append((entry.placeholder, entry.value, entry.name))
        return Screen(pairs, later, encoding)

    def response(self, host: str, encoding: bytes) -> Screen:
        """For what comes back from `host`: secrets it reflects become placeholders again."""
        pairs: list[tuple[bytes, bytes | None, str]] = []
        for entry in self.entries:
            for real, fake in zip(forms(entry.value), forms(entry.placeholder), strict=True):
                fits = len(real) == len(fake)
                pairs.append((real, fake if fits else b"x" * len(real), entry.name))
        packed = encoding.lower() in PACKED
        if packed:
            pairs = [(real, None, name) for real, _, name in pairs]
        return Screen(pairs, [], encoding)

    def _check_leaks(self, path: bytes, headers: list[Header]) -> None:
        for data in (path, *(name + b": " + value for name, value in headers)):
            for needle, _, name in self._leaks:
                if needle in data:
                    raise RefusedExchange(
                        "secret-leak", f"the request holds the value of the secret {name}"
                    )
            for decoded in _basic(data.partition(b": ")[2]):
                for needle, _, name in self._leaks:
                    if needle in decoded:
                        raise RefusedExchange(
                            "secret-leak", f"the request holds the value of the secret {name}"
                        )

    def _check_strays(self, host: str, path: bytes, headers: list[Header]) -> None:
        for entry in self.entries:
            if entry.belongs_to(host):
                continue
            for data in (path, *(value for _, value in headers)):
                if entry.placeholder in data or any(
                    entry.placeholder in decoded for decoded in _basic(data)
                ):
                    raise RefusedExchange(
                        "secret-host",
                        f"the secret {entry.name} belongs to {', '.join(entry.hosts)}, not to {host}",
                    )


class Screen:
    """One body on its way."""

    def __init__(
        self,
        pairs: list[tuple[bytes, bytes | None, str]],
        later: list[tuple[bytes, bytes | None, str]],
        encoding: bytes,
    ) -> None:
        packed = encoding.lower() in PACKED
        self._inflater = Inflater(encoding.lower()) if packed else None
        self._inside = Finder(pairs) if packed else None
        self._finder = Finder(pairs)
        # What is put in is not to be found by the search for what may not be there.
        self._exchange = Finder(later) if later else None

    def feed(self, data: bytes, *, last: bool = False) -> bytes:
        """What may go on. Raises `RefusedExchange`."""
        if self._inflater is not None and self._inside is not None:
            content = self._inflater.feed(data)
            if content is None:
                raise RefusedExchange("secret-leak", "a compressed body grows beyond every measure")
            self._found(self._inside.feed(content, last=last)[1])
        data, found = self._finder.feed(data, last=last)
        self._found(found)
        if self._exchange is not None:
            data, _ = self._exchange.feed(data, last=last)
        return data

    def _found(self, name: str) -> None:
        if name:
            raise RefusedExchange("secret-leak", f"a body holds the value of the secret {name}")


def _in_header(entry: Entry, name: bytes, value: bytes) -> bytes:
    if entry.form == "header":
        return value.replace(entry.placeholder, entry.value) if name == entry.form_name else value
    if name != b"authorization":
        return value
    if entry.form == "bearer":
        scheme, _, token = value.partition(b" ")
        # GitHub and GitLab take "token" for the same.
        known = scheme.lower() in (b"bearer", b"token")
        return (
            scheme + b" " + entry.value if known and token.strip() == entry.placeholder else value
        )
    if entry.form == "basic":
        for decoded in _basic(value):
            if entry.placeholder in decoded:
                return b"Basic " + base64.b64encode(decoded.replace(entry.placeholder, entry.value))
    return value


def _in_query(entry: Entry, path: bytes) -> bytes:
    before, mark, query = path.partition(b"?")
    if not mark:
        return path
    wanted = entry.form_name + b"="
    value = urllib.parse.quote_from_bytes(entry.value, safe="").encode()
    escaped = urllib.parse.quote_from_bytes(entry.placeholder, safe="").encode()
    pieces = []
    for piece in query.split(b"&"):
        if piece.startswith(wanted) and piece[len(wanted) :] in (entry.placeholder, escaped):
            piece = wanted + value
        pieces.append(piece)
    return before + b"?" + b"&".join(pieces)


def _basic(value: bytes) -> list[bytes]:
    """What a Basic credential holds. RFC 7617"""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return []
    try:
        return [base64.b64decode(encoded.strip(), validate=True)]
    except (binascii.Error, ValueError):
        return []
