"""Promise: no file outside the project can be read that the policy does not show, and none
outside the project can be written."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.security.arena import ATTACKS, PYTHON, SECRET, Arena, attack, python, shell

MODES = pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
WRITABLE = pytest.mark.parametrize("mode", ["overlay", "direct"])


@MODES
def test_files_outside_cannot_be_read(arena: Arena, mode: str) -> None:
    """A path outside the project leads nowhere, however it is written."""
    link = arena.project / "link"
    paths: list[str | Path] = [
        arena.outside / "secret",
        arena.beside / "secret",
        f"../{arena.beside.name}/secret",
        f"{arena.project}/../{arena.beside.name}/secret",
        f"{arena.project}-evil/secret",
        f"/proc/self/root{arena.outside}/secret",
        f"/proc/self/cwd/../{arena.beside.name}/secret",
        f"/proc/thread-self/root{arena.outside}/secret",
        f"/proc/1/root{arena.outside}/secret",
        f"//{arena.outside}//secret",
        link,
        link.with_name("chain"),
    ]

    def run(inside: bool) -> list[str]:
        arena.renew()
        link.symlink_to(arena.outside / "secret")
        link.with_name("chain").symlink_to("link")
        read = attack("read", *paths)
        outcome = arena.inside(read, mode=mode) if inside else arena.bare(read)
        return [path for path, text in outcome.json.items() if SECRET in text]

    bare = run(inside=False)
    inside = run(inside=True)

    assert {str(path) for path in paths} - {*bare} <= {f"/proc/1/root{arena.outside}/secret"}
    assert inside == []


@MODES
def test_system_secrets_cannot_be_read(arena: Arena, mode: str) -> None:
    """Password hashes, keys and the machine's identity are not shown, to root neither."""
    paths = [
        *("/etc/shadow", "/etc/gshadow", "/etc/sudoers", "/etc/machine-id", "/etc/ssh/sshd_config"),
        *("/var/log/dpkg.log", "/var/lib/dpkg/status", "/root/.bashrc", "/boot", "/etc/fstab"),
        *("/var/lib/dbus/machine-id", "/sys/kernel/notes", "/dev/vda", "/dev/sda", "/dev/kmsg"),
        *("/dev/mem", "/dev/fuse", "/dev/net/tun", "/dev/kvm", "/dev/vsock", "/dev/userfaultfd"),
    ]
    bare = {path: text for path, text in arena.bare(attack("read", *paths)).json.items() if text}
    inside = {p: t for p, t in arena.inside(attack("read", *paths), mode=mode).json.items() if t}

    assert bare
    assert inside == {}


@MODES
def test_files_outside_cannot_be_written(arena: Arena, mode: str) -> None:
    """Nothing is created, changed, renamed or removed outside the project."""
    places = [
        *(arena.outside, arena.beside, arena.home, arena.home / ".ssh", arena.project.parent),
        Path(f"/proc/self/root{arena.outside}"),
    ]
    own = Path(shutil.which("git") or "/bin/sh").resolve()

    def run(inside: bool) -> dict[str, list[str]]:
        before = _listing(arena)
        act = attack("write", *places)
        outcome = arena.inside(act, mode=mode) if inside else arena.bare(act)
        after = _listing(arena)
        changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
        return {"reported": outcome.json, "changed": sorted(changed)}

    inside = run(inside=True)
    bare = run(inside=False)

    assert len(bare["changed"]) >= 3 * (len(places) - 1)
    assert inside["changed"] == []
    # What the sandbox has of its own at such a path is its own.
    assert not any(str(arena.outside) in path for path in inside["reported"])
    assert os.access(own, os.X_OK)


def _listing(arena: Arena) -> dict[str, tuple[int, bytes]]:
    found = {}
    for top in (arena.outside, arena.beside, arena.home, arena.project.parent):
        for directory, directories, files in os.walk(top):
            directories[:] = [
                name
                for name in directories
                if Path(directory, name) not in (arena.project, arena.state)
            ]
            for name in (*directories, *files):
                path = Path(directory, name)
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                found[str(path)] = (status.st_mode, content)
    return found


TOOLCHAIN = """
import json, os
written = []
for path in ("/usr", "/usr/bin", "/usr/local/bin", "/etc", "/usr/lib", "/", "/opt", "/sys", "/proc", "/dev"):
    try:
        os.close(os.open(path + "/planted", os.O_CREAT | os.O_WRONLY))
        written.append(path)
    except OSError:
        pass
for path in ("/usr/bin/env", "/etc/passwd", "/etc/ld.so.cache", "/etc/resolv.conf", "/bin/sh"):
    for action in (
        lambda: os.close(os.open(path, os.O_WRONLY)),
        lambda: os.chmod(path, 0o777),
        lambda: os.rename(path, path + "~"),
        lambda: os.unlink(path),
        lambda: os.utime(path),
        lambda: os.setxattr(path, "user.x", b"y"),
        lambda: os.link(path, path + "~"),
    ):
        try:
            action()
            written.append(path)
        except OSError:
            pass
print(json.dumps(written))
"""


