"""The session store: opening, listing, finding, setting aside, and surviving odd directories."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import workbench

from casemate.errors import UsageError, WorkspaceError
from casemate.policy.model import Origin, Pattern
from casemate.workspace import create, durable
from casemate.workspace.archive_writer import ArchiveWriter
from casemate.workspace.store import Session, Store

SOURCE = str(Path(create.__file__).parents[2])


def opened(tmp_path: Path, **options: object) -> create.NewSession:
    project = tmp_path / "project"
    project.mkdir(exist_ok=True)
    arguments = {
        "command": ["codex", "--odd", 'a"b\\c\n\udcff\u202e\U0001f600'],
        "roots": [(0, str(project), "overlay")],
        "tier": "process",
    } | options
    return create.create(str(tmp_path / "state"), **arguments)  # type: ignore[arg-type]


def saved(session: create.NewSession, *paths: str) -> None:
    with open(session.archive, "wb", closefd=False) as stream:
        writer = ArchiveWriter(stream)
        for path in paths:
            workbench.text(writer, path, "content\n")
        writer.finish()


def kept(tmp_path: Path, **options: object) -> Session:
    session = opened(tmp_path, **options)
    saved(session, "file")
    assert create.finish(session, exit_status=0)
    return Store(str(tmp_path / "state")).load(session.id)


def test_round_trip(tmp_path: Path) -> None:
    """What is written on the start-up path is what the store reads, odd characters included."""
    pattern = Pattern("!/a*/", ("a*",), True, True, Origin("casemate.toml", 7, "workspace.hide"))
    before = workbench.now_ns()
    session = opened(
        tmp_path,
        sources=["default", "~/.config/casemate/policy.toml"],
        hide=create.encode_patterns([pattern]),
        guarantees='[{"name":"files","strength":"hard"}]',
    )
    store = Store(str(tmp_path / "state"))
    assert store.load(session.id).state == "running"
    saved(session, "file")
    assert create.finish(session, exit_status=3)
    found = store.load(session.id)
    assert found.state == "open"
    assert found.command == ("codex", "--odd", 'a"b\\c\n\udcff\u202e\U0001f600')
    assert found.hide == (pattern,)
    assert found.sources == ("default", "~/.config/casemate/policy.toml")
    assert found.guarantees == ({"name": "files", "strength": "hard"},)
    assert found.exit_status == 3
    assert before <= found.started_ns <= workbench.now_ns()
    assert found.project == str(tmp_path / "project")
    assert stat.S_IMODE(os.stat(found.directory).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(found.archive_path).st_mode) == 0o600


@given(st.text(st.characters()))
def test_quote_is_json(text: str) -> None:
    """The hand-made JSON strings are what json reads back."""
    assert json.loads(create.quote(text)) == text
    assert create.quote(text).isascii()


def test_start_up_imports(tmp_path: Path) -> None:
    """Opening a session loads none of the modules that cost start-up time."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from casemate.workspace import create\n"
        "s = create.create(sys.argv[2], command=['x'], roots=[(0, '/', 'overlay')], tier='t')\n"
        "create.finish(s, exit_status=0)\n"
        "heavy = {'json', 'dataclasses', 'typing', 'tempfile', 're', 'pathlib', 'enum', 'struct'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, SOURCE, str(tmp_path / "state")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_empty_result_leaves_nothing(tmp_path: Path) -> None:
    """A session without changes, or with only an unchanged root directory, is removed."""
    for with_root in (False, True):
        session = opened(tmp_path)
        mode = stat.S_IMODE(os.stat(tmp_path / "project").st_mode)
        with open(session.archive, "wb", closefd=False) as stream:
            writer = ArchiveWriter(stream)
            if with_root:
                writer.directory(0, b".", mode=mode)
            writer.finish()
        assert not create.finish(session, exit_status=0)
        assert os.listdir(tmp_path / "state/sessions") == []


def test_unsaved_archive_is_kept(tmp_path: Path) -> None:
    """An empty archive file says that nobody saved, not that nothing changed: it is kept."""
    session = opened(tmp_path)
    assert create.finish(session, exit_status=None)
    assert os.listdir(tmp_path / "state/sessions") == [session.id]


def test_changed_root_mode_is_kept(tmp_path: Path) -> None:
    """A record that changes the mode of the root itself is a change."""
    session = opened(tmp_path)
    with open(session.archive, "wb", closefd=False) as stream:
        writer = ArchiveWriter(stream)
        writer.directory(0, b".", mode=0o711)
        writer.finish()
    assert create.finish(session, exit_status=0)


@pytest.mark.parametrize("size", [10, 24, 40])
def test_cut_archive_is_kept_as_incomplete(tmp_path: Path, size: int) -> None:
    """An archive without its end keeps the session, as incomplete."""
    session = opened(tmp_path)
    saved(session, "file")
    os.ftruncate(session.archive, size)
    assert create.finish(session, exit_status=None)
    assert Store(str(tmp_path / "state")).load(session.id).state == "incomplete"


