"""Puts secrets in the place of their placeholders in the head of a request. Pure.

A placeholder is exchanged only towards a host of its secret and only where the secret's form says:
`bearer` in Authorization of any scheme, `basic` within Basic, the others in what they name.
"""

from __future__ import annotations

from binascii import Error, a2b_base64, b2a_base64

from casemate.errors import RefusedError
from casemate.policy.hosts import covers
from casemate.vault import sigv4
from casemate.vault.forms import url_escaped
from casemate.vault.scan import percent_decoded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Headers = list[tuple[bytes, bytes]]

CREDENTIAL_HEADERS = frozenset(
    (
        *(b"authorization", b"proxy-authorization", b"cookie", b"x-api-key", b"api-key"),
        *(b"x-goog-api-key", b"x-auth-token", b"private-token", b"job-token", b"deploy-token"),
        *(b"x-amz-security-token", b"x-access-token", b"x-functions-key", b"x-github-token"),
    )
)
CREDENTIAL_FIELDS = frozenset(
    (
        *(b"access_token", b"api_key", b"apikey", b"api-key", b"key", b"token", b"auth"),
        *(b"private_token", b"job_token", b"sig", b"signature", b"x-amz-signature"),
        *(b"x-amz-credential", b"x-goog-signature"),
    )
)
"""Headers and query fields, in lower case, in which services look for credentials."""
_BASIC_FILLERS = (b"", b"x-oauth-basic")


class Credential:
    """A secret with its placeholder, its form and its hosts."""

    __slots__ = ("form", "form_name", "hosts", "name", "own_only", "placeholder", "value")

    def __init__(
        self,
        name: str,
        placeholder: bytes,
        value: bytes,
        *,
        hosts: Sequence[str],
        form: str = "bearer",
        form_name: str = "",
        own_only: bool = False,
    ) -> None:
        self.name, self.placeholder, self.value = name, placeholder, value
        self.hosts, self.form, self.own_only = tuple(hosts), form, own_only
        self.form_name = form_name.lower().encode()

    def belongs(self, host: str) -> bool:
        """Whether the secret may go to the host, a name in normal form."""
        return any(covers(pattern, host) for pattern in self.hosts)


