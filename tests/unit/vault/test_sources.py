"""Where secrets come from, and the files that show their placeholders."""

from __future__ import annotations

import json
import os
import sys
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

import pytest

from casemate.errors import UsageError
from casemate.policy.model import CredentialFile, Secret
from casemate.vault import protocol, sources
from casemate.vault.files import TEMPLATES, credential_files
from casemate.vault.sources import Held, definition, read, seal

VALUE = b"ghp_realREAL0123456789"


def secret(**options: Any) -> dict[str, Any]:
    return definition(Secret(**({"name": "TOKEN", "to": ("git.example", "*.x.example")} | options)))


def held(**options: Any) -> list[Held]:
    return read([secret(**options)], {b"TOKEN": VALUE})


def test_environment() -> None:
    """Without a source the variable of the secret's name is read; inside it may have another."""
    (one,) = held(environment="GH_TOKEN")

    assert one.value == VALUE
    assert sources.variables([one]) == [(b"GH_TOKEN", one.placeholder)]
    assert VALUE.decode() not in json.dumps(one.definition)


def test_files(tmp_path: Path) -> None:
    """A file's value loses the end of its line; a pointer leads into JSON."""
    plain, nested = tmp_path / "plain", tmp_path / "nested.json"
    plain.write_bytes(VALUE + b"\n")
    nested.write_text(json.dumps({"a/b": [{"token": VALUE.decode()}]}))

    for source in (f"file:{plain}", f"file:{nested}#/a~1b/0/token"):
        assert read([secret(source=source)], {})[0].value == VALUE


def test_command() -> None:
    """A command runs without a shell, and its output is the value."""
    words = json.dumps([sys.executable, "-c", "import sys; print(sys.argv[1])", "$HOME;abcdef12"])

    assert read([secret(source=f"command:{words}")], {})[0].value == b"$HOME;abcdef12"


def test_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keyring's program is asked for service and user."""
    program = tmp_path / "secret-tool"
    program.write_text('#!/bin/sh\n[ "$1 $3 $5" = "lookup svc me" ] && printf value-of-keyring\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    assert read([secret(source="keyring:svc/me")], {})[0].value == b"value-of-keyring"
    with pytest.raises(UsageError, match="missing.*keyring"):
        read([secret(source="keyring:svc/other")], {})


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("env:OTHER", "export OTHER="),
        ("file:/nonexistent/token", "put the secret into /nonexistent/token"),
        ('command:["true"]', "by hand"),
        ('command:["false"]', "status 1"),
        ('command:["/nonexistent/program"]', "No such file"),
    ],
)
def test_missing(source: str, words: str) -> None:
    """A secret that is not there is named with its source and the way to provide it."""
    with pytest.raises(UsageError, match="TOKEN") as caught:
        read([secret(source=source)], {})

    assert words in caught.value.as_text()


def test_optional() -> None:
    """An optional secret that is not there is left out."""
    assert read([secret(optional=True)], {}) == []


def test_commands_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that does not end is given up."""
    from casemate.vault import programs

    monkeypatch.setattr(programs, "COMMAND_TIMEOUT", 0.2)
    with pytest.raises(UsageError, match="longer"):
        read([secret(source='command:["sleep", "60"]')], {})


def test_sealed() -> None:
    """Values travel in a file that nobody changes any more, in the vault's own layout."""
    (one,) = held()
    descriptor = seal([one])
    try:
        data = os.pread(descriptor, 1 << 16, 0)
        with pytest.raises(PermissionError):
            os.write(descriptor, b"x")
    finally:
        os.close(descriptor)

    assert protocol.unpack(data) == [b"TOKEN", one.placeholder, VALUE]


def file(path: str, content: str = "", copy: str = "") -> CredentialFile:
    return CredentialFile(path, content, copy)


@pytest.mark.parametrize("path", sorted(TEMPLATES))
def test_templates(path: str) -> None:
    """Every template holds the placeholder and not the value."""
    (one,) = held(files=(file(path),))
    ((made, content),) = credential_files([one], "/nonexistent")

    assert made == path
    if "docker" in path:
        content = b64decode(json.loads(content)["auths"]["git.example"]["auth"])
    elif path.endswith("json"):
        json.loads(content)
    assert one.placeholder in content
    assert VALUE not in content


def test_shared_files() -> None:
    """Two secrets that name one file stand in it together."""
    both = [
        secret(name=name, files=(file("~/.aws/credentials"),))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    ]
    variables = {b"AWS_ACCESS_KEY_ID": b"AKIAABCDEFGHIJKLMNOP", b"AWS_SECRET_ACCESS_KEY": VALUE}
    first, second = read(both, variables)

    assert credential_files([first, second], "/") == [
        (
            "~/.aws/credentials",
            b"[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n"
            % (first.placeholder, second.placeholder),
        )
    ]


def test_content() -> None:
    """A content of the user's own gets the placeholder where its name stands."""
    (one,) = held(files=(file("~/.x", "token=${TOKEN} ${OTHER}\n"),))

    assert credential_files([one], "/") == [("~/.x", b"token=%s ${OTHER}\n" % one.placeholder)]


def test_copies(tmp_path: Path) -> None:
    """A copy of the user's file has the placeholder in the place of every form of the value."""
    (tmp_path / ".x").write_bytes(b"a=" + VALUE + b"\nb=" + b64encode(b"u:" + VALUE) + b"\n")
    (one,) = held(files=(file("~/.x", copy="~/.x"),))

    ((path, content),) = credential_files([one], str(tmp_path))

    assert path == "~/.x"
    assert content.startswith(b"a=" + one.placeholder + b"\nb=")
    assert VALUE not in b64decode(content.split(b"b=")[1])


def test_copies_that_would_leak(tmp_path: Path) -> None:
    """A file in which a secret would remain is not copied."""
    hidden = "".join(f"\\u{byte:04x}" for byte in VALUE)
    (tmp_path / ".x").write_text(json.dumps({"k": 1}) + hidden)
    (one,) = held(files=(file("~/.x", copy="~/.x"),))

    with pytest.raises(UsageError, match="TOKEN"):
        credential_files([one], str(tmp_path))


def test_unknown_templates() -> None:
    """A file casemate knows nothing of needs a content."""
    (one,) = held(files=(file("~/.unknown"),))

    with pytest.raises(UsageError, match=r"~/\.unknown"):
        credential_files([one], "/")


def test_the_start_imports_little() -> None:
    """Reading variables, drawing placeholders and filling templates loads no expensive module."""
    import subprocess

    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from casemate.vault import files, sources\n"
        "d = {'name': 'T', 'source': 'env:T', 'environment': 'T', 'to': ['a.example'],"
        " 'files': [['~/.netrc', '', '']]}\n"
        "held = sources.read([d], {b'T': b'abcdefgh12345'})\n"
        "sources.seal(held); assert files.credential_files(held, '/')\n"
        "print(*sys.modules)"
    )
    package = str(Path(sources.__file__).parents[2])
    command = [sys.executable, "-I", "-S", "-c", script, package]
    loaded = set(subprocess.check_output(command, text=True).split())

    heavy = {"re", "json", "dataclasses", "typing", "subprocess", "hashlib", "asyncio", "shutil"}
    assert not loaded & heavy
