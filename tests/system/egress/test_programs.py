"""Real programs reach approved endpoints without any setting: by proxy, and not knowing of one."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.internet import Internet
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

UNSET = "unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY; "
WAYS = pytest.mark.parametrize("way", ["", UNSET], ids=["by proxy", "transparent"])
RULES = pytest.mark.parametrize("rule", ["", " GET,HEAD"], ids=["tunnel", "inspected"])


@pytest.fixture
def internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    """Hosts on loopback."""
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    directory = tmp_path / "internet"
    directory.mkdir()
    made = Internet(directory)
    yield made
    made.close()


def trusting(perimeter: Perimeter, internet: Internet, rule: str) -> str:
    """A tunnel ends at the server itself, so the program must trust the test's authority."""
    if rule:
        return ""
    (perimeter.project / "authority.crt").write_bytes(internet.authority.path.read_bytes())
    names = ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "NODE_EXTRA_CA_CERTS", "PIP_CERT")
    return "".join(f"export {name}=$PWD/authority.crt; " for name in (*names, "npm_config_cafile"))


@WAYS
@RULES
@pytest.mark.needs("curl", "node")
def test_clients(perimeter: Perimeter, internet: Internet, way: str, rule: str) -> None:
    """curl, Python and node fetch the same page."""
    server = internet.host("web.example")
    script = (
        f"{way}{trusting(perimeter, internet, rule)}"
        "curl -fsS -m 20 https://web.example/curl >/dev/null; "
        "python3 -c 'import urllib.request as r; r.urlopen(\"https://web.example/python\").read()'; "
        'node -e \'fetch("https://web.example/node").then(r => r.text())'
        ".catch(e => { console.error(e); process.exit(1) })'"
    )
    perimeter.script(script, options=internet.options(f"web.example{rule}"))
    assert [asked["path"] for asked in server.asked] == ["/curl", "/python", "/node"]


@WAYS
@RULES
@pytest.mark.needs("git")
def test_git(perimeter: Perimeter, internet: Internet, tmp_path: Path, way: str, rule: str) -> None:
    """git clones over https."""
    origin = tmp_path / "origin"
    run = ["git", "-C", str(origin), "-c", "user.name=x", "-c", "user.email=x@x.example"]
    subprocess.run(["git", "init", "-q", origin], check=True)
    (origin / "file").write_text("content\n")
    subprocess.run([*run, "add", "."], check=True)
    subprocess.run([*run, "commit", "-qm", "first"], check=True)
    subprocess.run([*run, "update-server-info"], check=True)
    server = internet.host("git.example")
    for path in (origin / ".git").rglob("*"):
        if path.is_file():
            server.files[f"/me/it.git/{path.relative_to(origin / '.git')}"] = path.read_bytes()
    script = f"{way}{trusting(perimeter, internet, rule)}git clone -q https://git.example/me/it.git; cat it/file"
    options = internet.options(f"git.example{rule}")
    assert perimeter.script(script, options=options) == "content\n"


@WAYS
def test_pip(
    perimeter: Perimeter, internet: Internet, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """pip installs from the index that the user's own configuration names."""
    server = internet.host("index.example")
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("casemate_probe.py", "print('it works')\n")
        file.writestr(
            "casemate_probe-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: casemate-probe\nVersion: 1.0\n",
        )
        file.writestr(
            "casemate_probe-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr("casemate_probe-1.0.dist-info/RECORD", "")
    name = "casemate_probe-1.0-py3-none-any.whl"
    server.files["/simple/casemate-probe/"] = f'<a href="../../files/{name}">{name}</a>'.encode()
    server.files[f"/files/{name}"] = wheel.getvalue()
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for variable in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(variable, raising=False)
    script = (
        f"{way}export PIP_CONFIG_FILE=/dev/null; python3 -m venv /tmp/v; "
        "/tmp/v/bin/python -m pip install -q casemate-probe; "
        "/tmp/v/bin/python -m casemate_probe"
    )
    options = (*internet.options()[2:], "--set", 'extends=["python"]')
    assert perimeter.script(script, options=options, timeout=120) == "it works\n"


@WAYS
@pytest.mark.needs("node")
def test_npm(
    perimeter: Perimeter, internet: Internet, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """npm installs from the registry that the user's own configuration names."""
    import shutil

    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    server = internet.host("registry.example")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as file:
        for path, text in (
            ("package/package.json", '{"name": "casemate-probe", "version": "1.0.0"}'),
            ("package/index.js", "console.log('it works')"),
        ):
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text.encode()))
    digest = base64.b64encode(hashlib.sha512(packed.getvalue()).digest()).decode()
    url = "https://registry.example/casemate-probe/-/casemate-probe-1.0.0.tgz"
    version = {
        "name": "casemate-probe",
        "version": "1.0.0",
        "dist": {"tarball": url, "integrity": f"sha512-{digest}"},
    }
    about = {
        "name": "casemate-probe",
        "dist-tags": {"latest": "1.0.0"},
        "versions": {"1.0.0": version},
    }
    server.files["/casemate-probe"] = json.dumps(about).encode()
    server.files["/casemate-probe/-/casemate-probe-1.0.0.tgz"] = packed.getvalue()
    monkeypatch.setenv("npm_config_registry", "https://registry.example/")
    script = (
        f"{way}mkdir /tmp/n; cd /tmp/n; npm install --silent --no-audit --no-fund casemate-probe; "
        "node -e 'require(\"casemate-probe\")'"
    )
    options = (*internet.options()[2:], "--set", 'extends=["node"]')
    assert perimeter.script(script, options=options, timeout=120) == "it works\n"


@pytest.mark.needs("keytool")
def test_java(perimeter: Perimeter, internet: Internet) -> None:
    """A Java program, which reads neither PEM nor variables, trusts the session's authority."""
    server = internet.host("web.example")
    fetch = "keytool -printcrl -file https://web.example/java >&2 || true; "
    listed = "keytool -list -cacerts -storepass changeit 2>/dev/null | grep -c trustedCertEntry"
    options = internet.options("web.example GET,HEAD")
    count = perimeter.script(fetch + listed, options=options, timeout=120)
    assert [asked["path"] for asked in server.asked] == ["/java"]
    assert int(count) > 1


@pytest.mark.needs("curl")
def test_without_variables(perimeter: Perimeter, internet: Internet) -> None:
    """A program started with an empty environment finds the way and the authorities all the same."""
    server = internet.host("web.example")
    script = "env -i /usr/bin/curl -fsS -m 20 -o /dev/null https://web.example/curl"
    perimeter.script(script, options=internet.options("web.example GET"))
    assert [asked["path"] for asked in server.asked] == ["/curl"]
