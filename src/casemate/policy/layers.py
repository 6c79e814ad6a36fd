"""The layers of policy, and the one policy they make.

From the weakest: what casemate ships, the organisation, the user, the project, the command line.
A later layer says more precisely what an earlier one left open, with three exceptions:

- Nothing takes back what the organisation hides, protects or denies.
- A key that a layer lists in `locked` can only be narrowed by those after it.
- A project policy that the user has not trusted can only narrow.

What an exception leaves out is never an error and never silent: it comes back as a `Notice`.
`docs/policy.md` has the rules in full.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from casemate.errors import PolicyError
from casemate.policy import presets
from casemate.policy.files import Content, read_regular
from casemate.policy.locations import PROJECT_POLICY, Locations
from casemate.policy.model import (
    Environment,
    Files,
    Limits,
    Network,
    Origin,
    Pattern,
    Policy,
    Workspace,
)
from casemate.policy.reader import SIZE_MAX, Layer, Setting, read
from casemate.policy.schema import KEYS
from casemate.policy.trust import TrustStore
from casemate.policy.values import NoLimit

COMMAND_LINE = "command line"

_NEGATABLE = ("workspace.hide", "workspace.protect")


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a layer asked for and did not get."""

    message: str
    origin: Origin
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.origin}: {self.message}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """The policy in force and what was left out of it."""

    policy: Policy
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Ranked:
    """A layer and its standing."""

    layer: Layer
    trusted: bool = True
    final: bool = False
    """True of the organisation: what it hides, protects and denies stays so."""


def load(
    project: str,
    locations: Locations,
    *,
    explicit: str | None = None,
    given: Layer | None = None,
    overrides: Layer | None = None,
    seen: Callable[[str], object] = lambda path: None,
) -> Loaded:
    """The policy for a project.

    `project` is its real path. `explicit` is a policy file named on the command line: it takes
    the place of the project's own, and is trusted unless it lies in the project. `given` takes
    that place too: a policy that a program brings with it. `overrides` is the command line's
    layer. `seen` is told every path just before it is read, existing or not.
    Raises `PolicyError` for a file that is wrong, unsafe or unreadable.
    """
    upper = [
        layer
        for layer in (
            _organisation(locations.organisation_policy, seen),
            _user(locations.user_policy, seen),
        )
        if layer is not None
    ]
    workspace = [project]
    if explicit is not None:
        roots = combine(upper).policy.workspace.roots
        workspace += [os.path.realpath(_expanded(root.path, locations.home)) for root in roots]
    own = Ranked(given) if given is not None else None
    if own is None:
        own = _project(project, explicit, workspace, TrustStore(locations.state), seen)
    lower = [layer for layer in (own, Ranked(overrides) if overrides else None) if layer]
    return combine([*upper, *lower])


def _expanded(path: str, home: str) -> str:
    return home + path[1:] if path.startswith("~") else path


def combine(layers: list[Ranked]) -> Loaded:
    """Merge layers, the weakest first, over what casemate ships. Pure."""
    merge = _Merge()
    for name in presets.ALWAYS:
        merge.preset(name, Ranked(presets.load(name)))
    for ranked in layers:
        merge.add(ranked)
    return Loaded(assemble(merge.finish(), tuple(reversed(merge.sources))), tuple(merge.notices))


class _Merge:
    """The fold over layers."""

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.locks: dict[str, Origin] = {}
        self.finals: dict[str, tuple[Pattern, ...]] = {}
        self.notices: list[Notice] = []
        self.sources: list[str] = []

    def add(self, ranked: Ranked) -> None:
        layer = ranked.layer
        for name in layer.extends:
            if ranked.trusted:
                self.preset(name, replace(ranked, layer=presets.load(name), final=False))
            elif f"preset {name}" not in self.sources:
                origin = Origin(layer.source, key="extends")
                self._ignored(f'preset "{name}"', origin, ranked, None)
        for key, setting in layer.settings.items():
            self._set(key, setting, ranked)
        # A layer's locks bind those after it, not itself.
        for key, origin in layer.locked:
            self.locks.setdefault(key, origin)
        self.sources.append(layer.source)

    def preset(self, name: str, ranked: Ranked) -> None:
        if f"preset {name}" not in self.sources:
            self.add(ranked)

    def _set(self, key: str, setting: Setting, ranked: Ranked) -> None:
        value: Any = setting.value
        if ranked.final and key in _NEGATABLE:
            value = self._final(key, setting)
        merge = KEYS[key].merge
        old = self.settings.get(key, _DEFAULTS[key])
        lock = self.locks.get(key)
        if ranked.trusted and lock is None:
            self.settings[key] = merge.widen(old, value)
            return
        self.settings[key], ignored = merge.narrow(old, value)
        for text in ignored:
            self._ignored(text, setting.origin, ranked, lock)

    def _final(self, key: str, setting: Setting) -> tuple[Pattern, ...]:
        patterns: tuple[Pattern, ...] = setting.value  # type: ignore[assignment]
        for pattern in patterns:
            if pattern.negated:
                raise PolicyError(
                    f'"{pattern.text}": an organisation\'s pattern cannot hold an exception',
                    path=pattern.origin.source,
                    line=pattern.origin.line,
                    key=pattern.origin.key,
                    hint="nothing takes it back, so write what is to stay hidden more narrowly",
                )
        self.finals[key] = self.finals.get(key, ()) + patterns
        return ()

    def _ignored(self, text: str, origin: Origin, ranked: Ranked, lock: Origin | None) -> None:
        if not ranked.trusted:
            source = ranked.layer.source
            why = "the file is not trusted and can only narrow"
            remedy = f"casemate trust {source}"
        else:
            why = f"locked by {lock}"
            remedy = ""
        self.notices.append(Notice(f"{text} ignored: {why}", origin, remedy))

    def finish(self) -> dict[str, Any]:
        """The settings, with the organisation's patterns where the last word is said."""
        for key, patterns in self.finals.items():
            self.settings[key] = self.settings.get(key, ()) + patterns
        return self.settings


