"""Python inside: environments, tests, processes, locks and databases."""

from __future__ import annotations

import fcntl
import json
import shutil
import sqlite3
import sys

import pytest
from tests.support import tree
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "sample"
version = "1.0"
"""

BACKEND = """
import zipfile
def build_wheel(directory, settings=None, metadata=None):
    name = "sample-1.0-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as wheel:
        wheel.write("sample.py")
        info = "sample-1.0.dist-info/"
        wheel.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: sample\\nVersion: 1.0\\n")
        wheel.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\n"
                       "Root-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(info + "RECORD", "")
    return name
"""


def test_install_into_a_virtual_environment(perimeter: Perimeter) -> None:
    """`pip install` of a local directory works offline, in an environment made inside."""
    if perimeter.run("python3", "-c", "import ensurepip, venv").returncode:
        pytest.skip("needs python3-venv on this machine")
    package = perimeter.project / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(PYPROJECT)
    (package / "backend.py").write_text(BACKEND)
    (package / "sample.py").write_text("def main():\n    print('installed')\n")
    seen = perimeter.script(
        "python3 -m venv env; env/bin/pip install -q --no-index ./package;"
        "env/bin/python -c 'import sample; sample.main(); print(sample.__file__)'"
    )

    assert seen.startswith(f"installed\n{perimeter.project}/env/lib")


def test_a_real_test_suite(perimeter: Perimeter) -> None:
    """A project's own tests pass inside: those of this package's policy, with pytest."""
    for name in ("src", "tests", "pyproject.toml"):
        source, target = tree.ROOT / name, perimeter.project / name
        if source.is_file():
            shutil.copy(source, target)
        else:
            shutil.copytree(source, target, ignore=_without_binaries, dirs_exist_ok=True)
    readable = json.dumps([sys.prefix, sys.base_prefix])
    seen = perimeter.output(
        sys.executable,
        *("-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *(f"tests/unit/policy/test_{name}.py" for name in ("units", "positions", "endpoints")),
        options=("--set", f"files.read={readable}", "--set", 'environment.set={PYTHONPATH="src"}'),
    )

    assert " passed" in seen


def _without_binaries(_directory: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("bin", "__pycache__")}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(perimeter: Perimeter, method: str) -> None:
    """Worker processes, queues, shared memory and semaphores work with every start method."""
    (perimeter.project / "work.py").write_text(
        "import multiprocessing as m\n"
        "from multiprocessing import shared_memory\n"
        "def square(n): return n * n\n"
        "def fill(name): block = shared_memory.SharedMemory(name); block.buf[0] = 7; block.close()\n"
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


def test_locks_on_a_file_of_the_host(perimeter: Perimeter) -> None:
    """A lock on a project file is private to the layer, so that inside cannot stall the host."""
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
