"""What the supervisor saves is exactly what was done in the layer."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.perimeter import Perimeter

from casemate.workspace import archive

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

# Runs inside: edits at random, then tells what the tree is like.
EDIT = r"""
import base64, json, os, random, stat, sys
source = random.Random(int(sys.argv[1]))
names = [b"a", b"b c", b"\xff\n", "\u00e4".encode(), b"-x"]

def everything():
    found = []
    for directory, directories, files in os.walk(b"."):
        found += [os.path.join(directory, name)[2:] for name in directories + files]
    return sorted(found)

def new():
    directories = [p for p in everything() if os.path.isdir(p) and not os.path.islink(p)] + [b"."]
    return os.path.normpath(os.path.join(source.choice(directories), source.choice(names)))

for _ in range(int(sys.argv[2])):
    paths = everything()
    old = source.choice(paths) if paths else b"nothing"
    kind = source.randrange(12)
    try:
        if kind == 0: os.mkdir(new(), source.choice((0o755, 0o700, 0o500)))
        elif kind in (1, 2):
            with open(new(), "xb") as file: file.write(source.randbytes(source.choice((0, 5, 70000))))
        elif kind == 3: os.symlink(source.choice(paths or [b"x"]), new())
        elif kind == 4:
            modes = (0o755, 0o750, 0o500) if os.path.isdir(old) else (0o600, 0o755, 0o444)
            if not os.path.islink(old): os.chmod(old, source.choice(modes))
        elif kind == 5: os.rename(old, new())
        elif kind == 6: os.unlink(old)
        elif kind == 7: os.rmdir(old)
        elif kind == 8 and os.path.isfile(old):
            with open(old, "ab") as file: file.write(b"more")
        elif kind == 9: os.link(old, new(), follow_symlinks=False)
        elif kind == 10:
            with open(new(), "xb") as file:
                file.seek(source.choice((1 << 20, 1 << 30))); file.write(b"end")
        elif kind == 11: os.mkfifo(new())
    except OSError:
        pass

def text(value): return base64.b64encode(value).decode()

tree = []
for path in everything():
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content = b""
    if kind == stat.S_IFLNK: content = os.readlink(path)
    elif kind == stat.S_IFREG:
        with open(path, "rb") as file:
            content = file.read(1 << 17)
            file.seek(max(0, status.st_size - 3)); content += file.read(3)
    tree.append((text(path), kind, stat.S_IMODE(status.st_mode), status.st_size, text(content)))
print(json.dumps(tree))
"""


def rebuild(perimeter: Perimeter) -> dict[bytes, tuple[str, int, int, bytes]]:
    """The project as the only session left it: the host's tree with the archive laid over it."""
    base = os.fsencode(perimeter.project)
    seen: dict[bytes, tuple[str, int, int, bytes]] = {}
    for directory, directories, files in os.walk(base):
        for name in directories + files:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            relative = os.path.relpath(path, base)
            mode, size = status.st_mode & 0o7777, status.st_size
            if os.path.islink(path):
                seen[relative] = ("link", 0, 0, os.readlink(path))
            elif os.path.isdir(path):
                seen[relative] = ("directory", mode, 0, b"")
            else:
                data = Path(os.fsdecode(path)).read_bytes()
                seen[relative] = ("file", mode, size, data[: 1 << 17] + data[max(0, size - 3) :])
    sessions = perimeter.sessions()
    if not sessions:
        return seen
    with archive.read(os.open(sessions[0].archive_path, os.O_RDONLY)) as opened:
        assert opened.complete
        for record in opened.records:
            lay_over(seen, opened, record)
    return seen


def lay_over(seen: dict[bytes, Any], opened: archive.Archive, record: archive.Record) -> None:
    """Carry out one record."""
    path = record.path
    if path == b".":
        return
    if record.type not in (archive.DIRECTORY,) or seen.get(path, ("",))[0] != "directory":
        for name in [name for name in seen if name == path or name.startswith(path + b"/")]:
            del seen[name]
    if record.type in (archive.DIRECTORY, archive.OPAQUE):
        seen[path] = ("directory", record.mode, 0, b"")
    elif record.type == archive.SYMLINK:
        seen[path] = ("link", 0, 0, opened.target(record))
    elif record.type == archive.SPECIAL:
        seen[path] = ("special", record.mode, 0, b"")
    elif record.type == archive.FILE:
        seen[path] = ("file", record.mode, record.size, edges(opened, record))


