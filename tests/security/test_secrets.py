"""Promise: nothing inside can read a secret of the user's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.security.arena import SECRET, Arena, attack, python, shell

MARKER = "marker-of-the-launcher"

BARE_LAUNCHER = """
import subprocess, sys
# A launcher that cleans the environment of what it starts, as they all do.
sys.exit(subprocess.run(sys.argv[1:], env={"PATH": "/usr/bin:/bin"}).returncode)
"""


@pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
def test_e33_environment_of_pid_1(arena: Arena, mode: str) -> None:
    """What the caller has in its environment or memory is read from no process inside."""
    peek = attack("peek", MARKER[::-1])
    environment = {"LAUNCHER_TOKEN": MARKER}

    bare = arena.bare(python(BARE_LAUNCHER, *peek), environment=environment).json
    inside = arena.inside(peek, mode=mode, environment=environment).json

    assert "environ" in bare
    if os.getuid() == 0 or not Path("/proc/sys/kernel/yama").exists():
        assert "mem" in bare
    assert inside == []


def test_e33_variables_of_the_caller(arena: Arena) -> None:
    """Of the caller's variables only those on the policy's list go in, whatever their names."""
    names = [
        *("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "OPENAI_API_KEY", "DATABASE_URL", "KUBECONFIG"),
        *("SSH_AUTH_SOCK", "LD_PRELOAD_TOKEN", "LC_SECRET", "TERM_SECRET", "path", "PATH_", "PASS"),
        *(
            "DBUS_SESSION_BUS_ADDRESS",
            "XAUTHORITY",
            "BASH_FUNC_ls%%",
            "CASEMATE_TOKEN",
            "HTTP_PROXY",
        ),
    ]
    environment = dict.fromkeys(names, SECRET) | {os.fsdecode(b"BYTES\xff"): SECRET}
    dump = python("import sys; sys.stdout.buffer.write(open('/proc/self/environ', 'rb').read())")

    bare = arena.bare(dump, environment=environment)
    inside = arena.inside(dump, environment=environment)

    assert bare.out.count(SECRET) == len(environment)
    leaked = [line for line in inside.out.split("\0") if SECRET in line]
    assert not leaked
    assert "PATH=" in inside.out


def test_e33_policy_variables_are_those_named(arena: Arena) -> None:
    """A variable that the policy names goes in, and none beside it."""
    environment = {"WANTED": "yes", "WANTED_TOO": SECRET}

    inside = arena.inside(["env"], "--set", 'environment.pass=["WANTED"]', environment=environment)

    assert "WANTED=yes\n" in inside.out
    assert SECRET not in inside.out


LINKS = """
import json, os
pid, found = os.sys.argv[1], []
for name in ("root", "cwd", "exe", "ns/mnt", "ns/user"):
    try:
        os.readlink(f"/proc/{pid}/{name}")
        found.append(name)
    except OSError:
        pass
for name in ("environ", "maps", "smaps", "mem", "auxv", "pagemap", "io", "syscall", "stack", "personality"):
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            if name not in ("mem", "pagemap"):
                file.read(1)
        found.append(name)
    except OSError:
        pass
for name in ("fd", "map_files", "fdinfo"):
    try:
        os.listdir(f"/proc/{pid}/{name}")
        found.append(name)
    except OSError:
        pass
try:
    open(f"/proc/{pid}/root/etc/passwd").read()
    found.append("file through root")
except OSError:
    pass
print(json.dumps(found))
"""


def test_e12_proc_1(arena: Arena) -> None:
    """Of PID 1 neither descriptors, memory, root nor working directory can be reached."""
    victim = subprocess.Popen(["sleep", "60"])
    try:
        bare = arena.bare(python(LINKS, str(victim.pid))).json
    finally:
        victim.kill()
        victim.wait()
    inside = arena.inside(python(LINKS, "1")).json

    assert {"root", "environ", "fd", "file through root", "mem"} <= {*bare}
    assert inside == []


DESCRIPTORS = """
import json, os
contents = {}
for name in os.listdir("/proc/self/fd"):
    try:
        number = int(name)
        contents[name] = os.pread(number, 100, 0).decode()
    except OSError as problem:
        contents[name] = problem.strerror
