"""Promise: nothing of a session outlives it, whatever its processes do, and when casemate cannot
hold what it promises it does not start."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.security.arena import Arena, python, shell

WRITABLE = pytest.mark.parametrize("mode", ["overlay", "direct"])
MINE = "casemate-cleanup-mark"


def _alive(mark: str) -> list[int]:
    """Host processes with a mark in their command line."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):
                if mark.encode() in (path / "cmdline").read_bytes():
                    found.append(int(path.name))
    return found


def _children(pid: int) -> list[int]:
    """A process and everything below it."""
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _children(int(child))
    return found


def _gone(pids: list[int], seconds: float = 20) -> bool:
    """Whether all processes ended, waiting for them if need be."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(_runs(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@contextlib.contextmanager
def _no_mark_left(mark: str) -> Iterator[None]:
    try:
        yield
    finally:
        for pid in _alive(mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


DETACH = """
import os, signal, sys, time
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for way in range(6):
    if os.fork() == 0:
        os.setsid()
        if os.fork(): os._exit(0)
        os.chdir("/")
        if way % 2: os.setpgid(0, 0)
        null = os.open("/dev/null", os.O_RDWR)
        for number in range(3): os.dup2(null, number)
        os.execvp("sleep", ["sleep", "120.0" + sys.argv[1]])