def test_running_until_the_last_holder_is_gone(tmp_path: Path) -> None:
    """The session runs as long as anyone holds the archive's descriptor, as the supervisor."""
    session = opened(tmp_path)
    store = Store(str(tmp_path / "state"))
    holder = subprocess.Popen(["sleep", "60"], pass_fds=[session.archive])
    try:
        os.close(session.archive)
        assert store.load(session.id).state == "running"
        with pytest.raises(WorkspaceError) as caught:
            store.discard(session.id)
        assert caught.value.code == "running"
    finally:
        holder.kill()
        holder.wait()
    assert store.load(session.id).state == "incomplete"


def test_find(tmp_path: Path) -> None:
    """Sessions are found by prefix, by their last letters, or as the project's latest."""
    first, second = kept(tmp_path), kept(tmp_path)
    other = kept(tmp_path, roots=[(0, "/elsewhere", "overlay")])
    store = Store(str(tmp_path / "state"))
    assert store.find(first.id[:-1] + first.id[-1]).id == first.id
    assert store.find(second.id[-4:]).id == second.id
    project = str(tmp_path / "project")
    latest = max(first.id, second.id)
    assert store.find(project=project).id == latest
    store.discard(latest)
    assert store.find(project=project).id == min(first.id, second.id)
    assert {s.id for s in store.sessions()} == {first.id, second.id, other.id}
    assert [s.id for s in store.sessions()] == sorted(
        (s.id for s in store.sessions()), reverse=True
    )
    for wrong in ("nothing", first.id[:8]):
        with pytest.raises(UsageError):
            store.find(wrong)
    with pytest.raises(UsageError):
        store.find(project="/nowhere")


def test_discard_recover_prune(tmp_path: Path) -> None:
    """A discarded session comes back until it is pruned; open sessions are never pruned."""
    session = kept(tmp_path)
    store = Store(str(tmp_path / "state"))
    assert store.discard(session.id).state == "discarded"
    assert store.prune(older_than=60) == ()
    assert store.recover(session.id).state == "open"
    assert store.prune(older_than=0) == ()
    store.discard(session.id)
    time.sleep(0.01)
    assert store.prune(older_than=0) == (session.id,)
    assert os.listdir(store.directory) == []
    with pytest.raises(UsageError):
        store.recover(session.id)


def test_prune_takes_what_holds_nothing(tmp_path: Path) -> None:
    """A directory left by a start that failed is pruned by age; one with changes is not."""
    session = kept(tmp_path)
    store = Store(str(tmp_path / "state"))
    os.unlink(f"{session.directory}/session.json")
    time.sleep(0.01)
    assert store.prune(older_than=0) == ()
    os.truncate(session.archive_path, 0)
    assert store.prune(older_than=60) == ()
    assert store.prune(older_than=0) == (session.id,)


def test_removal_cut_off_is_finished(tmp_path: Path) -> None:
    """What a removal left half-deleted is swept by the next prune."""
    session = kept(tmp_path)
    store = Store(str(tmp_path / "state"))
    os.rename(session.directory, f"{store.directory}/.removed-{session.id}")
    assert store.sessions() == ()
    store.prune()
    assert os.listdir(store.directory) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"version":2}', b"\xff\xfe", b"null"])
def test_damaged_description(tmp_path: Path, content: bytes) -> None:
    """A session whose description is junk is listed as damaged and can be removed."""
    session = kept(tmp_path)
    Path(session.directory, "session.json").write_bytes(content)
    Path(session.directory, "state.json").write_bytes(content)
    Path(session.directory, "result.json").write_bytes(content)
    store = Store(str(tmp_path / "state"))
    (found,) = store.sessions()
    assert found.state == "damaged"
    assert found.problem
    store.remove(session.id)
    assert store.sessions() == ()


def test_foreign_junk(tmp_path: Path) -> None:
    """Files, odd names and links in the directory are passed over and left alone."""
    session = kept(tmp_path)
    store = Store(str(tmp_path / "state"))
    place = Path(store.directory)
    (place / "notes.txt").write_text("mine")
    (place / "some-directory").mkdir()
    (place / "20260101-000000-abcd").write_text("a file with the name of a session")
    (place / "20260101-000000-wxyz").symlink_to("/nonexistent")
    assert [s.id for s in store.sessions()] == [session.id]
    store.prune(older_than=0)
    assert (place / "notes.txt").exists()


def test_junk_instead_of_an_archive(tmp_path: Path) -> None:
    """An archive replaced by something else makes the session damaged, not a crash."""
    session = kept(tmp_path)
    Path(session.archive_path).write_bytes(b"#!/bin/sh\n")
    store = Store(str(tmp_path / "state"))
    assert store.load(session.id).state == "damaged"
    os.unlink(session.archive_path)
    os.symlink("/etc/passwd", session.archive_path)
    assert store.load(session.id).state == "damaged"


def test_state_directory_that_is_a_file(tmp_path: Path) -> None:
    """A state directory that cannot be one is a clear error."""
    (tmp_path / "state").write_text("")
    with pytest.raises(WorkspaceError) as caught:
        opened(tmp_path)
    assert str(tmp_path / "state") in caught.value.message
    assert Store(str(tmp_path / "nowhere")).sessions() == ()


def test_durable_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, the old content stays and no temporary file is left."""
    target = tmp_path / "file"
    durable.write(str(target), b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        durable.write(str(target), b"new")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]
