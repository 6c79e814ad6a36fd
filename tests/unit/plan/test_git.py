"""Repositories that lie outside the project: the genuine ones work, planted ones gain nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Planner

from casemate.plan.git import settings
from casemate.plan.model import File, Plan

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(directory: Path, *arguments: str) -> None:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b.example",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b.example",
    }
    subprocess.run(
        ["git", "-c", "protocol.file.allow=always", *arguments],
        cwd=directory,
        env=environment,
        check=True,
        capture_output=True,
    )


def repository(path: Path) -> Path:
    path.mkdir(parents=True)
    git(path, "init", "-q", ".")
    (path / "file").write_text("x")
    git(path, "add", "file")
    git(path, "commit", "-qm", "x")
    return path


def roots(plan: Plan) -> list[tuple[str, str]]:
    return [(root.target, root.prefix) for root in plan.roots]


@needs_git
def test_worktree(planner: Planner, home: Path) -> None:
    """A real worktree brings its repository as a second root, in the same mode."""
    main = repository(home / "work/main")
    git(main, "worktree", "add", "-q", "../tree")
    tree = home / "work/tree"
    plan = planner('[workspace]\nmode = "direct"', tree)

    assert roots(plan) == [(str(tree), ""), (str(main / ".git"), ".git")]
    assert {root.mode for root in plan.roots} == {"direct"}


@needs_git
def test_worktree_of_a_bare_repository(planner: Planner, home: Path) -> None:
    """The common directory need not be called .git."""
    main = repository(home / "work/main")
    git(home / "work", "clone", "-q", "--bare", "main", "store.git")
    git(home / "work/store.git", "worktree", "add", "-q", "../tree")
    plan = planner(directory=home / "work/tree")

    assert roots(plan)[1:] == [(str(home / "work/store.git"), ".git")]
    assert main.exists()


@needs_git
def test_worktree_inside_its_repository(planner: Planner, home: Path) -> None:
    """With the main working tree as the project nothing more is needed."""
    main = repository(home / "work/main")
    git(main, "worktree", "add", "-q", "trees/one")

    assert roots(planner(directory=main)) == [(str(main), "")]
    assert roots(planner(directory=main / "trees/one"))[1:] == [(str(main / ".git"), ".git")]


@needs_git
def test_submodule(planner: Planner, home: Path) -> None:
    """A submodule opened as the project brings its own git directory, not its parent's."""
    repository(home / "work/library")
    main = repository(home / "work/main")
    git(main, "submodule", "add", "-q", str(home / "work/library"), "vendor/library")
    plan = planner(directory=main / "vendor/library")

    assert roots(plan)[1:] == [(str(main / ".git/modules/vendor/library"), ".git")]


def plant(project: Path, target: str) -> None:
    (project / ".git").write_text(f"gitdir: {target}\n")


def git_directory(path: Path) -> Path:
    for name in ("objects", "refs"):
        (path / name).mkdir(parents=True)
    (path / "HEAD").write_text("ref: refs/heads/main\n")
    return path


def test_planted_pointer_to_a_secret(planner: Planner, home: Path, project: Path) -> None:
    """A .git file that names ~/.ssh shows nothing of it."""
    (home / ".ssh").mkdir()
    for target in (f"{home}/.ssh", "../../.ssh", f"{home}/.ssh/../.ssh", "/", "/etc", "a\0b"):
        plant(project, target)
        plan = planner()

        assert roots(plan) == [(str(project), "")]
        assert any("git will not work" in note for note in plan.notes)


def test_planted_pointer_to_another_repository(planner: Planner, home: Path, project: Path) -> None:
    """Another project's repository, worktree record or module does not name this project."""
    other = git_directory(home / "work/other/.git")
    record = other / "worktrees/tree"
    record.mkdir(parents=True)
    (record / "gitdir").write_text(f"{home}/work/tree/.git\n")
    (record / "commondir").write_text("../..\n")
    module = git_directory(other / "modules/library")
    (module / "config").write_text("[core]\n\tworktree = ../../../vendor\n")
    for target in (other, record, module):
        plant(project, str(target))

        assert roots(planner()) == [(str(project), "")]


