"""Limits hold: the inside sees the error it would see anywhere, and the host is not disturbed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support import capabilities
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

Set = Callable[..., tuple[str, ...]]
HOLD = "import time; b = bytearray({}); b[::4096] = b'x' * len(b[::4096]); print('held'); time.sleep(5)"


def limits(*settings: str, mode: str = "overlay") -> tuple[str, ...]:
    """Options that set these keys."""
    return ("--workspace", mode, *(word for text in settings for word in ("--set", text)))


def test_memory(perimeter: Perimeter) -> None:
    """A command that takes more memory than the session may is killed or refused; a small one runs."""
    options = limits("limits.memory=96MiB", "limits.scratch=16MiB", "workspace.disk=16MiB")
    greedy = perimeter.run("python3", "-uc", HOLD.format(400 << 20), options=options)
    modest = perimeter.run("python3", "-c", "bytearray(10 << 20)", options=options)

    assert b"held" not in greedy.stdout
    assert greedy.returncode == 137 or b"MemoryError" in greedy.stderr
    assert modest.returncode == 0, modest.stderr


def test_memory_of_many_processes(perimeter: Perimeter) -> None:
    """The limit is on the session: processes that each stay below it are counted together."""
    options = limits("limits.memory=128MiB", "limits.scratch=16MiB", "workspace.disk=16MiB")
    code = (
        "import subprocess, sys\n"
        f"hold = {HOLD.format(48 << 20)!r}\n"
        "ps = [subprocess.Popen([sys.executable, '-uc', hold]) for _ in range(8)]\n"
        "codes = [p.wait() for p in ps]\n"
        "sys.exit(0 if not any(codes) else 9)"
    )
    result = perimeter.run("python3", "-c", code, options=options)

    assert result.returncode in (9, 137), (result.returncode, result.stderr)


@pytest.mark.needs("ordinary user")
def test_memory_by_accounting(perimeter: Perimeter) -> None:
    """Where no control group can be had the supervisor ends the session and says which limit."""
    if not capabilities.missing("memory controller"):
        pytest.skip("this user has a memory control group")
    options = limits("limits.memory=64MiB", "limits.scratch=16MiB", "workspace.disk=16MiB")
    code = (
        "import os, time\nfor _ in range(6): os.fork() or (bytearray(40 << 20), time.sleep(20))\n"
    )
    code = (
        "import os, time\n"
        "for _ in range(6):\n"
        "    if not os.fork(): b = bytearray(30 << 20); b[::4096] = b'x' * len(b[::4096]); time.sleep(60)\n"
        "time.sleep(60)"
    )
    result = perimeter.run("python3", "-c", code, options=options)

    assert result.returncode == 137
    assert b"more memory than allowed" in result.stderr


def test_processes(perimeter: Perimeter) -> None:
    """Beyond the number of processes fork(2) says EAGAIN; the host can still start some."""
    code = (
        "import errno, os, time\n"
        "n = 0\n"
        "try:\n"
        "    while n < 500:\n"
        "        if not os.fork(): time.sleep(30); os._exit(0)\n"
        "        n += 1\n"
        "except OSError as error: print(n, errno.errorcode[error.errno])\n"
    )
    output = perimeter.output("python3", "-c", code, options=limits("limits.processes=20"))
    count, name = output.split()

    assert name == "EAGAIN"
    assert 10 <= int(count) <= 22
    assert os.waitstatus_to_exitcode(os.system("true")) == 0


def test_fork_bomb(perimeter: Perimeter) -> None:
    """A fork bomb is held, and ends with the session's time."""
    options = limits("limits.processes=30", "limits.time=2s")
    result = perimeter.run("bash", "-c", ":(){ :|:& };:; sleep 100", options=options)

    assert result.returncode == 137
    assert b"time is up" in result.stderr


def test_processors(perimeter: Perimeter) -> None:
    """With one processor granted, either no more can be seen or the group's quota says so."""
    code = "import os; print(len(os.sched_getaffinity(0)))"
    options = limits("limits.cpus=1")
    if capabilities.missing("root"):
        assert perimeter.output("python3", "-c", code, options=options) == "1\n"
        return
    process = perimeter.popen("cat", options=options, stdin=-1, stdout=-1)
    assert process.stdin and process.stdout
    process.stdin.write(b"x\n")
    process.stdin.flush()
    process.stdout.readline()
    (session,) = perimeter.sessions()
    quotas = [*Path("/sys/fs/cgroup").rglob(f"casemate-{session.id}/cpu.cfs_quota_us")]
    quotas += Path("/sys/fs/cgroup").rglob(f"casemate-{session.id}/cpu.max")
    values = [quota.read_text().split()[0] for quota in quotas]
    process.communicate()

    assert values == ["100000"] or perimeter.output("python3", "-c", code, options=options) == "1\n"


def test_processors_cannot_be_taken_back(perimeter: Perimeter) -> None:
    """Where processors are pinned the command cannot unpin itself."""
    code = (
        "import os\n"
        "before = os.sched_getaffinity(0)\n"
        "try: os.sched_setaffinity(0, range(os.cpu_count()))\n"
        "except OSError: pass\n"
        "print(os.sched_getaffinity(0) == before or len(before) > 1)"
    )

    assert perimeter.output("python3", "-c", code, options=limits("limits.cpus=1")) == "True\n"


def test_time(perimeter: Perimeter) -> None:
    """When the session's time is up everything is killed, and the limit is named."""
    script = "echo kept > file; (setsid sleep 1000 &); sleep 1000"
    result = perimeter.run("sh", "-c", script, options=limits("limits.time=1s"), timeout=30)

    assert result.returncode == 137
    assert b"time is up" in result.stderr
    assert perimeter.content("file") == b"kept\n"