class Exchange:
    """One request towards one host."""

    def __init__(self, credentials: Iterable[Credential], host: str) -> None:
        self._host = host
        self._own: list[Credential] = []
        self._strangers: list[Credential] = []
        for credential in credentials:
            (self._own if credential.belongs(host) else self._strangers).append(credential)
        self._strict = next((each for each in self._own if each.own_only), None)
        self._presented = False

    def request(
        self, method: bytes, path: bytes, headers: Headers, body: bytes | None
    ) -> tuple[bytes, Headers]:
        """Path and headers as they go out. Raises `RefusedError`."""
        self._refuse_strangers(path, headers)
        keys = [each for each in self._own if each.form == "sigv4"]
        if keys and sigv4.is_signed(path, headers):
            return self._signed(keys, method, path, headers, body)
        head, mark, query = path.partition(b"?")
        if mark:
            query = b"&".join(self._field(part) for part in query.split(b"&"))
        headers = [(name, self._header(name.lower(), value)) for name, value in headers]
        if self._strict and not self._presented and self._strict.form != "body":
            raise self._foreign("carries no credential of yours")
        if self._own:
            # The scrubber of the answer has to see plain text.
            headers = [pair for pair in headers if pair[0].lower() != b"accept-encoding"]
            headers.append((b"accept-encoding", b"identity"))
        return head + mark + query, headers

    def _signed(
        self,
        keys: list[Credential],
        method: bytes,
        path: bytes,
        headers: Headers,
        body: bytes | None,
    ) -> tuple[bytes, Headers]:
        def replace(text: bytes) -> bytes:
            for each in keys:
                text = text.replace(each.placeholder, each.value)
                text = text.replace(
                    url_escaped(each.placeholder, upper=True), url_escaped(each.value, upper=True)
                )
            return text

        request = sigv4.Signed(method, self._host.encode(), path, headers)
        pairs = [(each.placeholder, each.value) for each in keys]
        signed = sigv4.resign(request, body, pairs, replace)
        if signed is None:
            raise self._foreign("is signed with a key that is not yours")
        return signed

    def _header(self, name: bytes, value: bytes) -> bytes:
        exact = False
        for each in self._own:
            if each.form == "header" and name == each.form_name:
                exact |= each.placeholder in (value.strip(), value.strip().rpartition(b" ")[2])
                value = value.replace(each.placeholder, each.value)
        if name == b"authorization" and not exact:
            value, exact = self._authorization(value)
        sensitive = name in CREDENTIAL_HEADERS or self._names_own("header", name)
        if self._strict and sensitive and not exact:
            raise self._foreign(f"carries another credential in {name.decode('latin-1')}")
        self._presented |= exact
        return value

    def _authorization(self, value: bytes) -> tuple[bytes, bool]:
        """The value exchanged, and whether it is nothing but a credential of the user's."""
        scheme, blank, rest = value.strip().partition(b" ")
        basic = scheme.lower() == b"basic"
        text = _basic(rest) if basic else rest.strip()
        exact = False
        for each in self._own:
            if each.form == "bearer" or (basic and each.form == "basic"):
                if basic:
                    user, _, password = text.partition(b":")
                    exact |= each.placeholder in (password, text)
                    exact |= user == each.placeholder and password in _BASIC_FILLERS
                else:
                    exact |= text == each.placeholder
                text = text.replace(each.placeholder, each.value)
        if basic and text != _basic(rest):
            text = b2a_base64(text, newline=False)
        elif basic:
            text = rest
        return scheme + blank + text, exact

    def _field(self, part: bytes) -> bytes:
        name, equals, value = part.partition(b"=")
        plain = percent_decoded(name).lower()
        exact = False
        for each in self._own:
            if each.form == "query" and plain == each.form_name:
                exact |= percent_decoded(value) == each.placeholder
                value = percent_decoded(value).replace(each.placeholder, each.value)
                value = url_escaped(value, upper=True)
        sensitive = plain in CREDENTIAL_FIELDS or self._names_own("query", plain)
        if self._strict and sensitive and not exact:
            raise self._foreign(f"carries another credential in {plain.decode('latin-1')}=")
        self._presented |= exact
        return name + equals + value

    def _names_own(self, form: str, name: bytes) -> bool:
        """Whether one of the host's secrets travels in the header or query field of that name."""
        return any(each.form == form and each.form_name == name for each in self._own)

    def _refuse_strangers(self, path: bytes, headers: Headers) -> None:
        texts = [path, percent_decoded(path), *(value for _, value in headers)]
        for name, value in headers:
            scheme, _, rest = value.strip().partition(b" ")
            if name.lower() == b"authorization" and scheme.lower() == b"basic":
                texts.append(_basic(rest))
        for each in self._strangers:
            if any(each.placeholder in text for text in texts):
                raise RefusedError(
                    f"the secret {each.name} does not belong to {self._host}",
                    code="secret-host",
                    rule=f"secrets.{each.name}",
                    allow=f'[secrets.{each.name}] to = ["{self._host}"]',
                    hint="the value you have is a placeholder; it works only towards "
                    + ", ".join(each.hosts),
                )

    def _foreign(self, what: str) -> RefusedError:
        name = self._strict.name if self._strict else next(each.name for each in self._own)
        return RefusedError(
            f"the request to {self._host} {what}",
            code="foreign-credential",
            rule=f"secrets.{name}",
            allow=f"[secrets.{name}] own_only = false" if self._strict else "",
            hint=f"use the credential in the variable of {name}",
        )


def _basic(text: bytes) -> bytes:
    """What Basic encodes; empty for what is not base64. Source: RFC 7617."""
    try:
        return a2b_base64(text.strip())
    except Error:
        return b""
