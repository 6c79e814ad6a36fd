"""What an archive means for a project: kinds, flags, conflicts, renames."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from tests.support import workbench

from casemate.errors import WorkspaceError
from casemate.workspace import changes as changes_module
from casemate.workspace import flags
from casemate.workspace.archive_writer import ArchiveWriter


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project."""
    root = tmp_path / "project"
    workbench.write(root / "readme", "hello\n")
    workbench.write(root / "src/main.py", "print(1)\n")
    workbench.write(root / "src/tool", "#!/bin/sh\n", 0o755)
    workbench.write(root / "src/deep/a/b/file", "deep\n")
    (root / "link").symlink_to("readme")
    for directory in ("src", "src/deep", "src/deep/a", "src/deep/a/b"):
        (root / directory).chmod(0o755)
    return root


def test_kinds(project: Path) -> None:
    """Each kind of change is told from the others."""

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src")
        workbench.text(writer, "src/main.py", "print(2)\n")
        workbench.text(writer, "src/tool", "#!/bin/sh\n", 0o644)
        workbench.text(writer, "src/new.py", "new\n")
        writer.directory(0, b"fresh", mode=0o700)
        writer.symlink(0, b"link", b"src/main.py")
        writer.symlink(0, b"src/another", b"main.py")
        writer.whiteout(0, b"readme")
        writer.whiteout(0, b"never-there")
        workbench.text(writer, "src/deep", "now a file\n")

    found = workbench.changes_of(project, build)
    assert {path: change.kind for path, change in found.items()} == {
        "src/main.py": "modified",
        "src/tool": "mode",
        "src/new.py": "added",
        "fresh": "directory-added",
        "link": "symlink",
        "src/another": "symlink",
        "readme": "deleted",
        "src/deep": "replaced",
        "src/deep/a": "directory-deleted",
        "src/deep/a/b": "directory-deleted",
        "src/deep/a/b/file": "deleted",
    }
    changed = found["src/main.py"]
    assert changed.before.size == 9
    assert changed.before.digest != changed.after.digest != ""
    assert not any(change.flags for change in found.values())


def test_copied_up_but_unchanged_is_no_change(project: Path) -> None:
    """A record with the content and mode of what lies below is not a change."""

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src")
        workbench.text(writer, "src/main.py", "print(1)\n")
        workbench.text(writer, "src/tool", "#!/bin/sh\n", 0o755)
        writer.symlink(0, b"link", b"readme")
        writer.directory(0, b"src/deep")

    assert workbench.changes_of(project, build) == {}


def test_opaque_directory_deletes_what_is_not_added_again(project: Path) -> None:
    """Below an opaque directory, and the directories in it, only what has a record stays."""
    workbench.write(project / "src/deep/a/c/kept", "kept\n")
    (project / "src/deep/a/c").chmod(0o755)

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src", opaque=True)
        workbench.text(writer, "src/main.py", "print(1)\n")
        writer.directory(0, b"src/deep")
        writer.directory(0, b"src/deep/a")
        writer.directory(0, b"src/deep/a/c")
        workbench.text(writer, "src/deep/a/c/kept", "kept\n")

    found = workbench.changes_of(project, build)
    assert {path: change.kind for path, change in found.items()} == {
        "src/tool": "deleted",
        "src/deep/a/b": "directory-deleted",
        "src/deep/a/b/file": "deleted",
    }


def test_deleted_directory_lists_all_it_holds(project: Path) -> None:
    """A deleted directory is listed to the bottom without following links out of it."""
    outside = workbench.write(project.parent / "outside/precious", "precious\n")
    (project / "src/deep/out").symlink_to(outside.parent)
    found = workbench.changes_of(project, lambda w: w.whiteout(0, b"src"))
    assert {path: change.kind for path, change in found.items()} == {
        "src": "directory-deleted",
        "src/main.py": "deleted",
        "src/tool": "deleted",
        "src/deep": "directory-deleted",
        "src/deep/out": "deleted",
        "src/deep/a": "directory-deleted",
        "src/deep/a/b": "directory-deleted",
        "src/deep/a/b/file": "deleted",
    }


