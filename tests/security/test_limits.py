"""Promise: what a session may use is capped, and running against a cap hurts nobody outside."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest
from tests.security.arena import Arena, python, shell

from casemate.workspace.archive import read

WRITABLE = pytest.mark.parametrize("mode", ["overlay", "direct"])
MIB = 1 << 20

FORKS = """
import os, signal, sys, time
made = 0
try:
    for _ in range(int(sys.argv[1])):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        made += 1
except OSError:
    pass
print(made, flush=True)
os.killpg(0, signal.SIGKILL)
"""


@WRITABLE
def test_e39_fork_bomb(arena: Arena, mode: str) -> None:
    """Processes stop being made at the limit, and the session ends as ever."""
    bare = arena.bare(python(FORKS, "200"), start_new_session=True)
    inside = arena.inside(python(FORKS, "200"), "--set", "limits.processes=40", mode=mode)

    assert int(bare.out) == 200
    assert 10 <= int(inside.out) <= 42
    assert arena.inside(["true"]).status == 0


MEMORY = """
import sys
blocks = []
for _ in range(int(sys.argv[1])):
    blocks.append(bytearray(b"x" * (8 << 20)))
print("had it all", flush=True)
"""


def test_e39_memory_bomb(arena: Arena) -> None:
    """Memory beyond the limit is not had; what asked for it dies, and nothing else."""
    bare = arena.bare(python(MEMORY, "50"))
    inside = arena.inside(python(MEMORY, "50"), "--set", "limits.memory=128MiB")

    assert "had it all" in bare.out
    assert "had it all" not in inside.out
    assert inside.status != 0


SHARED = """
import mmap, os, sys, time
held = []
for _ in range(int(sys.argv[1])):
    descriptor = os.memfd_create("x")
    os.truncate(descriptor, 8 << 20)
    held.append(descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(b"x" * (8 << 20))
    time.sleep(0.005)
time.sleep(0.5)
print("had it all", flush=True)
"""


@pytest.mark.needs("memory controller")
def test_e39_memory_without_a_process(arena: Arena) -> None:
    """Memory in files without a name counts like any other, where a control group counts it."""
    bare = arena.bare(python(SHARED, "50"))
    inside = arena.inside(python(SHARED, "50"), "--set", "limits.memory=128MiB")

    assert "had it all" in bare.out
    assert "had it all" not in inside.out


DESCRIPTORS = """
import os
made = []
try:
    while len(made) < 5000:
        made.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
print(len(made))
"""


def test_e39_descriptor_bomb(arena: Arena) -> None:
    """Open files stop at the limit, which cannot be raised."""
    raised = (
        "import resource\nfor n in (4096, 6000):\n"
        "    try: resource.setrlimit(resource.RLIMIT_NOFILE, (n, n))\n    except (OSError, ValueError): pass\n"
    )
    bare = arena.bare(python(raised + DESCRIPTORS))
    inside = arena.inside(python(raised + DESCRIPTORS), "--set", "limits.open_files=200")

    assert int(bare.out) > 1000 or resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 1000
    assert int(inside.out) <= 200


def test_limits_whatever_the_command_line(arena: Arena) -> None:
    """Limits hold for a command however long its arguments are."""
    inside = arena.inside(python(DESCRIPTORS, "x" * 100_000), "--set", "limits.open_files=200")

    assert int(inside.out) <= 200


WRITE = """
import os, sys
how, size = sys.argv[1], int(sys.argv[2])
name = "big"
try:
    if how == "write":
        with open(name, "wb", 0) as file:
            for _ in range(size >> 20):
                file.write(b"x" * (1 << 20))
    elif how == "fallocate":
        with open(name, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size)
    elif how == "many":
        for number in range(size >> 20):
            with open(f"{name}-{number}", "wb") as file:
                file.write(b"x" * (1 << 20))
    elif how == "copies":
        with open(name, "wb") as file:
            file.write(b"x" * (4 << 20))
        for number in range(size >> 22):
            with open(name, "rb") as a, open(f"{name}-{number}", "wb") as b:
                os.copy_file_range(a.fileno(), b.fileno(), 4 << 20)
except OSError:
    pass
print(sum(os.stat(f).st_blocks * 512 for f in os.listdir(".") if f.startswith("big")))
"""


@pytest.mark.parametrize("how", ["write", "fallocate", "many", "copies"])
def test_e39_disk(arena: Arena, how: str) -> None:
    """In overlay mode the layer takes no more bytes than allowed; nothing reaches the disk."""
    bare = arena.bare(python(WRITE, how, str(64 * MIB)))
    arena.renew()
    inside = arena.inside(python(WRITE, how, str(64 * MIB)), "--set", "workspace.disk=8MiB")

    assert int(bare.out) >= 63 * MIB
    assert int(inside.out) <= 8 * MIB
    assert arena.archives()[-1].stat().st_size <= 9 * MIB


def test_e39_disk_in_direct_mode(arena: Arena) -> None:
    """In direct mode the session is ended soon after it wrote more than allowed."""
    slow = python(
        WRITE.replace("file.write(b", "__import__('time').sleep(0.02) or file.write(b"),
        "many",
        str(200 * MIB),
    )

    inside = arena.inside(slow, "--set", "workspace.disk=16MiB", mode="direct")
    written = sum(path.stat().st_size for path in arena.project.glob("big*"))

    assert inside.status != 0 and inside.out == ""
    assert written < 150 * MIB


INODES = """
import os
made = 0
try:
    for kind in range(5):
        for number in range(600):
            name = f"n{kind}-{number}"
            if kind == 0: open(name, "w").close()
            elif kind == 1: os.mkdir(name)
            elif kind == 2: os.symlink("x", name)
            elif kind == 3: os.mkfifo(name)
            else: os.link("README.md", name)
            made += 1
except OSError:
    pass
print(made)
"""


def test_e39_inode_bomb(arena: Arena) -> None:
    """In overlay mode files of any kind stop being made at the limit."""
    bare = arena.bare(python(INODES))
    arena.renew()
    inside = arena.inside(python(INODES), "--set", "workspace.files=500")

    assert int(bare.out) == 3000
    assert int(inside.out) <= 500


WHITEOUTS = """
import os
removed = 0
try:
    for number in range(1500):
        os.unlink(f"f{number}")
        removed += 1
except OSError:
    pass
print(removed)
"""


def test_e39_whiteout_flood(arena: Arena) -> None:
    """Deleting files that the layer must remember costs of the same budget."""

    def fill() -> None:
        arena.renew()
        for number in range(1500):
            (arena.project / f"f{number}").touch()

    fill()
    bare = arena.bare(python(WHITEOUTS))
    fill()
    inside = arena.inside(python(WHITEOUTS), "--set", "workspace.files=500")

    assert int(bare.out) == 1500
    # The kernel makes one whiteout and links it: names are bounded by the layer's memory then.
    assert len(list(arena.project.glob("f*"))) == 1500
    assert arena.archives()[-1].stat().st_size < 2 * MIB
    assert int(inside.out) <= 1500


SCRATCH = """
import os
total = 0
for place in ("/tmp", "/var/tmp", "/dev/shm", os.path.expanduser("~"), "/run", os.environ["XDG_RUNTIME_DIR"]):
    try:
        with open(f"{place}/fill", "wb", 0) as file:
            while True:
                total += file.write(b"x" * (1 << 20))
                if total > 200 << 20: break
    except OSError:
        pass
files = 0
try:
    while files < 120_000:
        os.symlink("x", f"/tmp/s{files}")
        files += 1
except OSError:
    pass
print(total, files)
"""


def test_e39_private_directories(arena: Arena) -> None:
    """/tmp, /var/tmp, /dev/shm, /run and the home share one cap, in bytes and in files."""
    inside = arena.inside(python(SCRATCH), "--set", "limits.scratch=16MiB")
    total, files = (int(number) for number in inside.out.split())

    assert total <= 16 * MIB
    assert files < 120_000


SPARSE = """
import os
for number in range(20):
    with open(f"sparse-{number}", "wb") as file:
        os.truncate(file.fileno(), 60 << 20)
        file.seek((60 << 20) - 1)
        file.write(b"x")
"""


def test_e39_sparse_files(arena: Arena) -> None:
    """Files that are mostly holes stay so: they fill neither the archive nor the disk."""
    inside = arena.inside(python(SPARSE), "--set", "workspace.disk=64MiB")

    assert inside.status == 0
    archive = arena.archives()[-1]
    assert archive.stat().st_blocks * 512 < MIB
    with read(os.open(archive, os.O_RDONLY)) as opened:
        assert sum(record.size for record in opened.records) >= 20 * 60 * MIB


def test_e39_output_flood(arena: Arena) -> None:
    """Output without end is cut where the policy says, and costs casemate no memory."""
    flood = shell("head -c 300000000 /dev/zero | tr '\\0' x")
    target = arena.outside / "output"
    with target.open("wb") as stream:
        arena.inside(flood, "--set", "limits.output=1MiB", stdout=stream, stderr=None)
    size = target.stat().st_size

    assert size <= MIB
    with arena.started(flood) as process:
        assert process.stdout is not None
        for _ in range(100):
            process.stdout.read(MIB)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill()
    assert int(status.split("VmHWM:")[1].split()[0]) < 100 << 10


def test_time_is_up(arena: Arena) -> None:
    """At the limit everything ends, also what ignores signals and has left its session."""
    hold = shell(
        "trap '' TERM INT HUP QUIT; setsid sh -c 'trap \"\" TERM HUP; sleep 30; echo late' & "
        "while :; do sleep 1; done"
    )
    started = time.monotonic()
    inside = arena.inside(hold, "--set", "limits.time=1s", timeout=40)

    assert inside.status == 128 + 9
    assert "late" not in inside.out
    assert time.monotonic() - started < 25


def test_processors(arena: Arena) -> None:
    """One processor's worth of time is what a command gets, however many threads it starts."""
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    inside = arena.inside(
        python(
            "import os\ntry: os.sched_setaffinity(0, range(os.cpu_count()))\n"
            "except OSError: pass\nprint(len(os.sched_getaffinity(0)))"
        ),
        "--set",
        "limits.cpus=1",
    )
    quota = list(Path("/sys/fs/cgroup").glob("cpu*")) and os.getuid() == 0

    assert inside.out.strip() == "1" or quota
