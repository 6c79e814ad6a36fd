"""The policy as a value: what the user wants, whatever machine it will run on.

Sizes are bytes, times are seconds, `None` means "no limit". Each rule keeps the `Origin` it came
from, so that every later refusal can name the file and line that caused it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

TierName = Literal["auto", "process", "vm"]
WorkspaceMode = Literal["overlay", "direct", "readonly"]
Protocol = Literal["auto", "tls", "http", "tcp"]
SecretForm = Literal["bearer", "basic", "header", "query", "body", "sigv4"]
VaultName = Literal["auto", "sgx", "vbs", "tpm", "software"]

GUARANTEES = (
    "files",  # nothing outside the project can be written, nothing unlisted read
    "hide",  # hidden patterns cannot be read
    "protect",  # protected patterns cannot be written (direct mode) or are held for review
    "edits",  # edits stay in a copy-on-write layer until applied
    "network",  # no connection leaves but to approved endpoints
    "isolation",  # no other process can be seen, signalled or traced
    "disk",  # bytes written are capped
    "file-count",  # files created are capped
    "memory",
    "processes",
    "cpu",
    "time",
    "kernel-surface",  # dangerous system calls are refused
    "cleanup",  # nothing outlives the session
)
"""The guarantees a run states, by the names under which each can be waived."""

INDEXES = ("python", "node", "rust", "go")
"""What `network.indexes` can name."""

KERNEL_CAPABILITIES = (
    "accounting",
    "bpf",
    "clock",
    "fanotify",
    "file-handles",
    "hostname",
    "io_uring",
    "kernel-log",
    "kexec",
    "keyring",
    "ldt",
    "modules",
    "mount",
    "namespaces",
    "numa",
    "obsolete",
    "perf",
    "ptrace",
    "quota",
    "raw-io",
    "reboot",
    "swap",
    "terminal",
    "userfaultfd",
)
"""What `[kernel] allow` can give back; `casemate.plan.syscalls` says what each stands for."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a rule came from: a file and line, a preset, the command line, or a default."""

    source: str
    line: int = 0
    key: str = ""

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return f"{place} ({self.key})" if self.key else place


DEFAULT_ORIGIN = Origin("default")


@dataclass(frozen=True, slots=True)
class Pattern:
    """One gitignore-style pattern, already split. Source: gitignore(5).

    `segments` are matched one path component each (`*`, `?`, `[...]` within a component); the
    segment "**" spans any number of components. An unanchored pattern starts with "**".
    """

    text: str
    segments: tuple[str, ...]
    negated: bool
    directory_only: bool
    origin: Origin


@dataclass(frozen=True, slots=True)
class PathRule:
    """One path outside the project that the sandbox may see, `~` not yet expanded."""

    path: str
    origin: Origin
    optional: bool = False
    """True for preset entries: a path that does not exist is passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """The project and how edits to it are held."""

    mode: WorkspaceMode = "overlay"
    roots: tuple[PathRule, ...] = ()
    """Further project roots beside the main one."""
    hide: tuple[Pattern, ...] = ()
    protect: tuple[Pattern, ...] = ()
    disk: int = 2 << 30
    files: int = 200_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Paths outside the project."""

    read: tuple[PathRule, ...] = ()
    write: tuple[PathRule, ...] = ()
    hide: tuple[PathRule, ...] = ()
    """Covered wherever a wider `read` or `write` rule would show them. A rule that names such a
    path itself, or something beneath it, means it and is obeyed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Ceilings on traffic; `None` is no ceiling of its own."""

    bytes_up: int | None = None
    bytes_down: int | None = None
    bytes_total: int | None = None
    requests: int | None = None
    requests_per_minute: int | None = None
    connections: int | None = None
    connections_total: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One network rule: where a connection may go (or, as a deny rule, may not)."""

    text: str
    host: str
    ports: tuple[tuple[int, int], ...] = ((443, 443),)
    """Inclusive ranges."""
    methods: tuple[str, ...] = ()
    """Empty: any method, and the traffic need not be HTTP."""
    path: str = ""
    protocol: Protocol = "auto"
    """What must be spoken. "auto": TLS on port 443, HTTP on port 80, and elsewhere whatever the
    first bytes are, and the name in TLS and HTTP is checked. "tcp": anything, unchecked."""
    ech: bool = False
    """An Encrypted Client Hello, whose inner name nobody can check, may pass."""
    budget: Budget = Budget()
    reason: str = ""
    origin: Origin = DEFAULT_ORIGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Where connections to one host and port go instead of what its name resolves to."""

    host: str
    port: int
    address: str
    to_port: int
    origin: Origin = DEFAULT_ORIGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What may leave. Empty `allow` means nothing does."""

    allow: tuple[Endpoint, ...] = ()
    deny: tuple[Endpoint, ...] = ()
    total: Budget = Budget()
    opaque: tuple[str, ...] = ()
    """Hosts whose TLS is never looked into."""
    resolve: tuple[Pin, ...] = ()
    indexes: tuple[str, ...] = ()
    """Ecosystems (`INDEXES`) whose package indexes may be read, as the user's tools have them."""
    trust: tuple[PathRule, ...] = ()
    """PEM files of further certificate authorities that upstream servers may be signed by."""


@dataclass(frozen=True, slots=True)
class CredentialFile:
    """A file inside the sandbox that holds a secret's placeholder.

    With `content`, `${NAME}` in it stands for the placeholder; with `copy`, the user's own file of
    that path with secrets replaced; with neither, what casemate knows of the file at `path`.
    """

    path: str
    content: str = ""
    copy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A credential the sandbox sees only as a placeholder."""

    name: str
    to: tuple[str, ...]
    form: SecretForm = "bearer"
    form_name: str = ""
    """The header, query or body field name, for the forms that have one."""
    source: str = ""
    """Where the value comes from; "" stands for `env:NAME`."""
    environment: str = ""
    """The variable that holds the placeholder; "" stands for `name`."""
    files: tuple[CredentialFile, ...] = ()
    own_only: bool = False
    """Whether its hosts are refused every request that carries another credential."""
    optional: bool = False
    """Whether a run starts without the secret when its source has none."""
    origin: Origin = DEFAULT_ORIGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Ceilings on what the sandbox may use."""

    memory: int | None = 8 << 30
    processes: int | None = 1024
    cpus: float | None = None
    time: float | None = None
    open_files: int | None = 16384
    output: int | None = None
    scratch: int = 1 << 30
    """Bytes of the in-memory /tmp, home and /dev/shm together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Environment variables: names (with `*` at the end) passed on, and values set."""

    passed: tuple[str, ...] = ()
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole of it. Layers are already merged."""

    version: int = 1
    tier: TierName = "auto"
    vault: VaultName = "auto"
    strict: bool = False
    """True: a guarantee held only by accounting (soft) stops the launch as a missing one does."""
    workspace: Workspace = Workspace()
    files: Files = Files()
    network: Network = Network()
    secrets: tuple[Secret, ...] = ()
    limits: Limits = Limits()
    environment: Environment = Environment()
    kernel_allow: tuple[str, ...] = ()
    """Named kernel capabilities given back, as in `ptrace` or `io_uring`."""
    waive: tuple[str, ...] = ()
    """Guarantees the user gives up by name, from `GUARANTEES`."""
    sources: tuple[str, ...] = field(default=())
    """Files and presets that went into it, strongest layer first."""
