"""Credential files for the sandbox: what programs expect in the home, with placeholders in it.

On the start path; copying a file of the user's imports more. Values are never part of a template.
"""

from __future__ import annotations

import os
from binascii import b2a_base64

from casemate.errors import UsageError
from casemate.vault.forms import json_escaped, replacements

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from casemate.vault.sources import Held

COPY_MAX = 1 << 20
"""Bytes of a file that is copied, at the most."""
_LATER = 4102444800
"""A time far off (2100), in seconds: so that no client tries to renew a placeholder."""


def credential_files(held: Sequence[Held], home: str) -> list[tuple[str, bytes]]:
    """Paths inside (`~/...`) and contents, in the order in which they are first named.

    `home` is the user's real home, for files that are copied. Secrets that share a file stand in it
    together. Raises `UsageError` for a file casemate knows nothing of, and for a copy in which a
    secret would remain.
    """
    made: dict[str, bytes] = {}
    shared: dict[str, list[Held]] = {}
    for one in held:
        for path, content, copy in one.definition["files"]:
            if content:
                text = content.encode().replace(b"${" + one.name.encode() + b"}", one.placeholder)
                made[path] = made.get(path, b"") + text
            elif copy:
                made[path] = _copied(held, os.path.join(home, copy[2:]))
            elif path in TEMPLATES:
                made.setdefault(path, b"")
                shared.setdefault(path, []).append(one)
            else:
                raise UsageError(
                    f"secrets.{one.name}.files: casemate has no template for {path}",
                    hint='give it a content: { path = "...", content = "token=${NAME}" }; known: '
                    + ", ".join(TEMPLATES),
                )
    for path, those in shared.items():
        made[path] += TEMPLATES[path](those)
    return list(made.items())


def _copied(held: Sequence[Held], path: str) -> bytes:
    from casemate.vault.scan import Needles, find

    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read(COPY_MAX + 1)
    except OSError as error:
        raise UsageError(f"the credential file {path}: {error.strerror}") from error
    if len(data) > COPY_MAX:
        raise UsageError(f"the credential file {path} is larger than {COPY_MAX} bytes")
    for one in held:
        for secret, stand_in in replacements(one.value, one.placeholder).items():
            data = data.replace(secret, stand_in)
    if name := find(Needles((one.name, one.value) for one in held), data):
        raise UsageError(
            f"{path} holds the secret {name} in a form that cannot be replaced",
            hint="write the file with content instead of copy",
        )
    return data


def _per_host(form: Callable[[bytes, bytes], bytes]) -> Callable[[list[Held]], bytes]:
    """A template with one entry for every secret and host; wildcards have no entry."""

    def fill(held: list[Held]) -> bytes:
        return b"".join(form(host, one.placeholder) for one in held for host in _hosts(one))

    return fill


def _hosts(one: Held) -> list[bytes]:
    return [host.encode() for host in one.definition["to"] if "*" not in host]


def _quoted(text: bytes) -> bytes:
    return b'"' + json_escaped(text, slashes=False) + b'"'


def _codex(held: list[Held]) -> bytes:
    return b'{"OPENAI_API_KEY": ' + _quoted(held[0].placeholder) + b"}\n"


def _claude(held: list[Held]) -> bytes:
    return (
        b'{"claudeAiOauth": {"accessToken": '
        + _quoted(held[0].placeholder)
        + b', "refreshToken": "", "expiresAt": %d, "scopes": ["user:inference"]}}\n'
        % (_LATER * 1000)
    )


def _docker(held: list[Held]) -> bytes:
    entries = [
        _quoted(host)
        + b': {"auth": '
        + _quoted(b2a_base64(b"token:" + one.placeholder, newline=False))
        + b"}"
        for one in held
        for host in _hosts(one)
    ]
    return b'{"auths": {' + b", ".join(entries) + b"}}\n"


def _pypirc(held: list[Held]) -> bytes:
    hosts = [(host, one) for one in held for host in _hosts(one)]
    text = b"[distutils]\nindex-servers =\n" + b"".join(b"    %s\n" % host for host, _ in hosts)
    for host, one in hosts:
        text += b"\n[%s]\nrepository = https://%s/legacy/\n" % (host, host)
        text += b"username = __token__\npassword = %s\n" % one.placeholder.replace(b"%", b"%%")
    return text


def _aws(held: list[Held]) -> bytes:
    """The keys of the file are the variables' names in lower case."""
    return b"[default]\n" + b"".join(
        b"%s = %s\n" % (one.definition["environment"].lower().encode(), one.placeholder)
        for one in held
    )


TEMPLATES: dict[str, Callable[[list[Held]], bytes]] = {
    "~/.codex/auth.json": _codex,
    "~/.claude/.credentials.json": _claude,
    "~/.netrc": _per_host(
        lambda host, token: b"machine %s login x-access-token password %s\n" % (host, token)
    ),
    "~/.npmrc": _per_host(lambda host, token: b"//%s/:_authToken=%s\n" % (host, token)),
    "~/.config/gh/hosts.yml": _per_host(
        lambda host, token: (
            b"%s:\n    oauth_token: %s\n    git_protocol: https\n"
            % (host.removeprefix(b"api."), token)
        )
    ),
    "~/.git-credentials": _per_host(
        lambda host, token: b"https://x-access-token:%s@%s\n" % (token, host)
    ),
    "~/.pypirc": _pypirc,
    "~/.docker/config.json": _docker,
    "~/.aws/credentials": _aws,
}
"""Files by their paths inside, and what makes them of the secrets that name them."""