def test_records_made_inside_the_project(planner: Planner, home: Path, project: Path) -> None:
    """A record that the project itself holds cannot name a directory outside."""
    inside = git_directory(project / "fake/.git")
    record = inside / "worktrees/x"
    record.mkdir(parents=True)
    (record / "gitdir").write_text(f"{project}/.git\n")
    (record / "commondir").write_text(f"{home}\n")
    plant(project, str(record))

    assert roots(planner()) == [(str(project), "")]


def test_record_behind_a_link(planner: Planner, home: Path, project: Path) -> None:
    """Neither .git nor the back pointer is believed through a symbolic link."""
    other = git_directory(home / "work/other/.git")
    record = other / "worktrees/x"
    record.mkdir(parents=True)
    (home / "pointer").write_text(f"{project}/.git\n")
    (record / "gitdir").symlink_to(home / "pointer")
    (record / "commondir").write_text("../..\n")
    plant(project, str(record))
    assert roots(planner()) == [(str(project), "")]

    (project / ".git").unlink()
    (project / ".git").symlink_to(other)
    assert roots(planner()) == [(str(project), "")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a file of another user")
def test_record_of_another_user(planner: Planner, home: Path, project: Path) -> None:
    """A record that someone else could have written is not believed."""
    other = git_directory(home / "work/other/.git")
    record = other / "worktrees/x"
    record.mkdir(parents=True)
    (record / "gitdir").write_text(f"{project}/.git\n")
    (record / "commondir").write_text("../..\n")
    plant(project, str(record))
    assert roots(planner())[1:] == [(str(other), ".git")]

    os.chown(record, 4321, 4321)
    assert roots(planner()) == [(str(project), "")]


def test_part_of_a_repository(planner: Planner, home: Path, project: Path) -> None:
    """A project below the top of its repository is told so; nothing above it is shown."""
    git_directory(home / "work/.git")
    plan = planner()

    assert roots(plan) == [(str(project), "")]
    assert any(f"part of the repository {home}/work" in note for note in plan.notes)


def test_configuration_holds_a_name_and_no_program(planner: Planner, home: Path) -> None:
    """Of the user's configuration the sandbox sees who commits, and nothing that runs or unlocks."""
    (home / ".gitconfig").write_text(
        '[user]\n\tname = Ada "L"\\n # c\n\temail = "ada@b.example"\n\tsigningkey = SECRET\n'
        "[core]\n\tfsmonitor = /evil\n\tpager = evil\n\tautocrlf = input\n"
        "[credential]\n\thelper = store\n"
        '[url "https://user:SECRET@host.example/"]\n\tinsteadOf = x\n'
        "[include]\n\tpath = /evil\n[alias]\n\tx = !evil\n"
    )
    found = [step for step in planner().steps if step.target == "/etc/gitconfig"]

    assert isinstance(found[0], File)
    content = found[0].content.decode()
    assert 'email = "ada@b.example"' in content
    assert "autocrlf" in content
    assert "evil" not in content
    assert "SECRET" not in content


@needs_git
def test_git_reads_the_configuration_back(planner: Planner, home: Path, tmp_path: Path) -> None:
    """git itself understands the file, quotes and backslashes included."""
    (home / ".gitconfig").write_text('[User]\n\tName = "a \\"b\\" \\\\c"  ; comment\n')
    found = [step for step in planner().steps if step.target == "/etc/gitconfig"]
    assert isinstance(found[0], File)
    (tmp_path / "config").write_bytes(found[0].content)
    told = subprocess.run(
        ["git", "config", "--file", str(tmp_path / "config"), "user.name"],
        capture_output=True,
        check=True,
    )

    assert told.stdout == b'a "b" \\c\n'


def test_settings_of_hostile_configuration() -> None:
    """Nonsense yields nothing and raises nothing."""
    for content in (
        b"[",
        b"[]",
        b"=",
        b"[a",
        b'[core]\nworktree="',
        b"\xff\xfe[core]\nworktree = x\\",
    ):
        list(settings(content))

    assert list(settings(b"[core] worktree = a\\\n b\n")) == [("core.worktree", "a b")]
