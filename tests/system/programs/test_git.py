"""git inside: everyday work, worktrees and submodules, in all workspace modes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay", "git")

IDENTITY = "git config --global user.name A; git config --global user.email a@example.invalid\n"


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
    host = subprocess.run(["git", "log", "--format=%s"], cwd=repository, capture_output=True)
    assert host.stdout == b"first\n"


def test_status_is_clean(perimeter: Perimeter, repository: Path) -> None:
    """An unchanged project is unchanged inside too, hidden files apart."""
    (repository / ".gitignore").write_text(".env\n")
    subprocess.run(["git", "rm", "-q", "--cached", ".env"], cwd=repository, check=True)
    subprocess.run(["git", "commit", "-qam", "ignore"], cwd=repository, check=True)

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
    host = subprocess.run(["git", "log", "--format=%s", "side"], cwd=tree, capture_output=True)
    assert host.stdout == b"first\n"


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
        assert perimeter.run("git", "commit", "--allow-empty", "-m", "x").returncode != 0
        return
    perimeter.script(IDENTITY + "echo x > x; git add x; git commit -qm live", options=options)

    host = subprocess.run(["git", "log", "--format=%s"], cwd=repository, capture_output=True)
    assert host.stdout == b"live\nfirst\n"
