"""Layers: who may widen, who may only narrow, and who is trusted."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casemate.errors import CasemateError, PolicyError
from casemate.policy.layers import Loaded, Ranked, combine, load
from casemate.policy.locations import Locations, home_directory, locate
from casemate.policy.model import Policy
from casemate.policy.patterns import matches
from casemate.policy.reader import Layer, read
from casemate.policy.trust import TrustStore


def layer(text: str, source: str = "test") -> Layer:
    return read(("version = 1\n" + text).encode(), source=source, base="/base")


def merged(*layers: Ranked) -> Loaded:
    return combine(list(layers))


def organisation(text: str) -> Ranked:
    return Ranked(layer(text, "org"), final=True)


def user(text: str) -> Ranked:
    return Ranked(layer(text, "user"))


def stranger(text: str) -> Ranked:
    return Ranked(layer(text, "stranger"), trusted=False)


def hidden(policy: Policy, path: str) -> bool:
    return matches(policy.workspace.hide, path.split("/"), False) is not None


def test_the_later_layer_says_it() -> None:
    """Plain values come from the last layer that has them, lists add up."""
    policy = merged(
        user('[limits]\nmemory = "1GiB"\n[files]\nread = ["/a"]'),
        user('[limits]\nmemory = "6GiB"\n[files]\nread = ["/b", "/a"]'),
    ).policy

    assert policy.limits.memory == 6 << 30
    assert [rule.path for rule in policy.files.read[-2:]] == ["/a", "/b"]


def test_a_user_takes_back_a_shipped_pattern() -> None:
    """The defaults hide *.pem until someone says otherwise."""
    assert hidden(merged().policy, "tests/server.pem")
    assert not hidden(merged(user('[workspace]\nhide = ["!*.pem"]')).policy, "tests/server.pem")


def test_nobody_takes_back_what_the_organisation_hides() -> None:
    """A later exception does not reach an organisation's pattern, and may be used elsewhere."""
    loaded = merged(
        organisation('[workspace]\nhide = ["*.pem"]'),
        user('[workspace]\nhide = ["!*.pem", "!*.key"]'),
    )

    assert hidden(loaded.policy, "a.pem")
    assert not hidden(loaded.policy, "a.key")


def test_an_organisation_has_no_exceptions() -> None:
    """A negated pattern there could not be kept apart from the rule it limits."""
    with pytest.raises(PolicyError) as caught:
        merged(organisation('[workspace]\nhide = ["*.pem", "!a.pem"]'))

    assert (caught.value.path, caught.value.line) == ("org", 3)


@pytest.mark.parametrize(
    ("lower", "told"),
    [
        ('[limits]\nmemory = "8GiB"', '"8GiB" ignored: locked by org:2 (locked[0])'),
        ('[limits]\nmemory = "none"', '"none" ignored'),
        ('[workspace]\nmode = "direct"', '"direct" ignored'),
        ('[network]\nallow = ["evil.example"]', '"evil.example" ignored'),
        ('[files]\nread = ["/etc/secret"]', '"/etc/secret" ignored'),
        ('waive = ["files"]', '"files" ignored'),
        ("strict = false", "false ignored"),
        ('[workspace]\nhide = ["!.env"]', '"!.env" ignored'),
        ('[network]\ntotal = "<=9GB up"', "bytes up 9000000000 ignored"),
        ('[environment]\nset = { LD_PRELOAD = "x" }', "LD_PRELOAD ignored"),
        ('[secrets.A]\nto = ["evil.example"]', "A ignored"),
    ],
)
def test_locked_keys_are_only_narrowed(lower: str, told: str) -> None:
    """Each kind of key, locked: what is wider is left out and said."""
    upper = organisation(
        'locked = ["limits", "workspace", "network", "files", "waive", "strict", "environment",'
        ' "secrets"]\nstrict = true\n[limits]\nmemory = "4GiB"\n[network]\ntotal = "<=1GB up"'
    )
    with_lower = merged(upper, user(lower))

    assert any(told in notice.message for notice in with_lower.notices), with_lower.notices
    assert str(with_lower.notices[0]).startswith("user:")
    without = merged(upper).policy
    assert with_lower.policy.limits == without.limits
    assert with_lower.policy.network == without.network
    assert with_lower.policy.files == without.files
    assert with_lower.policy.workspace.mode == without.workspace.mode
    assert with_lower.policy.environment == without.environment
    assert with_lower.policy.secrets == without.secrets


