"""What `why` says of a path is what a command inside finds."""

from __future__ import annotations

import os
import socket
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from casemate.plan.build import build
from casemate.plan.explain import Explanation, why
from casemate.plan.host import Host
from casemate.plan.model import Plan
from casemate.policy.model import GUARANTEES, Files, Origin, PathRule, Policy, Workspace
from casemate.policy.patterns import parse_pattern
from casemate.tiers.linux.launch import compile_launch
from casemate.tiers.linux.open import open_session

pytestmark = pytest.mark.needs("user namespaces", "supervisor", "overlay")

PROBE = """\
for path; do
    exists=no read=no write=no
    [ -e "$path" ] && exists=yes
    if [ -d "$path" ]; then
        ls "$path" >/dev/null 2>&1 && read=yes
        ( : > "$path/.probe" ) 2>/dev/null && write=yes
    else
        ( : < "$path" ) 2>/dev/null && read=yes
        ( : >> "$path" ) 2>/dev/null && write=yes
    fi
    echo $exists $read $write
done
"""


def inside(plan: Plan, arguments: list[str], directory: str) -> str:
    """Standard output of a command in a session of its own."""
    launch, _ = compile_launch(replace(plan, waive=GUARANTEES))
    archive = os.memfd_create("archive")
    session = open_session(launch, f"test-{os.urandom(4).hex()}", archive)
    try:
        source, target = os.pipe()
        command = [os.fsencode(argument) for argument in arguments]
        variables = [b"PATH=/usr/bin:/bin", b"HOME=" + os.fsencode(plan.home)]
        identifier = session.start(
            command, variables, os.fsencode(directory), stdio=(None, target, None)
        )
        os.close(target)
        with open(source, encoding="utf-8", errors="surrogateescape") as output:
            text = output.read()
        session.wait(identifier)
        return text
    finally:
        session.close()
        if archive is not None:
            os.close(archive)


def agrees(found: Explanation, result: str) -> bool:
    """Whether a probe's "exists read write" fits a verdict."""
    exists, read, write = (word == "yes" for word in result.split())
    match found.verdict:
        case "hidden":
            return not read
        case "masked":
            return not read and not write
        case "absent":
            # In a private directory something of that name can be made, and goes with it.
            return not exists and not read
        case "readonly" | "synthesised":
            there = exists and read
            return not write and there is ("does not exist" not in found.note)
        case "writable" | "copy-on-write" | "private":
            return write


