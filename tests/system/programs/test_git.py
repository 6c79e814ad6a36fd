"""git inside: everyday work, worktrees and submodules, in all workspace modes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.support.perimeter import Perimeter

IDENTITY = "git config --global user.name A; git config --global user.email a@example.invalid\n"

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay", "git")


@pytest.fixture
def repository(project: Path) -> Path:
    """The small project as a repository with one commit; its secret was never committed."""
    for arguments in (["init", "-q"], ["add", "-A", ":!.env"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=project, check=True)
    (project / ".git/info/exclude").write_text(".env\n")
    return project


def subjects(directory: Path) -> list[str]:
    """What the host's git sees: the subjects of the commits, newest first."""
    command = ["git", "log", "--format=%s"]
    return subprocess.check_output(command, cwd=directory, text=True).splitlines()


def test_init_and_commit(perimeter: Perimeter) -> None:
    """A repository can be made, committed to and read; the host's project stays without one."""
    log = perimeter.script(
        IDENTITY + "git init -q; git add -A; git commit -qm one; echo more >> README.md;"
        "git commit -qam two; git status --porcelain; git log --format=%s; git fsck"
    )

    assert log.split() == ["two", "one"]
    assert not (perimeter.project / ".git").exists()


def test_commit_in_a_repository_of_the_host(perimeter: Perimeter, repository: Path) -> None:
    """Commits on top of the host's history work, with branches, rebase, stash and garbage pick-up."""
    log = perimeter.script(
        IDENTITY + "git checkout -qb topic; echo 1 > one; git add one; git commit -qm one;"
        "git checkout -q main; echo 2 > two; git add two; git commit -qm two;"
        "git rebase -q main topic; echo 3 >> one; git stash -q; git stash pop -q;"
        "git commit -qam three; git gc -q; git log --format=%s"
    )

    assert log.split() == ["three", "one", "two", "first"]
    assert subjects(repository) == ["first"]


def test_status_is_clean(perimeter: Perimeter, repository: Path) -> None:
    """An unchanged repository is unchanged inside too."""
    assert repository.is_dir()
    assert perimeter.script("git status --porcelain; git diff --stat") == ""


def test_worktree_add(perimeter: Perimeter, repository: Path) -> None:
    """A second worktree can be made beside the sources and worked in."""
    seen = perimeter.script(
        IDENTITY + "git worktree add -q tree -b side; cd tree; echo x > x; git add x;"
        "git commit -qm side; git -C .. log --format=%s side; git worktree list | wc -l"
    )

    assert seen.split() == ["side", "first", "2"]


def test_run_in_a_worktree_of_the_host(perimeter: Perimeter, repository: Path) -> None:
    """In a worktree whose repository lies elsewhere git works and commits stay in the layer."""
    tree = repository.parent / "tree"
    subprocess.run(["git", "worktree", "add", "-q", tree, "-b", "side"], cwd=repository, check=True)
    worktree = Perimeter(tree, perimeter.home)
    log = worktree.script(
        IDENTITY + "echo x > x; git add x; git commit -qm side; git log --format=%s;"
        "git status --porcelain"
    )

    assert log.split() == ["side", "first"]
    assert subjects(tree) == ["first"]


def test_submodule(perimeter: Perimeter, repository: Path) -> None:
    """A submodule is cloned from a repository inside the project."""
    seen = perimeter.script(
        IDENTITY + "git init -q library; cd library; echo a > a; git add a; git commit -qm a;"
        "cd ..; mkdir top; cd top; git init -q;"
        "git -c protocol.file.allow=always submodule --quiet add ../library part;"
        "git commit -qm part; cat part/a; git submodule status | wc -l"
    )

    assert seen.split() == ["a", "1"]


@pytest.mark.parametrize("mode", ["direct", "readonly"])
def test_other_workspace_modes(perimeter: Perimeter, repository: Path, mode: str) -> None:
    """In direct mode a commit lands in the host's repository; a read-only one can be looked at."""
    options = ("--workspace", mode)
    if mode == "readonly":
        assert perimeter.script("git log --format=%s", options=options) == "first\n"
        refused = perimeter.run("git", "commit", "--allow-empty", "-m", "x", options=options)
        assert refused.returncode == 128 and b"Read-only file system" in refused.stderr
        return
    perimeter.script(IDENTITY + "echo x > x; git add x; git commit -qm live", options=options)

    assert subjects(repository) == ["live", "first"]