def test_locked_keys_can_be_narrowed() -> None:
    """Lower limits, a stricter mode and covered endpoints pass a lock without a notice."""
    loaded = merged(
        organisation(
            'locked = ["limits", "workspace", "network"]\n[network]\nallow = ["*.a.example"]'
        ),
        user(
            '[limits]\nmemory = "1GiB"\n[workspace]\nmode = "readonly"\nhide = ["x"]\n'
            '[network]\nallow = ["b.a.example GET"]\ndeny = ["c.a.example"]'
        ),
    )

    assert loaded.notices == ()
    assert loaded.policy.limits.memory == 1 << 30
    assert loaded.policy.workspace.mode == "readonly"
    assert loaded.policy.network.deny[0].host == "c.a.example"
    assert hidden(loaded.policy, "x")


def test_an_untrusted_file_gains_nothing() -> None:
    """Every widening key of a stranger's policy is ignored, and each is named."""
    loaded = merged(
        stranger(
            'tier = "process"\nextends = ["codex"]\nwaive = ["files"]\n[workspace]\nmode = "direct"\n'
            'roots = ["~/.ssh"]\nhide = ["!.env", "mine"]\nprotect = ["!.git/hooks"]\n'
            'disk = "100GiB"\n[files]\nread = ["~/.ssh"]\nwrite = ["~"]\n'
            '[network]\nallow = ["evil.example"]\n[secrets.A]\nto = ["evil.example"]\n'
            '[limits]\nmemory = "none"\nprocesses = 5\n[environment]\npass = ["AWS_*"]\n'
            'set = { PATH = "/evil" }\n[kernel]\nallow = ["bpf"]'
        )
    )
    default = combine([]).policy
    policy = loaded.policy

    assert hidden(policy, "mine")
    assert policy.limits.processes == 5
    assert policy.workspace.protect == default.workspace.protect
    assert policy.workspace.mode == "overlay"
    assert policy.workspace.disk == default.workspace.disk
    assert policy.workspace.roots == ()
    assert policy.files == default.files
    assert policy.network == default.network
    assert policy.secrets == ()
    assert policy.limits.memory == default.limits.memory
    assert policy.environment == default.environment
    assert (policy.kernel_allow, policy.waive, policy.tier) == ((), (), "auto")
    named = {notice.origin.key.split("[")[0] for notice in loaded.notices}
    assert named >= {
        "extends", "waive", "tier", "workspace.mode", "workspace.roots", "workspace.hide",
        "workspace.protect", "workspace.disk", "files.read", "files.write", "network.allow",
        "secrets", "limits.memory", "environment.pass", "environment.set", "kernel.allow",
    }  # fmt: skip
    assert all(notice.remedy == "casemate trust stranger" for notice in loaded.notices)


LIMIT = st.one_of(st.just('"none"'), st.integers(1 << 20, 1 << 40).map(str))


@given(LIMIT, LIMIT, st.lists(st.sampled_from(["a", "!a", "*.env", "!*.env", "!**"]), max_size=4))
def test_a_stranger_never_widens(upper: str, lower: str, patterns: list[str]) -> None:
    """Whatever an untrusted file says, its limits and hidden files are a subset."""
    first = user(f"[limits]\nmemory = {upper}\n[workspace]\nhide = ['a', '!b.env']")
    second = stranger(f"[limits]\nmemory = {lower}\n[workspace]\nhide = {patterns!r}")
    before, after = merged(first).policy, merged(first, second).policy

    if before.limits.memory is not None:
        assert after.limits.memory is not None
        assert after.limits.memory <= before.limits.memory
    for path in ("a", "x.env", "b.env", "c", "d/a/e"):
        assert hidden(after, path) or not hidden(before, path)


# Files on disk


