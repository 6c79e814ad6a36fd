"""Package indexes: which ones the user's own tools are set up to use, as endpoints and variables.

Nothing is taken from the project, and no index is known by heart: one that no configuration names
is a note, with the line that would allow it. Credentials in an address stay outside.
Sources: pip "Configuration", npm "npmrc", cargo "Configuration", go help environment.
"""

from __future__ import annotations

import configparser
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from casemate.errors import PolicyError
from casemate.plan.host import Host
from casemate.policy.endpoints import parse_endpoint
from casemate.policy.model import Endpoint, Origin

METHODS = "GET,HEAD"
"""An index is read; nobody uploads to one from inside."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the tools of the wanted ecosystems are set up to use."""

    endpoints: tuple[Endpoint, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Index:
    """One index: its address without credentials, and where it is named."""

    url: str
    source: str
    had_credentials: bool


def find(
    ecosystems: tuple[str, ...], host: Host, home: str, environment: Mapping[str, str]
) -> Found:
    """The indexes of the ecosystems, each of `ECOSYSTEMS`."""
    endpoints: dict[str, Endpoint] = {}
    variables: dict[str, str] = {}
    notes = []
    for name in ecosystems:
        look, tell = ECOSYSTEMS[name]
        indexes = [
            index for url, source in look(host, home, environment) if (index := _read(url, source))
        ]
        if not indexes:
            notes.append(
                f"no index is configured for {name}: name its host, as in "
                f'network.allow = ["HOST:443 {METHODS}"]'
            )
            continue
        for index in indexes:
            rule = _endpoint(index)
            if rule is not None:
                endpoints.setdefault(rule.text, rule)
            if index.had_credentials:
                notes.append(
                    f"{index.source}: the credentials in the address of an index stay outside"
                )
        variables |= tell([index.url for index in indexes])
    return Found(tuple(endpoints.values()), variables, tuple(notes))


def _read(url: str, source: str) -> _Index | None:
    parts = urlsplit(url.strip().removeprefix("sparse+"))
    try:
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    shown = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = shown if port is None else f"{shown}:{port}"
    plain = parts._replace(netloc=place).geturl()
    return _Index(plain, source, "@" in parts.netloc)


def _endpoint(index: _Index) -> Endpoint | None:
    parts = urlsplit(index.url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    word = "" if port in (80, 443) else f" {'tls' if parts.scheme == 'https' else 'http'}"
    host = parts.netloc.rpartition(":")[0] if parts.port else parts.netloc
    try:
        return parse_endpoint(f"{host}:{port}{word} {METHODS}", origin=Origin(index.source))
    except PolicyError:
        return None


def _python(host: Host, home: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        for url in environment.get(name, "").split():
            yield url, name
    own = environment.get("PIP_CONFIG_FILE", "")
    files = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", f"{home}/.pip/pip.conf"]
    files += [f"{home}/.config/pip/pip.conf"] if own == "" else [own]
    for path in reversed(files):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(_text(host, path))
        except configparser.Error:
            continue
        for option in ("index-url", "extra-index-url"):
            for url in parser.get("global", option, fallback="").split():
                yield url, path


def _node(host: Host, home: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if environment.get(name):
            yield environment[name], name
    path = environment.get("NPM_CONFIG_USERCONFIG") or f"{home}/.npmrc"
    for line in _text(host, path).splitlines():
        name, sign, value = line.partition("=")
        name = name.strip()
        if sign and (name == "registry" or (name.startswith("@") and name.endswith(":registry"))):
            yield value.strip().strip("\"'"), path


def _rust(host: Host, home: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    base = environment.get("CARGO_HOME") or f"{home}/.cargo"
    for path in (f"{base}/config.toml", f"{base}/config"):
        try:
            document = tomllib.loads(_text(host, path))
        except tomllib.TOMLDecodeError:
            continue
        for table, key in (("source", "registry"), ("registries", "index")):
            entries = document.get(table)
            for entry in entries.values() if isinstance(entries, dict) else ():
                if isinstance(entry, dict) and isinstance(entry.get(key), str):
                    yield entry[key], path


def _go(host: Host, home: str, environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    named = environment.get("GOPROXY", "")
    source = "GOPROXY"
    if not named:
        source = f"{home}/.config/go/env"
        for line in _text(host, source).splitlines():
            if line.startswith("GOPROXY="):
                named = line.removeprefix("GOPROXY=")
    for url in named.replace("|", ",").split(","):
        yield url, source


def _text(host: Host, path: str) -> str:
    try:
        content = host.read(path)
    except OSError:
        return ""
    return (content or b"").decode("utf-8", "replace")


Look = Callable[[Host, str, Mapping[str, str]], Iterator[tuple[str, str]]]
Tell = Callable[[list[str]], dict[str, str]]


def _pip_variables(urls: list[str]) -> dict[str, str]:
    found = {"PIP_INDEX_URL": urls[0], "UV_DEFAULT_INDEX": urls[0]}
    return found | ({"PIP_EXTRA_INDEX_URL": " ".join(urls[1:])} if urls[1:] else {})


ECOSYSTEMS: dict[str, tuple[Look, Tell]] = {
    "python": (_python, _pip_variables),
    "node": (_node, lambda urls: {"npm_config_registry": urls[0]}),
    "rust": (_rust, lambda urls: {}),
    "go": (_go, lambda urls: {"GOPROXY": ",".join(urls)}),
}
"""How the indexes of an ecosystem are found, and what its tools are told of them."""