def assemble(settings: Mapping[str, Any], sources: tuple[str, ...]) -> Policy:
    """The policy value of merged settings; what they do not mention has its default."""
    said = {
        key: None if isinstance(value, NoLimit) else value
        for key, value in (_DEFAULTS | dict(settings)).items()
    }
    tables: dict[str, dict[str, Any]] = {}
    for key, value in said.items():
        table, _, name = key.rpartition(".")
        tables.setdefault(table, {})[name] = value
    top = tables[""]
    return Policy(
        version=top["version"],
        tier=top["tier"],
        vault=top["vault"],
        strict=top["strict"],
        waive=top["waive"],
        secrets=top["secrets"],
        workspace=Workspace(**tables["workspace"]),
        files=Files(**tables["files"]),
        network=Network(**tables["network"]),
        limits=Limits(**tables["limits"]),
        environment=Environment(
            passed=tables["environment"]["pass"], values=tables["environment"]["set"]
        ),
        kernel_allow=tables["kernel"]["allow"],
        sources=sources,
    )


def layer_of(policy: Policy, source: str) -> Layer:
    """A policy value as a layer: what differs from the defaults, as if a file had said it."""
    origin = Origin(source)
    said = {
        key: Setting(NoLimit() if value is None else value, origin)
        for key, value in _values(policy).items()
        if value != _DEFAULTS[key]
    }
    return Layer(source=source, settings=said)


def _values(policy: Policy) -> dict[str, Any]:
    """What a policy says, by key."""
    places = {
        "environment.pass": policy.environment.passed,
        "environment.set": policy.environment.values,
        "kernel.allow": policy.kernel_allow,
    }
    found = {}
    for key in KEYS:
        value: Any = policy
        if key not in places:
            for name in key.split("."):
                value = getattr(value, name)
        found[key] = places.get(key, value)
    return found


_DEFAULTS = _values(Policy())


def _organisation(path: str, seen: Callable[[str], object]) -> Ranked | None:
    seen(path)
    content = read_regular(path, SIZE_MAX, follow=True)
    if content is None:
        return None
    if content.owner != 0 or content.mode & 0o022:
        raise PolicyError(
            "an organisation's policy must belong to root and be writable by root alone",
            path=path,
            hint=f"chown root:root {path} && chmod 644 {path}",
        )
    return Ranked(_layer(content, path), final=True)


def _user(path: str, seen: Callable[[str], object]) -> Ranked | None:
    seen(path)
    content = read_regular(path, SIZE_MAX, follow=True)
    if content is None:
        return None
    if content.owner not in (0, os.geteuid()) or content.mode & 0o002:
        raise PolicyError(
            "your policy must belong to you and not be writable by everyone",
            path=path,
            hint=f"chmod o-w {path}",
        )
    return Ranked(_layer(content, path))


def _project(
    project: str,
    explicit: str | None,
    workspace: list[str],
    store: TrustStore,
    seen: Callable[[str], object],
) -> Ranked | None:
    path = os.path.join(project, PROJECT_POLICY)
    if explicit is not None:
        path = os.path.realpath(explicit)
    inside = any(path.startswith(root.rstrip("/") + "/") for root in workspace)
    seen(path)
    content = read_regular(path, SIZE_MAX)
    if content is None:
        if explicit is not None:
            raise PolicyError("there is no such file", path=explicit)
        return None
    if not inside:
        return Ranked(_layer(content, path))
    seen(store.path)
    return Ranked(_layer(content, path), trusted=store.trusts(path, content.data))


def _layer(content: Content, path: str) -> Layer:
    return read(content.data, source=path, base=os.path.dirname(path))
