"""The plan as a value: every mount, mask, limit and name, resolved and ordered.

Two machines with the same facts make the same plan from the same policy. A tier executes the
steps in order and adds nothing of its own. Paths are absolute; sizes bytes; times seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from casemate.policy.model import (
    Endpoint,
    Limits,
    Network,
    Pattern,
    Secret,
    VaultName,
    WorkspaceMode,
)


@dataclass(frozen=True, slots=True)
class Directory:
    """An empty directory in the sandbox's root."""

    target: str
    mode: int
    reason: str


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link in the sandbox's root, as /bin -> usr/bin."""

    target: str
    destination: str
    reason: str


@dataclass(frozen=True, slots=True)
class File:
    """A file made for the sandbox, as /etc/passwd; read-only."""

    target: str
    content: bytes
    mode: int
    reason: str


@dataclass(frozen=True, slots=True)
class Bind:
    """A host path made visible. Always nosuid and nodev."""

    source: str
    target: str
    writable: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Scratch:
    """A private writable directory on the session's in-memory file system."""

    target: str
    mode: int
    reason: str


@dataclass(frozen=True, slots=True)
class Root:
    """A project root, mounted at its own path. `index` names it in change sets."""

    target: str
    source: str
    mode: WorkspaceMode
    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Mask:
    """A path covered with nothing: a directory by an empty one, a file by an unreadable one.

    Passed over when the path does not exist.
    """

    target: str
    reason: str


Step = Directory | Symlink | File | Bind | Scratch | Root | Mask


@dataclass(frozen=True, slots=True)
class Evidence:
    """A fact the plan rests on. If it no longer holds, the plan is stale.

    `signature` is what `casemate.plan.evidence.signature` returned: () for a path that did not
    exist, and of one that did either its identity (`content` false: it was enough that it existed,
    and was no other) or its content's (`content` true).
    """

    path: str
    signature: tuple[int, ...]
    content: bool


ListenerKind = Literal["tcp", "proxy", "names", "names-udp"]


@dataclass(frozen=True, slots=True)
class Listener:
    """A port inside, at every address, whose connections the broker accepts."""

    kind: ListenerKind
    port: int


@dataclass(frozen=True, slots=True)
class Trust:
    """How programs inside come to trust the certificate authority of their session."""

    bundle: str
    """The host's file of authorities, to which the session's is added."""
    target: str
    """Where the whole is inside."""
    covers: tuple[str, ...]
    """Files inside in whose place it stands as well."""
    java_stores: tuple[str, ...]
    """The same for files in the form that Java reads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything a tier needs to open a session."""

    tier: str
    strict: bool
    project: str
    working_directory: str
    home: str
    user: str
    steps: tuple[Step, ...]
    hide: tuple[Pattern, ...]
    protect: tuple[Pattern, ...]
    disk: int
    files: int
    limits: Limits
    environment_passed: tuple[str, ...]
    environment_set: tuple[tuple[str, str], ...]
    kernel_allow: tuple[str, ...]
    network: Network
    listeners: tuple[Listener, ...] = ()
    """Where connections out of the sandbox end, for the broker to accept."""
    trust: Trust | None = None
    secrets: tuple[Secret, ...] = ()
    vault: VaultName = "auto"
    waive: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    sources: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should know: things asked for or likely wanted that are not inside."""

    @property
    def roots(self) -> tuple[Root, ...]:
        """The project roots, the main one first."""
        return tuple(step for step in self.steps if isinstance(step, Root))

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Where connections may go; empty means the network is closed."""
        return self.network.allow