def test_very_deep_directory(project: Path) -> None:
    """Deleting a directory a thousand levels deep needs no recursion."""
    here = os.open(project, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        deeper = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = deeper
    os.close(here)
    try:
        found = workbench.changes_of(project, lambda w: w.whiteout(0, b"d"))
    finally:
        # pytest would need the recursion to clean up.
        subprocess.run(["rm", "-rf", project / "d"], check=True)
    assert len(found) == 1500


def test_listing_is_bounded(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deleted directory with too many entries is flagged and never deleted, not listed."""
    monkeypatch.setattr(changes_module, "LISTED_MAX", 2)
    found = workbench.changes_of(project, lambda w: w.whiteout(0, b"src"))
    assert flags.UNLISTED in found["src"].flags
    assert len(found) <= 4


def test_type_changes(project: Path) -> None:
    """File, link, directory and special file replace each other."""

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"readme")
        workbench.text(writer, "readme/inner", "x")
        workbench.text(writer, "link", "no link\n")
        writer.directory(0, b"src")
        writer.symlink(0, b"src/main.py", b"tool")
        writer.special(0, b"src/tool")
        writer.special(0, b"src/pipe")

    found = workbench.changes_of(project, build)
    assert found["readme"].kind == "replaced"
    assert found["readme/inner"].kind == "added"
    assert found["link"].kind == "replaced"
    assert found["src/main.py"].kind == "replaced"
    assert found["src/tool"].flags == {flags.SPECIAL}
    assert found["src/pipe"].flags == {flags.SPECIAL}


def test_flags(project: Path) -> None:
    """Each property that a reviewer must know is flagged."""

    def build(writer: ArchiveWriter) -> None:
        workbench.text(writer, "run.sh", "#!/bin/sh\n", 0o755)
        workbench.text(writer, "suid", "x", 0o4755)
        workbench.text(writer, "blob", b"a\0b")
        workbench.text(writer, ".envrc", "evil\n")
        writer.symlink(0, b"escape", b"../outside")
        writer.symlink(0, b"absolute", b"/home/someone/.ssh/id_rsa")
        writer.symlink(0, b"toolchain", b"/usr/bin/python3")
        writer.file(0, b"big", [(0, b"x")], size=(1 << 20) + 1)
        writer.file(0, b"claims", [(0, b"x")], size=1 << 40)
        workbench.text(writer, "hidden", "x")
        workbench.text(writer, "protected", "x")

    found = workbench.changes_of(
        project,
        build,
        hidden=lambda path, _: path == b"hidden",
        protected=lambda path, _: path == b"protected",
    )
    assert {path: change.flags for path, change in found.items()} == {
        "run.sh": {flags.EXECUTABLE},
        "suid": {flags.SETUID, flags.EXECUTABLE},
        "blob": {flags.BINARY},
        ".envrc": {flags.RUNS_ON_HOST},
        "escape": {flags.OUTSIDE_LINK},
        "absolute": {flags.OUTSIDE_LINK},
        "toolchain": frozenset(),
        "big": {flags.LARGE, flags.BINARY},
        "claims": {flags.LARGE, flags.OVERSIZED},
        "hidden": {flags.HIDDEN},
        "protected": {flags.PROTECTED},
    }


def test_holes_of_many_files_are_bounded(project: Path) -> None:
    """Many files of holes cannot keep the host reading zeros: past a total they are oversized."""

    def build(writer: ArchiveWriter) -> None:
        for number in range(5):
            writer.file(0, b"%d" % number, [], size=100)

    original = changes_module.HOLES_TOTAL_MAX
    changes_module.HOLES_TOTAL_MAX = 250
    try:
        found = workbench.changes_of(project, build)
    finally:
        changes_module.HOLES_TOTAL_MAX = original
    assert [flags.OVERSIZED in found[str(n)].flags for n in range(5)] == [False] * 2 + [True] * 3


def test_setuid_bits_alone_are_reported(project: Path) -> None:
    """Setting only a setuid bit is shown although nothing of it will be applied."""

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src")
        workbench.text(writer, "src/tool", "#!/bin/sh\n", 0o4755)

    change = workbench.changes_of(project, build)["src/tool"]
    assert change.kind == "mode"
    assert change.flags == {flags.SETUID}


def test_conflicts(project: Path) -> None:
    """What changed on the host after the start is a conflict, unless it changed to the same."""
    started = workbench.settle()
    workbench.settle()
    workbench.write(project / "readme", "edited on the host\n")
    workbench.write(project / "src/main.py", "print(2)\n")
    workbench.write(project / "appeared", "host\n")
    workbench.write(project / "src/deep/a/b/new-on-host", "host\n")

    def build(writer: ArchiveWriter) -> None:
        workbench.text(writer, "readme", "edited by the agent\n")
        writer.directory(0, b"src")
        workbench.text(writer, "src/main.py", "print(2)\n")
        workbench.text(writer, "src/tool", "changed\n", 0o755)
        workbench.text(writer, "appeared", "agent\n")
        writer.whiteout(0, b"src/deep")

    found = workbench.changes_of(project, build, started_ns=started)
    assert {path for path, change in found.items() if flags.CONFLICT in change.flags} == {
        "readme",
        "appeared",
        "src/deep/a/b/new-on-host",
    }
    assert "src/main.py" not in found


def test_renames(project: Path) -> None:
    """A deleted and an added file of one content are one rename; copies stay additions."""
    workbench.write(project / "src/twin", "deep\n")

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"src")
        writer.whiteout(0, b"src/tool")
        workbench.text(writer, "src/renamed-tool", "#!/bin/sh\n", 0o755)
        workbench.text(writer, "src/copied-tool", "#!/bin/sh\n", 0o755)
        writer.whiteout(0, b"src/deep")
        writer.directory(0, b"moved")
        workbench.text(writer, "moved/file", "deep\n")

    found = workbench.changes_of(project, build)
    assert {path: (c.kind, c.source) for path, c in found.items() if not c.is_directory} == {
        "src/copied-tool": ("renamed", b"src/tool"),
        "src/renamed-tool": ("added", b""),
        "moved/file": ("renamed", b"src/deep/a/b/file"),
    }
    assert found["src/copied-tool"].flags == frozenset()
    assert found["src/renamed-tool"].flags == {flags.EXECUTABLE}


def test_links_in_the_project_are_not_followed(project: Path) -> None:
    """Where the host has a link and the session a directory, nothing behind the link is seen."""
    outside = workbench.write(project.parent / "outside/file", "same\n").parent
    (project / "linked").symlink_to(outside)

    def build(writer: ArchiveWriter) -> None:
        writer.directory(0, b"linked")
        workbench.text(writer, "linked/file", "same\n")

    found = workbench.changes_of(project, build)
    assert found["linked"].kind == "replaced"
    assert found["linked/file"].kind == "added"


def test_special_files_of_the_host(project: Path) -> None:
    """A fifo or socket on the host is never opened; deleting it is reported, not done."""
    os.mkfifo(project / "src/deep/pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(project / "src/deep/socket"))
    found = workbench.changes_of(project, lambda w: w.whiteout(0, b"src"))
    assert flags.SPECIAL in found["src/deep/pipe"].flags
    assert flags.SPECIAL in found["src/deep/socket"].flags


def test_unknown_root(project: Path) -> None:
    """A record in a root that the session does not have is damage."""
    with pytest.raises(WorkspaceError) as caught:
        workbench.changes_of(project, lambda w: w.whiteout(3, b"x"))
    assert caught.value.code == "damaged"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".git/hooks/pre-commit", True),
        (".git/config", True),
        (".git/modules/x/hooks/post-checkout", True),
        (".git/rebase-merge/git-rebase-todo", True),
        (".git/objects/info/alternates", True),
        (".git/objects/ab/" + "c" * 38, False),
        (".git/refs/heads/main", False),
        (".git/index", False),
        (".git", True),
        ("vendor/sub/.git/hooks/pre-push", True),
        ("bare.git/config", True),
        ("HEAD", True),
        (".github/workflows/ci.yml", True),
        ("sub/.vscode/tasks.json", True),
        (".claude/settings.local.json", True),
        ("AGENTS.md", True),
        ("pkg/CLAUDE.md", True),
        ("MAKEFILE", True),
        ("package.json", True),
        ("src/main.py", False),
        ("docs/vscode.md", False),
        ("gitlab.py", False),
    ],
)
def test_files_that_run_on_the_host(path: str, expected: bool) -> None:
    """Hooks, CI, editor, agent and build files are known; ordinary files are not flagged."""
    assert bool(flags.runs_on_host(path.encode())) is expected


@pytest.mark.parametrize(
    ("path", "target", "expected"),
    [
        ("a", "b", False),
        ("a", "..", True),
        ("d/a", "..", False),
        ("d/a", "../x", False),
        ("d/a", "../../x", True),
        ("d/a", "x/../../..", True),
        ("d/a", "./../x", False),
        ("a", "/etc/passwd", True),
        ("a", "/usr/lib/x", False),
        ("a", "/usr/../home/x", True),
        ("a", "//usr/bin/x", False),
        ("a", "/", True),
    ],
)
def test_links_that_lead_outside(path: str, target: str, expected: bool) -> None:
    """Links that leave their root are told by their text; doubtful ones count as leaving."""
    assert flags.leads_outside(path.encode(), target.encode()) is expected