def edges(opened: archive.Archive, record: archive.Record) -> bytes:
    """The beginning and the last three bytes of a file, holes as zeros."""
    first = bytearray(min(record.size, 1 << 17))
    last = bytearray(min(record.size, 3))
    start = record.size - len(last)
    for offset, block in opened.blocks(record):
        for target, origin in ((first, 0), (last, start)):
            low, high = max(offset, origin), min(offset + len(block), origin + len(target))
            if low < high:
                target[low - origin : high - origin] = block[low - offset : high - offset]
    return bytes(first + last)


def told(output: str) -> dict[bytes, tuple[str, int, int, bytes]]:
    """What the program inside said the tree was like."""
    import base64

    kinds = {0o100000: "file", 0o040000: "directory", 0o120000: "link", 0o010000: "special"}
    tree = {}
    for path, kind, mode, size, content in json.loads(output):
        name = kinds[kind]
        whole = (name, 0 if name == "link" else mode, size if name == "file" else 0)
        tree[base64.b64decode(path)] = (*whole, base64.b64decode(content))
    return tree


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 1 << 40), steps=st.integers(1, 60))
def test_random_edits(tmp_path: Path, home: Path, seed: int, steps: int) -> None:
    """After any edits the archive, laid over the project, is the tree as it was seen inside."""
    perimeter = make_project(tmp_path, home)
    output = perimeter.output("python3", "-c", EDIT, str(seed), str(steps))

    assert rebuild(perimeter) == told(output)


def make_project(tmp_path: Path, home: Path) -> Perimeter:
    """A new project with files, directories and links to edit, and a state directory of its own."""
    name = os.urandom(6).hex()
    project = tmp_path / name
    for number in range(4):
        directory = project / f"directory{number}/deeper"
        directory.mkdir(parents=True)
        (directory / "file").write_text(f"content {number}\n" * 50)
        (directory.parent / "link").symlink_to("deeper/file")
    state = tmp_path / f"{name}-home"
    state.mkdir()
    os.environ["XDG_STATE_HOME"] = str(state / ".local/state")
    return Perimeter(project, state)


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test moves the state directory; it is put back."""
    monkeypatch.setenv("XDG_STATE_HOME", os.environ["XDG_STATE_HOME"])


def test_nothing_is_saved_of_nothing(perimeter: Perimeter) -> None:
    """Reading, and writing what is removed again, leaves no session behind or an empty one."""
    perimeter.script("cat README.md; : > new; rm new; ls -R > /dev/null")

    assert [name for name in map(str, perimeter.sessions())] == []


def test_holes_stay_holes(perimeter: Perimeter) -> None:
    """A file of a terabyte that is nearly all hole takes next to nothing."""
    options = ("--set", "workspace.disk=2GiB")
    perimeter.python("f = open('big', 'wb'); f.seek(1 << 30); f.write(b'end')", options=options)
    (session,) = perimeter.sessions()

    assert perimeter.changes()["big"].size == (1 << 30) + 3
    assert session.size < 100_000


def test_deep_and_many(perimeter: Perimeter) -> None:
    """Directories two hundred deep and five thousand files are all there."""
    perimeter.python(
        "import os\n"
        "os.makedirs('/'.join(['d'] * 200))\n"
        "os.mkdir('many')\n"
        "for n in range(5000): open(f'many/{n}', 'w').close()"
    )
    changes = perimeter.changes()

    assert "/".join(["d"] * 200) in changes
    assert sum(name.startswith("many/") for name in changes) == 5000


def test_unreadable_to_their_owner(perimeter: Perimeter) -> None:
    """Files and directories whose permissions were taken away are saved with those permissions."""
    perimeter.script("mkdir d; echo x > d/x; chmod 0 d/x; chmod 0 d")
    changes = perimeter.changes()

    assert (changes["d"].mode, changes["d/x"].mode) == (0, 0)
    assert perimeter.content("d/x") == b"x\n"


def test_a_seed_of_its_own(perimeter: Perimeter) -> None:
    """A file replaced by a directory, and a directory by a file, come out as that."""
    seed = random.randrange(1 << 30)
    perimeter.script(
        f"rm README.md; mkdir README.md; echo {seed} > README.md/in; rm -r src; echo f > src"
    )
    changes = perimeter.changes()

    assert changes["README.md"].type in (archive.DIRECTORY, archive.OPAQUE)
    assert perimeter.content("README.md/in") == f"{seed}\n".encode()
    assert changes["src"].type == archive.FILE
