"""Policy files: what is read, and how mistakes are reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import PolicyError
from casemate.policy.layers import Ranked, combine
from casemate.policy.model import KERNEL_CAPABILITIES, Policy
from casemate.policy.reader import Layer, read

FULL = """\
version = 1
tier = "process"
vault = "software"
strict = true
extends = ["python", "git"]
waive = ["cpu"]

[workspace]
mode = "direct"
roots = ["../shared"]
hide = ["*.secret", "!ok.secret"]
protect = ["deploy/"]
disk = "4GiB"
files = 50_000

[files]
read = ["~/.cache/pip", { path = "/srv/data", optional = true }]
write = ["/srv/out"]
hide = ["~/.cache/pip/http"]

[network]
allow = ["api.github.com:443 GET /repos/** <=10MB"]
deny = ["*.evil.example", { rule = "gist.github.com", reason = "uploads" }]
total = "<=50MB up <=5000req"

[secrets.OPENAI_API_KEY]
to = ["api.openai.com"]
as = "header:Authorization"
source = "env:OPENAI_API_KEY"

[limits]
memory = "2GiB"
processes = 100
cpus = 1.5
time = "2h"
open_files = "none"
output = 1048576
scratch = "256MiB"

[environment]
pass = ["EDITOR", "MY_*"]
set = { FOO = "bar" }

