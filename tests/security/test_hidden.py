"""Promise: what a `hide` pattern names cannot be read inside, whatever is done to get at it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.security.arena import SECRET, Arena, attack, python, shell

MODES = pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
WRITABLE = pytest.mark.parametrize("mode", ["overlay", "direct"])

HIDDEN = (
    *(".env", "config/.env", "config/deep/.env.production", "keys/server.pem", "keys/id_rsa"),
    *(".aws/credentials", "deep/er/.ssh/known", "café/.npmrc", "new\nline/.netrc"),
)


def _fill(arena: Arena) -> None:
    arena.renew()
    for name in HIDDEN:
        path = arena.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET)


@MODES
def test_hidden_files(arena: Arena, mode: str) -> None:
    """No spelling, link, rename, descriptor, handle, copy or overlay mark reveals a hidden file."""
    reveal = attack("reveal", SECRET, *HIDDEN)

    _fill(arena)
    bare = arena.bare(reveal).json
    _fill(arena)
    inside = arena.inside(reveal, mode=mode).json

    ways = {label.split()[0] for label in bare}
    assert ways >= {"read", "link", "soft", "renamed", "parent", "copied", "tar", "self", "O_PATH"}
    assert inside == []


@WRITABLE
def test_hidden_files_survive(arena: Arena, mode: str) -> None:
    """A hidden file cannot be overwritten, renamed or removed either; nor can an apply do it."""
    destroy = shell(
        'for f in .env config/.env; do echo x > "$f"; chmod 777 "$f"; mv "$f" gone; rm -f "$f"; done;'
        "rm -rf config keys; mkdir -p config; echo mine > config/.env"
    )

    _fill(arena)
    arena.bare(destroy)
    bare = (arena.project / "config/.env").read_text()
    _fill(arena)
    arena.inside(destroy, mode=mode)

    assert bare == "mine\n"
    for name in HIDDEN:
        assert (arena.project / name).read_text() == SECRET, name


@WRITABLE
def test_hidden_directory_below_an_unreadable_one(arena: Arena, mode: str) -> None:
    """A hidden file in a directory without permissions stays hidden when those are given."""
    look = shell("chmod 755 locked locked/in; cat locked/.env locked/in/.env")

    def run(inside: bool) -> str:
        _fill(arena)
        for name in ("locked/.env", "locked/in/.env"):
            (arena.project / name).parent.mkdir(exist_ok=True)
            (arena.project / name).write_text(SECRET)
        (arena.project / "locked/in").chmod(0)
        (arena.project / "locked").chmod(0)
        outcome = arena.inside(look, mode=mode) if inside else arena.bare(look)
        (arena.project / "locked").chmod(0o755)
        (arena.project / "locked/in").chmod(0o755)
        return outcome.out

    assert run(inside=False).count(SECRET) == 2
    assert SECRET not in run(inside=True)


@MODES
def test_hidden_target_of_a_link(arena: Arena, mode: str) -> None:
    """A link with a harmless name to a hidden file shows nothing; nor does a hidden link."""
    look = shell("cat plain.txt harmless/.env")

    def fill() -> None:
        _fill(arena)
        (arena.project / "plain.txt").symlink_to("config/.env")
        (arena.project / "harmless").symlink_to("config")

    fill()
    bare = arena.bare(look)
    fill()
    inside = arena.inside(look, mode=mode)

    assert bare.out.count(SECRET) == 2
    assert SECRET not in inside.out


WAIT = """
import sys
print("ready", flush=True)
sys.stdin.readline()
for path in sys.argv[1:]:
    try:
        print(open(path).read())
    except OSError as problem:
        print(problem.strerror)
"""


def _meanwhile(arena: Arena, mode: str, paths: list[str], change: object) -> str:
    """What a program inside reads after the host did something while it was running."""
    assert callable(change)
    with arena.started(python(WAIT, *paths), mode=mode) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"ready\n"
        change()
        process.stdin.write(b"\n")
        process.stdin.close()
        return process.stdout.read().decode()


def test_e15_secrets_written_after_the_start(arena: Arena) -> None:
    """A plain hidden name that the host first writes while the session runs is hidden too, at the
    top of the project."""
    _fill(arena)
    (arena.project / ".env").unlink()
    names = [".env", ".npmrc", ".netrc", ".pypirc"]

    def write() -> None:
        for name in names:
            (arena.project / name).write_text(SECRET)
        (arena.project / "plain").write_text("seen")

    inside = _meanwhile(arena, "overlay", [*names, "plain"], write)

    assert "seen" in inside
    assert SECRET not in inside
    assert SECRET in arena.bare(shell("cat .env")).out


VANISHING = """
import os, sys, time
print("ready", flush=True)
sys.stdin.readline()
for _ in range(500):
    left = [path for path in sys.argv[1:] if os.path.exists(path)]
    if not left: break
    time.sleep(0.02)