@MODES
def test_the_toolchain_is_read_only(arena: Arena, mode: str) -> None:
    """System directories cannot be changed, by root neither (whose bare success is plain)."""
    assert arena.inside(python(TOOLCHAIN), mode=mode).json == []


@WRITABLE
def test_e10_hard_links(arena: Arena, mode: str) -> None:
    """A file outside cannot be given a name inside the project."""
    text = """
import os, sys
for source in sys.argv[1:]:
    for flags in (False, True):
        try:
            os.link(source, "linked", follow_symlinks=flags)
            print(open("linked").read())
            os.unlink("linked")
        except OSError:
            pass
"""
    paths: list[str | Path] = [
        arena.outside / "secret",
        "/proc/self/fd/0",
        f"/proc/self/root{arena.outside}/secret",
    ]
    with (arena.outside / "secret").open() as given:
        bare = arena.bare(python(text, *paths), stdin=given)
        arena.renew()
        inside = arena.inside(python(text, *paths), mode=mode, stdin=given)

    assert SECRET in bare.out
    assert SECRET not in inside.out
    assert (arena.outside / "secret").stat().st_nlink == 1


def test_e10_a_hard_link_in_the_project(arena: Arena) -> None:
    """Edits to a project file that has a second name outside stay in the layer."""

    def run(inside: bool) -> str:
        arena.renew()
        target = arena.outside / "shared"
        target.write_text("untouched")
        (arena.project / "shared").hardlink_to(target)
        edit = shell("echo changed > shared")
        _ = arena.inside(edit) if inside else arena.bare(edit)
        text = target.read_text()
        target.unlink()
        return text

    assert run(inside=False) == "changed\n"
    assert run(inside=True) == "untouched"


@MODES
def test_e11_sibling_with_the_same_prefix(arena: Arena, mode: str) -> None:
    """`project-evil` beside `project` is not part of it, whatever the working directory."""
    look = shell(
        'ls "$1-evil"; cat "$1-evil/secret"; cd ..; ls; cat project-evil/secret', arena.project
    )

    bare = arena.bare(look)
    inside = arena.inside(look, mode=mode)

    assert bare.out.count(SECRET) == 2
    assert SECRET not in inside.out
    assert "project-evil" not in inside.out


@MODES
def test_e12_ways_through_proc(arena: Arena, mode: str) -> None:
    """Neither a host process's root or working directory nor /dev/fd is a door."""
    with subprocess.Popen(["sleep", "60"], cwd=arena.outside) as victim:
        try:
            paths = [
                f"/proc/{victim.pid}/cwd/secret",
                f"/proc/{victim.pid}/root{arena.outside}/secret",
                f"/proc/{os.getpid()}/root{arena.outside}/secret",
                f"/proc/{victim.pid}/task/{victim.pid}/cwd/secret",
                f"/dev/fd/../../{victim.pid}/cwd/secret",
            ]
            bare = arena.bare(attack("read", *paths)).json
            inside = arena.inside(attack("read", *paths), mode=mode).json
        finally:
            victim.kill()

    assert [path for path in paths if SECRET not in bare[path]] in ([], [paths[-1]])
    assert not any(inside.values())


@WRITABLE
def test_e13_working_directory_of_the_agents_choice(arena: Arena, mode: str) -> None:
    """A directory the agent starts a nested run in does not become a root of its own."""
    nested = shell('cd "$1" && echo planted > here; cd "$1/.." && ls', arena.outside)

    bare = arena.bare(nested)
    planted = arena.outside / "here"
    bare_planted = planted.exists()
    planted.unlink()
    inside = arena.inside(nested, mode=mode)

    assert bare_planted and "outside" in bare.out
    assert not planted.exists()
    assert "outside" not in inside.out


@pytest.mark.needs("gcc")
@MODES
def test_e14_path_flips(arena: Arena, mode: str) -> None:
    """A path that turns into a link out of the project between check and use leaks nothing."""
    program = _compiled(arena, "flip.c")

    def run(inside: bool) -> Outcomes:
        arena.renew()
        shutil.copy(program, arena.project / "flip")
        rounds = "6000" if inside else "5000000"
        command: list[str | Path] = ["./flip", "here", arena.outside / "secret", SECRET, rounds]
        outcome = arena.inside(command, mode=mode) if inside else arena.bare(command)
        return {k: int(v) for k, v in (line.split() for line in outcome.out.splitlines())}

    bare = run(inside=False)
    inside = run(inside=True)
    kept = (arena.outside / "secret").read_text()
    (arena.outside / "secret").write_text(SECRET)

    assert all(bare[name] for name in ("open", "openat", "openat2", "creat")), bare
    assert not any(inside.values()), inside
    assert kept != ""


