"""Why a path is as it is inside."""

from __future__ import annotations

import pytest
from tests.support.fake_host import DIRECTORY, SOCKET, Entry, FakeHost, Link

from casemate.plan.build import build
from casemate.plan.explain import Explanation, why
from casemate.policy.model import Files, Origin, PathRule, Policy, Workspace, WorkspaceMode
from casemate.policy.patterns import parse_pattern

P = "/home/u/p"
HOST: dict[str, Entry] = {
    **dict.fromkeys(
        ("/usr/lib", "/usr/bin", f"{P}/.git/hooks", "/home/u/.ssh", "/home/u/w", "/var/log"),
        DIRECTORY,
    ),
    "/bin": Link("usr/bin"),
    "/usr/bin/sh": Link("dash"),
    "/usr/bin/dash": b"",
    f"{P}/a.py": b"",
    f"{P}/.env": b"",
    f"{P}/sub/b*[x].key/deep": b"",
    f"{P}/out": Link("/home/u/.ssh/id"),
    f"{P}/up": Link("../w"),
    "/home/u/.ssh/id": b"",
    "/home/u/.config/gh/hosts": b"",
    "/home/u/.config/casemate": DIRECTORY,
    "/home/u/link": Link("/usr/lib"),
    "/run/docker.sock": SOCKET,
    "/etc/shadow": b"",
}


def explained(path: str, mode: WorkspaceMode = "overlay") -> Explanation:
    origin = Origin("casemate.toml", 9)
    policy = Policy(
        workspace=Workspace(
            mode=mode,
            hide=(parse_pattern(".env", origin), parse_pattern("*.key", origin)),
            protect=(parse_pattern("**/.git/hooks", origin),),
        ),
        files=Files(
            read=(PathRule("/usr", origin), PathRule("~/.config", origin)),
            write=(PathRule("~/w", origin),),
            hide=(PathRule("~/.config/gh", origin),),
        ),
    )
    host = FakeHost(HOST)
    plan = build(
        policy,
        host,
        P,
        working_directory=P,
        uid=1000,
        gid=1000,
        user="u",
        home="/home/u",
        environment={"PATH": "/usr/bin"},
    )
    return why(plan, path, host)


@pytest.mark.parametrize(
    ("path", "verdict", "where", "allow"),
    [
        ("a.py", "copy-on-write", f"{P}/a.py", ""),
        (".", "copy-on-write", P, ""),
        ("new/file", "copy-on-write", f"{P}/new/file", ""),
        ("./sub/../.env", "hidden", f"{P}/.env", 'workspace.hide = ["!/.env"]'),
        (
            "sub/b*[x].key/deep",
            "hidden",
            f"{P}/sub/b*[x].key/deep",
            r'workspace.hide = ["!/sub/b\\*\\[x\\].key"]',
        ),
        (
            ".git/hooks/pre-commit",
            "copy-on-write",
            f"{P}/.git/hooks/pre-commit",
            'workspace.protect = ["!/.git/hooks"]',
        ),
        ("/bin/sh", "readonly", "/usr/bin/dash", 'files.write = ["/usr/bin/dash"]'),
        ("/usr/none", "absent", "/usr/none", ""),
        ("~/w/x", "writable", "/home/u/w/x", ""),
        ("up/x", "writable", "/home/u/w/x", ""),
        ("~", "private", "/home/u", ""),
        ("~/new", "private", "/home/u/new", ""),
        ("/tmp/x", "private", "/tmp/x", ""),
        ("/dev/shm/x", "private", "/dev/shm/x", ""),
        ("~/.ssh/id", "absent", "/home/u/.ssh/id", 'files.read = ["~/.ssh/id"]'),
        ("out", "absent", "/home/u/.ssh/id", 'files.read = ["~/.ssh/id"]'),
        ("~/link/x", "private", "/home/u/link/x", ""),
        ("/etc/passwd", "synthesised", "/etc/passwd", ""),
        ("/proc/1/environ", "synthesised", "/proc/1/environ", ""),
        ("/dev/null", "synthesised", "/dev/null", ""),
        ("/etc/shadow", "absent", "/etc/shadow", 'files.read = ["/etc/shadow"]'),
        ("/var/log", "absent", "/var/log", 'files.read = ["/var/log"]'),
        ("/var", "readonly", "/var", ""),
        ("/var/run/docker.sock", "absent", "/run/docker.sock", ""),
        (
            "~/.config/gh/hosts",
            "masked",
            "/home/u/.config/gh/hosts",
            'files.read = ["~/.config/gh"]',
        ),
        ("~/.config/casemate/policy.toml", "masked", "/home/u/.config/casemate/policy.toml", ""),
        ("/", "readonly", "/", ""),
    ],
)
def test_verdicts(path: str, verdict: str, where: str, allow: str) -> None:
    """Where the path leads inside, what it is there, and the line that would change it."""
    found = explained(path)
    assert (found.verdict, found.path, found.allow) == (verdict, where, allow)
    assert found.rule


def test_the_rule_names_its_place() -> None:
    """So that it can be found and edited."""
    assert explained(".env").origin == "casemate.toml:9"
    assert explained("~/w").origin == "casemate.toml:9"
    assert explained(".env").rule == 'workspace.hide = [".env"]'


def test_protected_files_are_read_only_in_direct_mode() -> None:
    """There nothing waits for a review."""
    found = explained(".git/hooks/x", mode="direct")
    assert (found.verdict, found.allow) == ("readonly", 'workspace.protect = ["!/.git/hooks"]')
    assert explained("a.py", mode="direct").verdict == "writable"
    found = explained("a.py", mode="readonly")
    assert (found.verdict, found.allow) == ("readonly", 'workspace.mode = "overlay"')


def test_the_line_for_a_hidden_path_works() -> None:
    """With it, this path is shown and others like it stay hidden."""
    import tomllib

    from casemate.policy.patterns import matches

    line = explained("sub/b*[x].key/deep").allow
    (text,) = tomllib.loads(line)["workspace"]["hide"]
    patterns = (parse_pattern("*.key"), parse_pattern(text))
    assert matches(patterns, ["sub", "b*[x].key", "deep"], False) is None
    assert matches(patterns, ["sub", "bb[x].key", "deep"], False) is not None


def test_answers_are_safe_to_print() -> None:
    """A path from a hostile project cannot drive the terminal."""
    found = explained("a\x1b[2J\nb")
    assert all(c.isprintable() or c == "\n" for c in found.as_text())
    assert len(found.as_text().splitlines()) <= 4
    assert found.as_json()["verdict"] == "copy-on-write"


def test_loops_of_links_end() -> None:
    """A link to itself inside the project is an answer, not a hang."""
    host = FakeHost({**HOST, f"{P}/loop": Link("loop")})
    plan = build(
        Policy(),
        host,
        P,
        working_directory=P,
        uid=1000,
        gid=1000,
        user="u",
        home="/home/u",
        environment={},
    )
    assert why(plan, "loop/x", host).path