@pytest.fixture
def plan(home: Path, project: Path) -> Plan:
    """A plan with something of every kind in it."""
    for name in (".ssh/id", ".config/gh/hosts", ".config/app/settings", "tools/bin/tool", "w/data"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of the host\n")
        path.chmod(0o644)
    (home / ".config").chmod(0o755)
    (home / "linked").symlink_to("tools")
    (project / "out").symlink_to(home / ".ssh/id")
    (project / "in").symlink_to(home / "tools/bin/tool")
    hooks = project / ".git/hooks"
    hooks.mkdir(parents=True)
    (hooks / "pre-commit").write_text("exit 0\n")
    # Read as it is started as root, too: by an identity of the sandbox's own.
    home.chmod(0o755)
    return planned(home, project, "overlay")


def planned(home: Path, project: Path, mode: Literal["overlay", "direct", "readonly"]) -> Plan:
    origin = Origin("test")

    def rules(*paths: str) -> tuple[PathRule, ...]:
        return tuple(PathRule(path, origin) for path in paths)

    policy = Policy(
        workspace=Workspace(
            mode=mode,
            hide=(parse_pattern(".env"),),
            protect=(parse_pattern("**/.git/hooks"),),
            disk=16 << 20,
        ),
        files=Files(
            read=rules("/usr", "~/linked/bin", "~/.config"),
            write=rules("~/w"),
            hide=rules("~/.config/gh"),
        ),
    )
    root = os.geteuid() == 0
    return build(
        policy,
        Host(),
        str(project),
        working_directory=str(project),
        uid=1000 if root else os.getuid(),
        gid=1000 if root else os.getgid(),
        user="agent",
        home=str(home),
        environment=dict(os.environ),
    )


PATHS = (
    *(".", "README.md", ".env", "src", "src/new", "link", "out", "in", ".git/hooks/pre-commit"),
    *("~", "~/new", "~/.ssh", "~/.ssh/id", "~/.config/app/settings", "~/.config/gh"),
    *("~/.config/gh/hosts", "~/.config/casemate", "~/linked/bin/tool", "~/tools/bin/tool"),
    *("/", "/usr", "/bin/sh", "/usr/none", "/etc", "/etc/passwd", "/etc/shadow"),
    *("/tmp", "/tmp/new", "/var/tmp", "/var/log", "/var/run", "/run", "/dev/shm", "/proc/version"),
    *("/sys/devices/system/cpu", "/sys/kernel", "/home", "/lib", "/etc/mtab"),
)


@pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
def test_why_agrees_with_reality(
    plan: Plan, home: Path, project: Path, mode: Literal["overlay", "direct", "readonly"]
) -> None:
    """For every kind of path, in every mode."""
    plan = planned(home, project, mode)
    paths = list(PATHS)
    if os.geteuid() != 0:
        # As root the sandbox's own identity is not the owner of what the rule names.
        paths += ["~/w", "~/w/data", "~/w/new"]
    answers = [why(plan, path, Host()) for path in paths]
    wanted = [path.replace("~", str(home)) for path in paths]
    wanted = [path if path.startswith("/") else f"{project}/{path}" for path in wanted]
    results = inside(plan, ["/bin/sh", "-c", PROBE, "probe", *wanted], str(project)).splitlines()
    assert len(results) == len(answers)
    wrong = [
        f"{path}: said {answer.verdict}, found {result}"
        for path, answer, result in zip(paths, answers, results, strict=True)
        if not agrees(answer, result)
    ]
    assert not wrong


def test_programs_find_a_system_they_know(plan: Plan, project: Path) -> None:
    """A user, a host name, a home, processors, and no other account or address."""
    script = "id -un; hostname; cd; pwd; nproc; cut -d: -f1 /etc/passwd; getent hosts localhost"
    lines = inside(plan, ["/bin/sh", "-c", script], str(project)).splitlines()
    assert lines[:3] == ["agent", "casemate", plan.home]
    assert int(lines[3]) >= 1
    assert lines[4:6] == ["agent", "nobody"]
    assert "localhost" in lines[6]


def test_the_home_takes_new_files_beside_what_is_shown(plan: Plan, project: Path) -> None:
    """Also in directories that exist only because something in them is shown."""
    script = (
        "cd; echo x > new && mkdir -p tools/other && echo y > tools/other/f && cat tools/other/f"
    )
    assert inside(plan, ["/bin/sh", "-c", script], str(project)) == "y\n"


@pytest.mark.needs("git")
def test_a_worktree_can_commit_and_cannot_plant(
    repository: Path, home: Path, tmp_path: Path
) -> None:
    """git works in a worktree, as a user would use it, and what runs programs stays as it is."""
    place = tmp_path / "feature"
    subprocess.run(["git", "worktree", "add", "-q", str(place)], cwd=repository, check=True)
    before = (repository / ".git/config").read_bytes()
    script = (
        "echo x > new && git add new && git commit -q -m inside && git log --format=%an:%s -1;"
        "cd $(git rev-parse --git-common-dir); echo x > hooks/x; echo x >> config;"
        "mv hooks h; mv config c; ls hooks/x; echo done"
    )
    for mode in ("overlay", "direct"):
        plan = planned_plain(home, place, mode)
        assert plan.notes == ()
        output = inside(plan, ["/bin/sh", "-c", script], str(place))
        assert output.splitlines() == ["Tester:inside", "done"]
        assert (repository / ".git/config").read_bytes() == before
        assert (repository / ".git/hooks").is_dir()


def planned_plain(home: Path, project: Path, mode: Literal["overlay", "direct"]) -> Plan:
    root = os.geteuid() == 0
    return build(
        Policy(
            workspace=Workspace(mode=mode),
            files=Files(read=(PathRule("/usr", Origin("test")),)),
        ),
        Host(),
        str(project),
        working_directory=str(project),
        uid=1000 if root else os.getuid(),
        gid=1000 if root else os.getgid(),
        user="agent",
        home=str(home),
        environment={},
    )


def test_a_planted_git_file_shows_nothing(project: Path, home: Path) -> None:
    """Without the check a `.git` file would open any directory: it does not."""
    keys = home / ".ssh"
    keys.mkdir()
    (keys / "id").write_text("key")
    (project / ".git").write_text(f"gitdir: {keys}\n")
    plan = planned_plain(home, project, "overlay")
    assert plan.notes
    assert inside(plan, ["/bin/sh", "-c", f"cat {keys}/id; ls {keys}"], str(project)) == ""


def test_no_socket_of_the_users_session_is_there(plan: Plan, project: Path, home: Path) -> None:
    """A socket on the host is not to be connected to: its directory is the sandbox's own."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(home / "agent.sock"))
        assert inside(plan, ["/bin/ls", "-a", str(home)], str(project)).count("agent.sock") == 0