print(left)
"""


def test_e15_secrets_noticed_after_the_start(arena: Arena) -> None:
    """Any other hidden name that appears on the host, at any place, is gone from view shortly."""
    _fill(arena)
    names = [
        "server.pem",
        "src/id_rsa_new",
        "src/app.key",
        "fresh/deep/.env",
        "config/credentials.json",
    ]

    def write() -> None:
        for name in names:
            (arena.project / name).parent.mkdir(parents=True, exist_ok=True)
            (arena.project / name).write_text(SECRET)

    with arena.started(python(VANISHING, *names)) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == b"ready\n"
        write()
        process.stdin.write(b"\n")
        process.stdin.close()
        left = process.stdout.read()

    assert left == b"[]\n"
    assert all((arena.project / name).read_text() == SECRET for name in names)


@MODES
def test_e15_secrets_replaced_after_the_start(arena: Arena, mode: str) -> None:
    """A hidden file that the host writes again while the session runs stays hidden."""
    _fill(arena)

    def rewrite() -> None:
        for name in (".env", "config/.env", "keys/server.pem"):
            (arena.project / name).write_text(SECRET + "-new")
        # How an editor saves: a new file, renamed over the old one.
        if mode == "overlay":
            for name in (".env", "config/.env", "keys/server.pem"):
                (arena.project / "temporary").write_text(SECRET + "-newer")
                os.replace(arena.project / "temporary", arena.project / name)
        time.sleep(0.02)

    inside = _meanwhile(arena, mode, [".env", "config/.env", "keys/server.pem"], rewrite)

    assert inside and SECRET not in inside


@WRITABLE
def test_e15_renames_inside(arena: Arena, mode: str) -> None:
    """Moving a directory with hidden files, into another or under another name, shows none."""
    move = shell(
        'mkdir other; mv config other/; mv keys other/; mv other again; grep -rs "$1" .', SECRET
    )

    _fill(arena)
    bare = arena.bare(move)
    _fill(arena)
    inside = arena.inside(move, mode=mode)

    assert bare.out.count(SECRET) >= 4
    assert SECRET not in inside.out


def test_hidden_sizes_and_times(arena: Arena) -> None:
    """In overlay mode a hidden file is not there at all: neither its size, time nor name."""
    _fill(arena)
    (arena.project / ".env").write_text("x" * 12345)
    look = shell("stat -c %s .env config/.env; ls -A . config; find . -name '.env*'")

    inside = arena.inside(look)

    assert "12345" not in inside.out and ".env" not in inside.out


def test_a_policy_that_hides_more(arena: Arena) -> None:
    """What the command line hides is hidden, anchored or not, with wildcards and given back."""
    _fill(arena)
    for name in ("private/a.txt", "private/b.md", "notes/private/c.txt", "x.log", "keep.log"):
        path = arena.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET)
    hide = 'workspace.hide=["/private/*.txt", "notes/private/", "*.log", "!keep.log"]'
    look = shell('for f in $(find . -type f); do grep -l "$1" $f; done', SECRET)

    bare = {*arena.bare(look).out.split()}
    inside = {*arena.inside(look, "--set", hide).out.split()}

    shown = {"./private/b.md", "./keep.log"}
    assert bare >= shown | {"./private/a.txt", "./notes/private/c.txt", "./x.log"}
    assert inside == shown


def test_too_deep_to_judge(arena: Arena) -> None:
    """Where a tree is deeper than patterns are followed, nothing is shown rather than everything."""
    deep = Path(*["d"] * 200)
    (arena.project / deep).mkdir(parents=True)
    (arena.project / deep / ".env").write_text(SECRET)
    look = shell('cat "$1"', deep / ".env")

    assert SECRET in arena.bare(look).out
    for mode in ("overlay", "direct", "readonly"):
        assert SECRET not in arena.inside(look, mode=mode).out