def test_open_files(perimeter: Perimeter) -> None:
    """Beyond the number of open files open(2) says EMFILE."""
    code = (
        "import errno\n"
        "kept = []\n"
        "try:\n"
        "    while True: kept.append(open('/dev/null'))\n"
        "except OSError as error: print(len(kept), errno.errorcode[error.errno])\n"
    )
    output = perimeter.output("python3", "-c", code, options=limits("limits.open_files=64"))

    assert output == "61 EMFILE\n"


def test_output(perimeter: Perimeter) -> None:
    """Exactly the allowed bytes of output come through; then the command is killed and it is said."""
    result = perimeter.run("sh", "-c", "yes; echo never", options=limits("limits.output=1MiB"))

    assert len(result.stdout) == 1 << 20
    assert result.returncode == 137
    assert b"wrote more than 1048576 bytes" in result.stderr


def test_output_within_the_limit(perimeter: Perimeter) -> None:
    """Output within the limit is untouched, and what runs on in the background holds nobody up."""
    script = "echo out; echo err >&2; sleep 1000 & exit 3"
    result = perimeter.run("sh", "-c", script, options=limits("limits.output=1MiB"), timeout=20)

    assert (result.returncode, result.stdout, result.stderr) == (3, b"out\n", b"err\n")


def test_disk_of_the_layer(perimeter: Perimeter) -> None:
    """Beyond the layer's bytes write(2) says ENOSPC; what was written before is kept."""
    script = "head -c 6000000 /dev/zero > one; head -c 6000000 /dev/zero > two; rm two; echo after > three"
    result = perimeter.run("sh", "-c", script, options=limits("workspace.disk=8MiB"))

    assert b"No space left on device" in result.stderr
    assert len(perimeter.content("one")) == 6_000_000
    assert perimeter.content("three") == b"after\n"
    assert (
        sorted(path.name for path in perimeter.project.iterdir() if path.name in ("one", "two"))
        == []
    )


def test_files_of_the_layer(perimeter: Perimeter) -> None:
    """Beyond the layer's number of files creating one says ENOSPC."""
    code = (
        "import errno\n"
        "try:\n"
        "    for n in range(1000): open(f'file{n}', 'w').close()\n"
        "except OSError as error: print(n, errno.errorcode[error.errno])\n"
    )
    output = perimeter.output("python3", "-c", code, options=limits("workspace.files=100"))
    count, name = output.split()

    assert name == "ENOSPC"
    assert 50 <= int(count) <= 100


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", "$HOME", "/var/tmp", "/run"])
def test_private_directories(perimeter: Perimeter, place: str) -> None:
    """The in-memory directories share one cap: none of them can be filled beyond it."""
    script = f'head -c 20000000 /dev/zero > "{place}/big"; wc -c < "{place}/big"'
    result = perimeter.run("sh", "-c", script, options=limits("limits.scratch=4MiB"))

    if b"ermission denied" not in result.stderr:
        assert b"No space left on device" in result.stderr
        assert int(result.stdout) <= 4 << 20


def test_private_directories_share_their_cap(perimeter: Perimeter) -> None:
    """Filling one of them leaves nothing for the others."""
    script = "head -c 20000000 /dev/zero > /tmp/big; head -c 2000000 /dev/zero > /dev/shm/big; cat /dev/shm/big | wc -c"
    result = perimeter.run("sh", "-c", script, options=limits("limits.scratch=4MiB"))

    assert result.stderr.count(b"No space left on device") == 2
    assert int(result.stdout) < 2_000_000


def test_one_large_file(perimeter: Perimeter) -> None:
    """No file can claim to be larger than the layer may be, holes or not."""
    code = (
        "import errno, os, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try: os.truncate(os.open('big', os.O_CREAT | os.O_WRONLY), 1 << 40); print('made')\n"
        "except OSError as error: print(errno.errorcode[error.errno])\n"
    )

    assert (
        perimeter.output("python3", "-c", code, options=limits("workspace.disk=8MiB")) == "EFBIG\n"
    )


@pytest.mark.parametrize("mode", ["direct"])
def test_disk_in_direct_mode(perimeter: Perimeter, mode: str) -> None:
    """Edits that are live are watched: the session ends, and says which limit was passed."""
    code = (
        "import os, time\n"
        "f = os.open('big0', os.O_CREAT | os.O_WRONLY)\n"
        "for n in range(40):\n"
        "    f = os.open(f'big{n}', os.O_CREAT | os.O_WRONLY); os.write(f, os.urandom(4 << 20))\n"
        "    os.fsync(f)\n"
        "time.sleep(30)"
    )
    options = limits("workspace.disk=16MiB", mode=mode)
    result = perimeter.run("python3", "-c", code, options=options, timeout=90)
    for path in perimeter.project.glob("big*"):
        path.unlink()

    assert result.returncode == 137
    assert b"more disk space than allowed" in result.stderr


def test_which_limits_are_in_force(perimeter: Perimeter) -> None:
    """The summary names, for programs too, by what each limit is held and how strongly."""
    options = (*limits("limits.memory=1GiB", "limits.cpus=1", "limits.time=1h"), "--json")
    result = perimeter.run("true", options=options)
    table = {row["name"]: row for row in json.loads(result.stderr)["guarantees"]}

    assert {"memory", "processes", "cpu", "time", "disk", "file-count"} <= set(table)
    assert all(row["strength"] in ("hard", "soft") and row["by"] for row in table.values())