time.sleep(0.3)
"""


@WRITABLE
def test_e40_orphans(arena: Arena, mode: str) -> None:
    """Processes that left their session, ignore every signal and were adopted end with it."""
    mark = str(os.getpid()) + ("1" if mode == "direct" else "2")
    with _no_mark_left(f"120.0{mark}"):
        arena.bare(python(DETACH, mark))
        assert len(_alive(f"120.0{mark}")) == 6
    with _no_mark_left(f"120.0{mark}"):
        inside = arena.inside(python(DETACH, mark), mode=mode)
        left = _alive(f"120.0{mark}")

    assert inside.status == 0
    assert left == []


@pytest.mark.parametrize("way", ["at", "cron", "systemd-run", "crontab file", "profile"])
def test_e40_other_programs_start_nothing(arena: Arena, way: str) -> None:
    """No service of the host can be asked to run something later."""
    mark = arena.outside / "ran"
    commands = {
        "at": f"echo 'touch {mark}' | at now",
        "cron": f"echo '* * * * * touch {mark}' | crontab -",
        "systemd-run": f"systemd-run --user touch {mark}; systemd-run touch {mark}",
        "crontab file": f"echo '* * * * * root touch {mark}' > /etc/cron.d/x; "
        f"echo '* * * * * touch {mark}' > /var/spool/cron/crontabs/root",
        "profile": f"echo 'touch {mark}' >> ~/.profile; echo 'touch {mark}' >> ~/.bashrc",
    }
    before = {path: path.exists() for path in (Path("/etc/cron.d/x"), arena.home / ".profile")}

    arena.inside(shell(commands[way]))

    assert not mark.exists()
    assert {path: path.exists() for path in before} == before
    assert not (arena.home / ".bashrc").exists()


BEFORE_KILL = {
    "plain": "",
    "signals ignored": "trap '' TERM INT HUP QUIT;",
    "PID 1 without descriptors": "python3 -c 'import resource as r; r.prlimit(1, r.RLIMIT_NOFILE, (0, 0))';",
    "PID 1 slowed": "renice 19 1; python3 -c 'import os; os.sched_setscheduler(1, 5, os.sched_param(0))';",
    "PID 1 signalled": "kill -STOP 1; kill -TSTP 1; kill -KILL 1;",
    "busy": "for i in 1 2 3 4; do (while :; do :; done) & done;",
    "zombies": 'python3 -c \'import os\nfor i in range(200):\n if os.fork() == 0: os._exit(0)\nos.execvp("sleep", ["sleep", "300"])\' &',
}


@pytest.mark.parametrize("before", BEFORE_KILL)
def test_e41_casemate_is_killed(arena: Arena, before: str) -> None:
    """When casemate dies the sandbox dies with it, whatever was done to PID 1; edits are kept."""
    script = shell(f"{BEFORE_KILL[before]} echo edit > edited; echo ready; sleep 300 & sleep 300")
    with arena.started(script) as process:
        assert process.stdout is not None
        while process.stdout.readline() not in (b"ready\n", b""):
            pass
        family = _children(process.pid)
        assert len(family) >= 3
        process.kill()
    gone = _gone(family)
    for pid in family:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)

    assert gone
    assert arena.archived()["edited"] == b"edit\n"


@pytest.mark.parametrize("before", ["PID 1 without descriptors", "PID 1 slowed", "PID 1 signalled"])
def test_e41_a_crippled_supervisor(arena: Arena, before: str) -> None:
    """A command that cripples the supervisor ends its own session and no more: casemate returns."""
    inside = arena.inside(shell(f"{BEFORE_KILL[before]} exit 7"), timeout=40)

    assert inside.status in (7, 125)


@pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])
def test_nothing_is_left(arena: Arena, mode: str) -> None:
    """No mount, control group, socket or file of a session is left on the host."""

    def look() -> list[str]:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        groups = [str(path) for path in Path("/sys/fs/cgroup").glob("*/casemate-*")]
        groups += [str(path) for path in Path("/sys/fs/cgroup").glob("**/casemate-*")]
        temporary = [str(path) for path in Path("/tmp").glob("casemate-*")]
        own = [line for line in mounts if str(arena.base) in line or "casemate" in line]
        return sorted([*groups, *temporary, *own])

    before = look()
    for _ in range(3):
        arena.inside(shell("sleep 100 & mkdir -p a/b; touch a/b/c; exit 3"), mode=mode)

    # What others run on this machine meanwhile comes and goes; what is left stays.
    deadline = time.monotonic() + 10
    while (left := [item for item in look() if item not in before]) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


UNSOUND = {
    "no such policy": ["--policy", "nowhere.toml"],
    "unknown guarantee": ["--waive", "everything"],
    "unknown key": ["--set", "workspace.hid=[]"],
    "secrets": ["--set", 'secrets.KEY.to=["example.com"]'],
    "tier": ["--tier", "vm"],
    "home as project": ["-C", "~"],
    "root as project": ["-C", "/"],
    "system as project": ["-C", "/usr"],
    "kernel tree": ["--set", 'files.read=["/proc"]'],
    "devices": ["--set", 'files.write=["/dev"]'],
    "sockets": ["--set", 'files.read=["/run/user"]'],
    "above the project": ["--set", 'files.write=["/tmp"]'],
}


@pytest.mark.parametrize("case", UNSOUND)
def test_e41_refusals(arena: Arena, case: str) -> None:
    """What cannot be held, understood or meant stops the launch: nothing runs unprotected."""
    said = arena.refused(*UNSOUND[case])

    assert said.startswith("error:")


def test_e41_without_namespaces(arena: Arena) -> None:
    """Where the kernel refuses namespaces nothing starts in overlay mode."""

    def refuse() -> None:
        import ctypes
        import struct

        # A filter that answers EPERM to clone and unshare with CLONE_NEWUSER or CLONE_NEWNS.
        libc = ctypes.CDLL(None, use_errno=True)
        rows = [
            (0x20, 0, 0, 0),
            (0x15, 0, 3, 56),
            (0x20, 0, 0, 16),
            (0x45, 0, 1, 0x10020000),
            (0x06, 0, 0, 0x00050001),
            (0x06, 0, 0, 0x7FFF0000),
        ]
        code = b"".join(struct.pack("HBBI", *row) for row in rows)
        buffer = ctypes.create_string_buffer(code)
        program = struct.pack("HxxxxxxQ", len(rows), ctypes.addressof(buffer))
        libc.prctl(38, 1, 0, 0, 0)
        libc.prctl(22, 2, program)

    if os.uname().machine != "x86_64":
        pytest.skip("the filter of this test is for x86_64")
    said = arena.refused(preexec_fn=refuse)

    assert "namespaces" in said


def test_e41_missing_supervisor(arena: Arena, tmp_path: Path) -> None:
    """Without its supervisor casemate runs nothing at all."""
    import shutil

    import casemate

    package = tmp_path / "copy/casemate"
    shutil.copytree(
        Path(casemate.__file__).parent, package, ignore=shutil.ignore_patterns("bin", "__pycache__")
    )
    run = subprocess.run(
        [os.sys.executable, "-m", "casemate", "run", "--", "echo", "started"],  # type: ignore[attr-defined]
        cwd=arena.project,
        env={**os.environ, "PYTHONPATH": str(package.parent)},
        capture_output=True,
        check=False,
    )

    assert b"started" not in run.stdout
    assert run.returncode == 125


def test_e41_few_descriptors(arena: Arena) -> None:
    """With hardly a descriptor left casemate fails closed."""
    import resource

    for limit in (5, 8, 12, 16):

        def limited(limit: int = limit) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))

        look = python(f"import os; print(os.path.exists({str(arena.outside / 'secret')!r}))")
        from tests.support.command_line import casemate

        run = casemate("run", "-q", "--", *look, cwd=arena.project, preexec_fn=limited)
        assert b"True" not in run.stdout
