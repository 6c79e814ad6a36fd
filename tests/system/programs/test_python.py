"""Python inside: environments, tests, processes, locks and databases."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tests.support import tree
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

SETUP = """
from setuptools import setup
setup(name="sample", version="1.0", py_modules=["sample"])
"""


def test_install_into_a_virtual_environment(perimeter: Perimeter) -> None:
    """`pip install` of a local directory works offline, in an environment made inside."""
    if perimeter.run("python3", "-c", "import ensurepip, venv").returncode:
        pytest.skip("needs python3-venv on this machine")
    package = perimeter.project / "package"
    package.mkdir()
    (package / "setup.py").write_text(SETUP)
    (package / "sample.py").write_text("def main():\n    print('installed')\n")
    seen = perimeter.script(
        "python3 -m venv env; "
        "env/bin/python -c 'import setuptools' 2>/dev/null || exit 77; "
        "env/bin/pip install -q --no-index --no-build-isolation --no-deps ./package; "
        "cd /tmp; exec \"$OLDPWD\"/env/bin/python -c 'import sample; sample.main()'"
        if _old_python(perimeter)
        else "python3 -m venv --system-site-packages env; "
        "printf '[project]\\nname=\"sample\"\\nversion=\"1.0\"\\n' > package/pyproject.toml; "
        "env/bin/pip install -q --no-index --no-build-isolation --no-deps ./package; "
        "env/bin/python -c 'import sample; sample.main()'"
    )

    assert seen == "installed\n"


def _old_python(perimeter: Perimeter) -> bool:
    """Whether environments still come with setuptools."""
    return perimeter.run("python3", "-c", "import sys; sys.exit(sys.version_info >= (3, 12))"
                         ).returncode == 0


def test_a_real_test_suite(perimeter: Perimeter) -> None:
    """A library's own tests pass inside: those of this package's policy, with the plain runner."""
    shutil.copytree(tree.PACKAGE, perimeter.project / "casemate", ignore=_without_binaries)
    seen = perimeter.run(
        "python3", "-m", "unittest", "-q", "test.test_textwrap", "test.test_json", "test.test_shlex"
    )
    if b"No module named 'test" in seen.stderr:
        pytest.skip("this machine's Python comes without its own tests")

    assert seen.returncode == 0, seen.stderr.decode()


def _without_binaries(_directory: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("bin", "__pycache__")}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(perimeter: Perimeter, method: str) -> None:
    """Worker processes, queues, shared memory and semaphores work with every start method."""
    (perimeter.project / "work.py").write_text(
        "import multiprocessing as m\n"
        "from multiprocessing import shared_memory\n"
        "def square(n): return n * n\n"
        "def fill(name): shared_memory.SharedMemory(name).buf[0] = 7\n"
        "if __name__ == '__main__':\n"
        f"    m.set_start_method({method!r})\n"
        "    with m.Pool(4) as pool: print(sum(pool.map(square, range(100))))\n"
        "    block = shared_memory.SharedMemory(create=True, size=4096)\n"
        "    p = m.Process(target=fill, args=(block.name,)); p.start(); p.join()\n"
        "    print(block.buf[0], p.exitcode); block.close(); block.unlink()\n"
    )

    assert perimeter.output("python3", "work.py") == "328350\n7 0\n"


def test_asyncio_subprocesses(perimeter: Perimeter) -> None:
    """Fifty subprocesses at once under asyncio, with pipes both ways."""
    seen = perimeter.python(
        "import asyncio\n"
        "async def one(n):\n"
        "    p = await asyncio.create_subprocess_exec('cat', stdin=-1, stdout=-1)\n"
        "    out, _ = await p.communicate(str(n).encode())\n"
        "    return int(out)\n"
        "async def all(): return await asyncio.gather(*map(one, range(50)))\n"
        "print(sum(asyncio.run(all())))\n"
    )

    assert seen == "1225\n"


def test_sqlite_in_wal_mode(perimeter: Perimeter) -> None:
    """Write-ahead logging works: its shared memory file is mapped, and readers do not block."""
    seen = perimeter.python(
        "import sqlite3, multiprocessing as m\n"
        "a = sqlite3.connect('db'); print(a.execute('pragma journal_mode=wal').fetchone()[0])\n"
        "a.execute('create table t(n)'); a.commit()\n"
        "def add(n):\n"
        "    c = sqlite3.connect('db', timeout=60); c.execute('insert into t values(?)', (n,))\n"
        "    c.commit(); c.close()\n"
        "ps = [m.Process(target=add, args=(n,)) for n in range(8)]\n"
        "[p.start() for p in ps]; [p.join() for p in ps]\n"
        "print(a.execute('select count(*), sum(n) from t').fetchone())\n"
    )

    assert seen == "wal\n(8, 28)\n"


def test_sqlite_on_a_database_of_the_host(perimeter: Perimeter) -> None:
    """A database of the project can be opened and written; the host's file stays as it was."""
    import sqlite3

    database = perimeter.project / "db"
    connection = sqlite3.connect(database)
    connection.execute("create table t as select 1 as n")
    connection.commit()
    connection.close()
    before = database.read_bytes()
    seen = perimeter.python(
        "import sqlite3; c = sqlite3.connect('db'); c.execute('pragma journal_mode=wal')\n"
        "c.execute('insert into t values (2)'); c.commit()\n"
        "print(c.execute('select sum(n) from t').fetchone()[0])"
    )

    assert seen == "3\n"
    assert database.read_bytes() == before


@pytest.mark.parametrize("call", ["fcntl.flock(f, {})", "fcntl.lockf(f, {})"])
def test_locks_between_processes(perimeter: Perimeter, call: str) -> None:
    """flock(2) and fcntl(2) locks exclude another process until they are given back."""
    take = call.format("fcntl.LOCK_EX | fcntl.LOCK_NB")
    seen = perimeter.python(
        "import fcntl, subprocess, sys\n"
        f"code = '''import fcntl\nf = open('lock', 'r+')\ntry:\n    {take}\n    print('free')\n"
        "except BlockingIOError: print('held')'''\n"
        "def other(): return subprocess.check_output([sys.executable, '-c', code], text=True)\n"
        f"f = open('lock', 'w+'); {take}\n"
        "first = other(); f.close(); print(first + other())\n"
    )

    assert seen.split() == ["held", "free"]


def test_locks_on_a_file_of_the_host(perimeter: Perimeter, tmp_path: Path) -> None:
    """A lock on a project file is private to the layer, so that inside cannot stall the host."""
    import fcntl

    with open(perimeter.project / "README.md", "r+") as host:
        fcntl.flock(host, fcntl.LOCK_EX)
        seen = perimeter.python(
            "import fcntl; f = open('README.md', 'r+'); fcntl.flock(f, fcntl.LOCK_EX); print('ok')",
            timeout=20,
        )

    assert seen == "ok\n"


def test_threads_and_large_stacks(perimeter: Perimeter) -> None:
    """Two hundred threads with pages of their own start and end."""
    seen = perimeter.python(
        "import threading\n"
        "done = []\n"
        "ts = [threading.Thread(target=done.append, args=(n,)) for n in range(200)]\n"
        "[t.start() for t in ts]; [t.join() for t in ts]; print(len(done))"
    )

    assert seen == "200\n"