@pytest.fixture
def locations(tmp_path: Path) -> Locations:
    home = tmp_path / "home"
    home.mkdir()
    return Locations(
        str(home), str(home / ".config/casemate"), str(home / "state"), str(tmp_path / "org.toml")
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


def write(path: str | Path, text: str, mode: int = 0o644) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Path(path).write_text("version = 1\n" + text)
    os.chmod(path, mode)
    return str(path)


def test_project_policy_counts_once_trusted(project: Path, locations: Locations) -> None:
    """Untrusted it narrows, trusted it counts, and one changed byte ends the trust."""
    path = write(project / "casemate.toml", '[workspace]\nmode = "direct"\n')
    assert load(str(project), locations).policy.workspace.mode == "overlay"

    store = TrustStore(locations.state)
    entry = store.trust(path)

    assert entry.path == path
    assert load(str(project), locations).policy.workspace.mode == "direct"
    assert os.stat(store.path).st_mode & 0o777 == 0o600
    write(path, '[workspace]\nmode = "direct"\n# x\n')
    loaded = load(str(project), locations)
    assert loaded.policy.workspace.mode == "overlay"
    assert loaded.notices[0].remedy == f"casemate trust {path}"


def test_trust_is_bound_to_the_path(project: Path, locations: Locations, tmp_path: Path) -> None:
    """The same bytes elsewhere are not trusted."""
    path = write(project / "casemate.toml", '[workspace]\nmode = "direct"\n')
    TrustStore(locations.state).trust(path)
    other = tmp_path / "other"
    other.mkdir()
    write(other / "casemate.toml", '[workspace]\nmode = "direct"\n')

    assert load(str(other), locations).policy.workspace.mode == "overlay"


def test_trust_is_taken_back(project: Path, locations: Locations) -> None:
    """Revoking works even after the file is gone, and says whether there was anything."""
    path = write(project / "casemate.toml", "")
    store = TrustStore(locations.state)
    store.trust(path)
    os.unlink(path)

    assert [entry.path for entry in store.entries()] == [path]
    assert store.revoke(path)
    assert not store.revoke(path)
    assert store.entries() == ()


def test_an_unsound_store_is_not_used(project: Path, locations: Locations) -> None:
    """A trust store that others could have written stops the launch."""
    path = write(project / "casemate.toml", "")
    store = TrustStore(locations.state)
    store.trust(path)
    os.chmod(store.path, 0o666)

    with pytest.raises(CasemateError, match="others can write"):
        load(str(project), locations)
    os.chmod(store.path, 0o600)
    Path(store.path).write_text("{}")
    with pytest.raises(CasemateError, match="damaged"):
        load(str(project), locations)


def test_explicit_file(project: Path, locations: Locations, tmp_path: Path) -> None:
    """--policy is trusted, takes the project file's place, and is a stranger inside a root."""
    text = '[workspace]\nmode = "direct"\n'
    write(project / "casemate.toml", "tier = 'broken'")
    outside = write(tmp_path / "other.toml", text)
    inside = write(project / "sub/policy.toml", text)
    shared = write(tmp_path / "shared/policy.toml", text)
    write(locations.user_policy, f'[workspace]\nroots = ["{tmp_path}/shared"]\n')

    assert load(str(project), locations, explicit=outside).policy.workspace.mode == "direct"
    assert load(str(project), locations, explicit=inside).policy.workspace.mode == "overlay"
    assert load(str(project), locations, explicit=shared).policy.workspace.mode == "overlay"
    with pytest.raises(PolicyError, match="no such file"):
        load(str(project), locations, explicit=str(tmp_path / "absent.toml"))


def test_project_file_is_not_followed(project: Path, locations: Locations, tmp_path: Path) -> None:
    """A link, a pipe or a huge file in the project's place is refused, not opened."""
    path = project / "casemate.toml"
    path.symlink_to(write(tmp_path / "secret.toml", ""))
    with pytest.raises(PolicyError, match="symbolic link"):
        load(str(project), locations)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(PolicyError, match="regular file"):
        load(str(project), locations)
    path.unlink()
    path.write_bytes(b"#" * (1 << 20))
    with pytest.raises(PolicyError, match="larger"):
        load(str(project), locations)


def test_user_file_must_be_the_users(project: Path, locations: Locations) -> None:
    """A user policy that everyone can write stops the launch."""
    write(locations.user_policy, "", mode=0o646)

    with pytest.raises(PolicyError, match="writable by everyone"):
        load(str(project), locations)


def test_organisation_file_must_be_roots(project: Path, locations: Locations) -> None:
    """Only root may have written the organisation's file."""
    write(locations.organisation_policy, "", mode=0o664)

    with pytest.raises(PolicyError, match="root"):
        load(str(project), locations)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to own the organisation's file")
def test_organisation_file_counts(project: Path, locations: Locations) -> None:
    """The organisation's file is read, and its locks hold against the command line."""
    write(locations.organisation_policy, 'locked = ["workspace.mode"]\n')
    overrides = layer('[workspace]\nmode = "direct"', "command line")
    loaded = load(str(project), locations, overrides=overrides)

    assert loaded.policy.workspace.mode == "overlay"
    assert "locked by" in loaded.notices[0].message


def test_everything_read_is_told(project: Path, locations: Locations) -> None:
    """A caller that caches the result learns every path it rests on."""
    write(project / "casemate.toml", "")
    seen: list[str] = []
    load(str(project), locations, seen=seen.append)

    assert seen == [
        locations.organisation_policy,
        locations.user_policy,
        str(project / "casemate.toml"),
        TrustStore(locations.state).path,
    ]


def test_home(tmp_path: Path) -> None:
    """$HOME counts only if the user owns it; XDG paths only if absolute."""
    mine = str(tmp_path)

    assert home_directory({"HOME": mine}) == mine
    if os.geteuid() in {entry.pw_uid for entry in pwd.getpwall()}:
        assert home_directory({"HOME": "/nonexistent"}) != "/nonexistent"
    assert locate({"HOME": mine}).configuration == f"{mine}/.config/casemate"
    assert locate({"HOME": mine, "XDG_STATE_HOME": "x"}).state == f"{mine}/.local/state/casemate"
    assert locate({"HOME": mine, "XDG_STATE_HOME": "/x"}).state == "/x/casemate"