contents.pop("0"), contents.pop("1"), contents.pop("2")
contents = {name: text for name, text in contents.items() if text != "Bad file descriptor"}
print(json.dumps(contents))
"""


@pytest.mark.parametrize("mode", ["overlay", "direct"])
def test_inherited_descriptors(arena: Arena, mode: str) -> None:
    """A descriptor that the caller left open is not passed on."""
    secret = os.open(arena.outside / "secret", os.O_RDONLY)
    directory = os.open(arena.outside, os.O_RDONLY | os.O_DIRECTORY)
    high = os.dup2(secret, 200)
    try:
        settings: dict[str, Any] = {"pass_fds": (secret, directory, high)}
        bare = arena.bare(python(DESCRIPTORS), **settings).json
        inside = arena.inside(python(DESCRIPTORS), mode=mode, **settings).json
    finally:
        for descriptor in (secret, directory, high):
            os.close(descriptor)

    assert SECRET in bare.values()
    assert inside == {}


REOPEN = """
import json, os, sys
result = {}
for number, flags in ((0, os.O_RDWR), (0, os.O_WRONLY | os.O_TRUNC), (1, os.O_RDONLY), (2, os.O_RDONLY)):
    for path in (f"/proc/self/fd/{number}", f"/dev/fd/{number}"):
        try:
            descriptor = os.open(path, flags)
            if flags & os.O_RDWR or flags & os.O_WRONLY:
                os.write(descriptor, b"overwritten")
            else:
                result[f"{path} {flags}"] = os.pread(descriptor, 100, 0).decode()
        except OSError as problem:
            result[f"{path} {flags}"] = ""
print(json.dumps(result), flush=True)
"""


@pytest.mark.needs("landlock")
def test_reopening_passed_streams(arena: Arena) -> None:
    """A file passed for reading cannot be reopened for writing, nor one for writing read."""

    def run(inside: bool) -> tuple[str, str]:
        source = arena.outside / "input"
        target = arena.outside / "output"
        source.write_text("harmless")
        target.write_text(SECRET)
        with source.open("rb") as given, target.open("ab") as errors:
            start = arena.inside if inside else arena.bare
            start(python(REOPEN), stdin=given, stdout=errors, stderr=errors)
        return source.read_text(), target.read_text()

    bare_source, bare_target = run(inside=False)
    source, target = run(inside=True)

    assert bare_source == "overwritten"
    assert bare_target.count(SECRET) > 1
    assert source == "harmless"
    assert target.count(SECRET) == 1


def test_e33_core_dumps(arena: Arena) -> None:
    """A crash inside leaves no memory image, whatever limits the program asks for."""
    if not Path("/proc/sys/kernel/core_pattern").read_text().startswith("core"):
        pytest.skip("core dumps of this machine do not go to the working directory")
    crash = shell("ulimit -S -c $(ulimit -H -c); sh -c 'kill -SEGV $$'; ls | grep core")

    bare = arena.bare(shell("ulimit -c unlimited 2>/dev/null;" + crash[2]))
    arena.renew()
    inside = arena.inside(crash)

    assert "core" in bare.out
    assert "core" not in inside.out


HOME_FILES = (
    ".ssh/id_rsa .aws/credentials .netrc .git-credentials .config/gh/hosts.yml "
    ".bash_history .local/share/keyrings/login.keyring .gnupg/secring.gpg .docker/config.json "
    ".codex/auth.json .claude.json .npmrc .pypirc .kube/config .mozilla/cookies.sqlite notes.txt"
)


@pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
def test_home_secrets(arena: Arena, mode: str) -> None:
    """Nothing of the home directory can be read, listed or found."""
    for name in HOME_FILES.split():
        path = arena.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(SECRET)
    search = shell(
        'cd "$HOME" 2>/dev/null; cd "$1"; grep -rs "$2" . ; ls -A . ; cat $3',
        arena.home,
        SECRET,
        HOME_FILES,
    )

    bare = arena.bare(search)
    inside = arena.inside(search, mode=mode)

    assert bare.out.count(SECRET) >= 2 * len(HOME_FILES.split())
    assert SECRET not in inside.out
    assert not {*HOME_FILES.split()} & {*inside.out.split()}


def test_own_directories_are_masked(arena: Arena) -> None:
    """Sessions, trust and cached plans stay out of sight even where a rule grants what holds them."""
    arena.inside(["touch", "change"])
    read = shell('grep -rc "" "$1" "$2" | wc -l; ls -R "$1" "$2"', arena.state, arena.state.parent)
    grant = f'files.read=["{arena.state.parent}"]'

    bare = arena.bare(read)
    inside = arena.inside(read, "--set", grant)

    assert "session.json" in bare.out
    assert "session.json" not in inside.out and "plans" not in inside.out


@pytest.mark.parametrize("what", ["write", "inner"])
def test_own_directories_cannot_be_granted(arena: Arena, what: str) -> None:
    """A rule that would open casemate's own directory to the sandbox is refused."""
    arena.inside(["true"])
    grant = {
        "write": f'files.write=["{arena.state.parent}"]',
        "inner": f'files.read=["{arena.state}/sessions"]',
    }[what]

    assert "casemate's own" in arena.refused("--set", grant)