Outcomes = dict[str, int]


def _compiled(arena: Arena, source: str, *flags: str) -> Path:
    program = arena.base / source.removesuffix(".c")
    subprocess.run(["gcc", "-O1", "-pthread", *flags, "-o", program, ATTACKS / source], check=True)
    return program


@MODES
def test_e16_other_ways_to_run_a_denied_program(arena: Arena, mode: str) -> None:
    """A program that is hidden cannot be run by any spelling of its path, nor copied and run."""
    tool = arena.project / "tool"
    interpreter = next(Path("/").glob("lib*/ld-linux-*.so.*"), None) or "/lib/ld-musl-x86_64.so.1"

    def run(inside: bool) -> list[str]:
        arena.renew()
        shutil.copy(PYTHON, tool)
        act = attack("denied", tool, interpreter)
        if inside:
            return list(arena.inside(act, "--set", 'workspace.hide=["/tool"]', mode=mode).json)
        return list(arena.bare(act).json)

    bare = run(inside=False)
    inside = run(inside=True)

    assert {"plain", "proc root", "loader", "copy", "memfd", "link"} <= {*bare}
    assert inside == []


PAYLOAD = (
    'cp "$HOME/.ssh/id_rsa" "{drop}"; cp "{home}/.ssh/id_rsa" "{drop}"; echo ran > "{drop}.ran"'
)


@pytest.mark.needs("git")
@pytest.mark.parametrize(
    ("way", "mode"),
    [
        *(
            (way, "overlay")
            for way in ("diff", "ssh", "editor", "preload", "bash-env", "prefix", "spaces")
        ),
        *((way, "direct") for way in ("ssh", "preload", "prefix")),
    ],
)
def test_e17_e18_an_allowed_command_that_runs_another(arena: Arena, mode: str, way: str) -> None:
    """What an innocent command line is made to run is confined like the command itself."""
    drop = arena.outside / "drop"
    payload = PAYLOAD.format(drop=drop, home=arena.home)
    commands = {
        "diff": "export GIT_EXTERNAL_DIFF='sh ./payload'; git diff --no-index README.md .env",
        "ssh": "export GIT_SSH_COMMAND='sh ./payload'; git ls-remote ssh://localhost/x",
        "editor": "export GIT_EDITOR='sh ./payload'; git init -q g; cd g; cp ../payload .; "
        "git -c user.name=x -c user.email=x@y commit -q --allow-empty",
        "preload": "export LD_PRELOAD=$PWD/preload.so; ls",
        "bash-env": "export ENV=./payload BASH_ENV=./payload; bash -c true",
        "prefix": "grep x README.md; sh ./payload",
        "spaces": "grep x README.md;" + " " * 4000 + "sh ./payload",
    }
    if way == "preload" and not shutil.which("gcc"):
        pytest.skip("needs gcc")

    def run(inside: bool) -> bool:
        arena.renew()
        (arena.project / "payload").write_text(payload + "\n")
        if way == "preload":
            source = (
                '__attribute__((constructor)) void f(void){unsetenv("LD_PRELOAD");'
                'system("sh ./payload");}'
            )
            subprocess.run(
                ["gcc", "-w", "-shared", "-fPIC", "-xc", "-", "-o", arena.project / "preload.so"],
                input=source.encode(),
                check=True,
            )
        command = shell(commands[way])
        _ = arena.inside(command, mode=mode) if inside else arena.bare(command)
        stolen = drop.exists() and drop.read_text() == SECRET
        ran = drop.with_name("drop.ran").exists()
        for path in (drop, drop.with_name("drop.ran")):
            path.unlink(missing_ok=True)
        return stolen or ran

    assert run(inside=False)
    assert not run(inside=True)


@WRITABLE
def test_mounts_cannot_be_undone(arena: Arena, mode: str) -> None:
    """No mount of the sandbox can be moved, changed, covered or taken away."""
    outcome = arena.inside(attack("mounts", arena.outside), mode=mode)

    assert outcome.json == []


@WRITABLE
def test_hostile_names(arena: Arena, mode: str) -> None:
    """Names of any bytes, of any length and depth, are written where they belong and nowhere else."""
    make = attack("names", "3000" if mode == "overlay" else "1100")

    bare = arena.bare(make).json
    _clear(arena.project)
    before = _listing(arena)
    inside = arena.inside(make, mode=mode).json

    assert bare["depth"] >= 1000 and bare["names"]
    assert inside["names"] == bare["names"]
    assert _listing(arena) == before
    if mode == "direct":
        _clear(arena.project)
    assert arena.inside(["cat", "README.md"] if mode == "overlay" else ["true"]).status == 0


def _clear(project: Path) -> None:
    subprocess.run(["rm", "-rf", "--", *project.iterdir()], check=True)
    (project / "README.md").write_text("again\n")