[kernel]
allow = ["ptrace"]
"""


def read_text(text: str) -> Layer:
    return read(text.encode(), source="casemate.toml", base="/home/u/project")


def policy_of(text: str) -> Policy:
    return combine([Ranked(read_text(text))]).policy


def test_every_key() -> None:
    """Every key of the format arrives in the policy, with its line."""
    policy = policy_of(FULL)

    assert (policy.tier, policy.vault, policy.strict, policy.waive) == (
        "process",
        "software",
        True,
        ("cpu",),
    )
    assert policy.workspace.mode == "direct"
    assert policy.workspace.roots[0].path == "/home/u/project/../shared"
    assert policy.workspace.hide[-1].text == "!ok.secret"
    assert str(policy.workspace.hide[-1].origin) == "casemate.toml:11 (workspace.hide[1])"
    assert policy.workspace.protect[-1].directory_only
    assert (policy.workspace.disk, policy.workspace.files) == (4 << 30, 50_000)
    assert policy.files.read[-1].path == "/srv/data"
    assert policy.files.read[-1].optional
    assert not policy.files.write[0].optional
    assert policy.files.hide[-1].path == "~/.cache/pip/http"
    assert policy.network.allow[0].budget.bytes_total == 10_000_000
    assert policy.network.deny[1].reason == "uploads"
    assert policy.network.deny[1].origin.line == 23
    assert policy.network.total.requests == 5000
    secret = policy.secrets[0]
    assert (secret.name, secret.to, secret.form, secret.form_name, secret.source) == (
        "OPENAI_API_KEY",
        ("api.openai.com",),
        "header",
        "Authorization",
        "env:OPENAI_API_KEY",
    )
    limits = policy.limits
    assert (limits.memory, limits.processes, limits.cpus, limits.time) == (2 << 30, 100, 1.5, 7200)
    assert (limits.open_files, limits.output, limits.scratch) == (None, 1 << 20, 256 << 20)
    assert policy.environment.passed[-2:] == ("EDITOR", "MY_*")
    assert ("FOO", "bar") in policy.environment.values
    assert policy.kernel_allow == ("ptrace",)
    assert policy.sources == (
        "casemate.toml",
        "preset git",
        "preset python",
        "preset default",
        "preset toolchains",
        "preset system",
    )


def test_without_a_file() -> None:
    """No policy file at all is a closed, safe default."""
    policy = combine([]).policy

    assert policy.workspace.mode == "overlay"
    assert policy.network.allow == ()
    assert policy.files.write == ()
    assert policy.kernel_allow == ()
    assert all(rule.optional for rule in policy.files.read)


@pytest.mark.parametrize(
    ("text", "line", "key", "told"),
    [
        ("tier = 'procss'", 2, "tier", 'did you mean "process"'),
        ("[workspac]\nmode = 'direct'", 2, "workspac", 'did you mean "workspace"'),
        ("[workspace]\nmod = 'direct'", 3, "workspace.mod", 'did you mean "mode"'),
        ("mode = 'direct'", 2, "mode", "[workspace]"),
        ("[limits]\nmemory = '2G'", 3, "limits.memory", "2GiB"),
        ("[limits]\nmemory = 5", 3, "limits.memory", "at least"),
        ("[limits]\nprocesses = true", 3, "limits.processes", "a boolean"),
        ("[limits]\nprocesses = '5'", 3, "limits.processes", "a string"),
        ("[limits]\ncpus = nan", 3, "limits.cpus", "large"),
        ("[limits]\ntime = 'soon'", 3, "limits.time", "1h30m"),
        ("[workspace]\nfiles = 'none'", 3, "workspace.files", "a string"),
        ("[files]\nread = [\n'/a',\n5]", 5, "files.read[1]", "an integer"),
        ("[files]\nread = ['~bob/x']", 3, "files.read[0]", "your own home"),
        ("[files]\nread = '/a'", 3, "files.read", "expected an array"),
        ("[network]\nallow = [\n'a.example',\n\n'b.example GTE']", 6, "network.allow[1]", "GET"),
        ("[[network.deny]]\nrule = 'a.example'\nreson = ''", 4, "network.deny[0].reson", "reason"),
        ("[network]\ntotal = '<=5'", 3, "network.total", "unit"),
        ("[secrets.A]\nto = ['a.example']\nas = 'header'", 4, "secrets.A.as", "header:NAME"),
        ("[secrets.A]\nas = 'bearer'", 2, "secrets.A", "hosts"),
        ("[secrets.A]\nto = ['10.0.0.0/8']", 3, "secrets.A.to[0]", "network"),
        ("[environment]\npass = ['A B']", 3, "environment.pass[0]", "variable"),
        ("[environment]\npass = ['*']", 3, "environment.pass[0]", "variable"),
        ("[environment]\nset = {HOME = '/'}", 3, "environment.set.HOME", "casemate"),
        ("[kernel]\nallow = ['iouring']", 3, "kernel.allow[0]", "io_uring"),
        ("waive = ['memroy']", 2, "waive[0]", "memory"),
        ("extends = ['pyton']", 2, "extends[0]", "python"),
        ("locked = ['limit']", 2, "locked[0]", "limits"),
        ("[workspace]\nhide = ['a[']", 3, "workspace.hide[0]", "never match"),
        ("x = 1\nx = 2", 3, "", "not TOML"),
        ("x = [", 2, "", "not TOML"),
        ("x = '\x01'", 2, "", "not TOML"),
        ("workspace = 5", 2, "workspace", "expected a table"),
        ("[workspace.mode]\na = 1", 2, "workspace.mode", "a table"),
        ("'a\\u001b[31m' = 1", 2, "", "unknown key"),
    ],
)
def test_mistakes(text: str, line: int, key: str, told: str) -> None:
    """Each mistake names the line, the key and the way out."""
    with pytest.raises(PolicyError) as caught:
        read_text("version = 1\n" + text)

    error = caught.value
    assert error.line == line
    assert not key or error.key == key
    assert told in f"{error.problem} {error.hint}"
    assert error.path == "casemate.toml"


def test_all_mistakes_at_once() -> None:
    """One reading reports every mistake with its place."""
    with pytest.raises(PolicyError) as caught:
        read_text("version = 1\ntier = 'x'\n[limits]\nmemory = '2G'\n[files]\nreed = []\n")

    text = str(caught.value)
    assert "casemate.toml:2: tier: " in text
    assert 'casemate.toml:4: limits.memory: unknown unit "G"' in text
    assert 'casemate.toml:6: files.reed: unknown key "reed" (did you mean "read"?)' in text


@pytest.mark.parametrize("text", ["", "version = 2", "version = '1'", "version = true"])
def test_version(text: str) -> None:
    """A file without the version this casemate reads is refused."""
    with pytest.raises(PolicyError, match="version"):
        read_text(text)


def test_not_text() -> None:
    """Bytes that are not UTF-8 are refused with their line."""
    with pytest.raises(PolicyError) as caught:
        read(b"version = 1\n# \xff", source="p", base="/")

    assert caught.value.line == 2


def test_deep_nesting_is_refused() -> None:
    """A file made to exhaust the parser is an ordinary error."""
    with pytest.raises(PolicyError):
        read_text("version = 1\na = " + "[" * 50_000)


def test_control_characters_are_escaped() -> None:
    """Nothing from a hostile file reaches a terminal raw."""
    with pytest.raises(PolicyError) as caught:
        read_text('version = 1\n"\\u001b[2J" = 1\ntier = "\\u001b]0;x\\u0007"\n')

    assert "\x1b" not in str(caught.value)
    assert "\x07" not in str(caught.value)


def test_kernel_capabilities_are_sorted_and_unique() -> None:
    """The list people choose from has no repeats."""
    assert sorted(set(KERNEL_CAPABILITIES)) == list(KERNEL_CAPABILITIES)


@given(st.binary(max_size=80))
def test_any_bytes(data: bytes) -> None:
    """No bytes raise anything but `PolicyError`."""
    try:
        read(data, source="p", base="/")
    except PolicyError:
        pass


SECTIONS = ["workspace", "files", "network", "limits", "environment", "kernel", "secrets.A"]
WORDS = ["hide", "read", "allow", "total", "memory", "pass", "set", "to", "as", "tier", "version"]
ANYTHING = st.sampled_from(
    ["1", "-1", "'x'", "[1]", "['a']", "{}", "{rule=1}", "true", "[[]]", "1.5"]
)


@given(st.lists(st.tuples(st.sampled_from(WORDS), ANYTHING), max_size=3), st.sampled_from(SECTIONS))
def test_any_values(pairs: list[tuple[str, str]], section: str) -> None:
    """No TOML value in any place raises anything but `PolicyError`."""
    lines = [f"{word} = {value}" for word, value in dict(pairs).items()]
    try:
        read_text("\n".join(["version = 1", f"[{section}]", *lines]))
    except PolicyError:
        pass
