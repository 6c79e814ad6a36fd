"""Git directories outside a root: genuine ones are opened, planted ones gain nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.fake_host import DIRECTORY, Entry, FakeHost, Link

from casemate.plan.git_directory import PROTECTED, GitDirectory, access, find
from casemate.plan.host import Host

pytestmark = pytest.mark.needs("git")


def git(directory: Path, *arguments: str) -> None:
    command = ["git", "-c", "protocol.file.allow=always", *arguments]
    subprocess.run(command, cwd=directory, check=True, capture_output=True)


@pytest.fixture
def worktree(repository: Path) -> Path:
    """A second working tree of the repository, beside it."""
    place = repository.parent / "feature"
    git(repository, "worktree", "add", "-q", str(place))
    return place


@pytest.fixture
def submodule(repository: Path) -> Path:
    """A submodule of the repository, checked out."""
    library = repository.parent / "library"
    library.mkdir()
    git(library, "init", "-q")
    git(library, "commit", "-q", "--allow-empty", "-m", "first")
    git(repository, "submodule", "add", "-q", str(library), "vendor/library")
    return repository / "vendor/library"


def found(root: Path, *others: Path) -> GitDirectory | str | None:
    return find(Host(), str(root), [str(root), *map(str, others)])


def test_a_worktree_is_genuine(worktree: Path, repository: Path) -> None:
    """Its own directory and the repository's are accepted."""
    result = found(worktree)
    assert isinstance(result, GitDirectory), result
    assert result.common == str(repository / ".git")
    assert result.directory == str(repository / ".git/worktrees/feature")


def test_a_submodule_is_genuine(submodule: Path, repository: Path) -> None:
    """Its directory below the superproject's is accepted, alone."""
    result = found(submodule)
    assert isinstance(result, GitDirectory), result
    assert result.directory == result.common
    assert result.common.startswith(str(repository / ".git/modules/"))


def test_nothing_is_needed_where_the_repository_is_a_root(worktree: Path, repository: Path) -> None:
    """What lies in another root is there anyway."""
    assert found(worktree, repository) is None


def test_a_plain_repository_needs_nothing(repository: Path) -> None:
    """A `.git` directory is part of the project."""
    assert found(repository) is None


def other_worktree(worktree: Path, repository: Path) -> str:
    git(repository, "worktree", "add", "-q", str(repository.parent / "second"))
    return f"gitdir: {repository}/.git/worktrees/second"


def secret(worktree: Path, repository: Path) -> str:
    keys = repository.parent / "home/.ssh"
    keys.mkdir(parents=True)
    (keys / "id").write_text("key")
    return f"gitdir: {keys}"


def strangers_repository(worktree: Path, repository: Path) -> str:
    return f"gitdir: {repository}/.git"


def imitation(worktree: Path, repository: Path) -> str:
    """A directory that looks like a repository but for the way back."""
    keys = repository.parent / "keys"
    (keys / "worktrees/x").mkdir(parents=True)
    for name in ("objects", "refs", "hooks"):
        (keys / name).mkdir()
    (keys / "HEAD").write_text("ref: refs/heads/main\n")
    (keys / "config").write_text("")
    (keys / "worktrees/x/commondir").write_text("../..\n")
    return f"gitdir: {keys}/worktrees/x"


def through_a_link(worktree: Path, repository: Path) -> str:
    (worktree / "inner").symlink_to(repository.parent / "second")
    other_worktree(worktree, repository)
    return f"gitdir: {worktree}/inner/../project/.git/worktrees/second"


def climbing(worktree: Path, repository: Path) -> str:
    return "gitdir: ../project/.git/worktrees/../../.git"


def two_lines(worktree: Path, repository: Path) -> str:
    return f"gitdir: {repository}/.git/worktrees/feature\ngitdir: /etc"


def endless(worktree: Path, repository: Path) -> str:
    return f"gitdir: {repository}/.git/worktrees/feature" + "/" * 10_000


@pytest.mark.parametrize(
    "plant",
    [
        other_worktree,
        secret,
        strangers_repository,
        imitation,
        through_a_link,
        climbing,
        two_lines,
        endless,
        lambda *_: "gitdir: /",
        lambda *_: "gitdir: ",
        lambda *_: "/etc",
        lambda *_: "",
    ],
)
def test_a_planted_file_gains_nothing(
    worktree: Path, repository: Path, plant: Callable[[Path, Path], str]
) -> None:
    """Wherever a `.git` file points, only a place that names this root back is opened."""
    assert isinstance(found(worktree), GitDirectory)
    (worktree / ".git").write_text(plant(worktree, repository))
    assert not isinstance(found(worktree), GitDirectory)


def test_a_link_is_not_followed(worktree: Path, repository: Path) -> None:
    """A symbolic link in the place of `.git` is only noted."""
    (worktree / ".git").unlink()
    (worktree / ".git").symlink_to(repository / ".git")
    assert found(worktree) == "it is a symbolic link"


def test_the_way_back_must_lead_to_this_root(worktree: Path, repository: Path) -> None:
    """A copy of a worktree is not the worktree."""
    copy = worktree.parent / "copy"
    shutil.copytree(worktree, copy)
    assert "another worktree" in str(found(copy))


def test_a_submodules_directory_is_only_its_own(submodule: Path, repository: Path) -> None:
    """A sibling that names it is refused, and so is a directory outside the superproject."""
    sibling = repository / "vendor/other"
    sibling.mkdir()
    shutil.copy(submodule / ".git", sibling / ".git")
    assert "another submodule" in str(found(sibling))
    outside = repository.parent / "outside"
    outside.mkdir()
    directory = (repository / ".git/modules/vendor/library").resolve()
    (outside / ".git").write_text(f"gitdir: {directory}\n")
    assert "not in" in str(found(outside))


def test_a_submodule_with_its_configuration_elsewhere_is_refused(submodule: Path) -> None:
    """`commondir` would make git take another directory's configuration."""
    directory = submodule / (submodule / ".git").read_text().removeprefix("gitdir: ").strip()
    (directory / "commondir").write_text("/elsewhere\n")
    assert "elsewhere" in str(found(submodule))


def test_a_directory_without_hooks_is_refused(worktree: Path, repository: Path) -> None:
    """What does not exist cannot be protected; the note says how to help that."""
    shutil.rmtree(repository / ".git/hooks")
    assert "mkdir" in str(found(worktree))


WORKTREE: dict[str, Entry] = {
    "/h/w/.git": b"gitdir: /h/r/.git/worktrees/w\n",
    "/h/r/.git/worktrees/w/gitdir": b"/h/w/.git\n",
    "/h/r/.git/worktrees/w/commondir": b"../..\n",
    "/h/r/.git/HEAD": b"",
    "/h/r/.git/config": b"",
    **dict.fromkeys(("/h/r/.git/objects", "/h/r/.git/refs", "/h/r/.git/hooks"), DIRECTORY),
}


@pytest.mark.parametrize("path", ["/h/w/.git", "/h/r/.git", "/h/r/.git/worktrees/w"])
def test_another_users_directory_is_refused(path: str) -> None:
    """All of it must belong to whoever the root belongs to."""
    assert isinstance(find(FakeHost(WORKTREE), "/h/w", ["/h/w"]), GitDirectory)
    theirs = FakeHost(WORKTREE, owners={path: 1})
    assert find(theirs, "/h/w", ["/h/w"]) == f"{path} belongs to another user"


@pytest.mark.parametrize("name", ["objects", "refs", "hooks", "HEAD", "config"])
def test_parts_that_are_links_are_refused(name: str) -> None:
    """A repository whose parts lie elsewhere is not opened."""
    host = FakeHost({**WORKTREE, f"/h/r/.git/{name}": Link("/secret")})
    assert isinstance(find(host, "/h/w", ["/h/w"]), str)


def test_a_repository_around_its_worktree_is_refused() -> None:
    """A root that names itself as its own git directory does not open its parent."""
    host = FakeHost(
        {
            "/h/worktrees/w/.git": b"gitdir: /h/worktrees/w\n",
            "/h/worktrees/w/gitdir": b"/h/worktrees/w/.git\n",
            "/h/worktrees/w/commondir": b"../..\n",
            "/h/HEAD": b"",
            "/h/config": b"",
            **dict.fromkeys(("/h/objects", "/h/refs", "/h/hooks"), DIRECTORY),
        }
    )
    assert find(host, "/h/worktrees/w", ["/h/worktrees/w"]) is None
    host = FakeHost(
        {
            **host.entries,
            "/h/worktrees/w/.git": b"gitdir: /h/worktrees/v\n",
            "/h/worktrees/v/gitdir": b"/h/worktrees/w/.git\n",
            "/h/worktrees/v/commondir": b"../..\n",
        }
    )
    assert "holds a project root" in str(find(host, "/h/worktrees/w", ["/h/worktrees/w"]))


def worktree_in(host: FakeHost) -> GitDirectory:
    result = find(host, "/h/w", ["/h/w"])
    assert isinstance(result, GitDirectory)
    return result


def test_overlay_opens_the_repository_and_pins_what_runs_programs() -> None:
    """Its edits are reviewed; configuration and hooks cannot be edited at all."""
    host = FakeHost(WORKTREE)
    opened = access(host, [worktree_in(host)] * 2, "overlay")
    assert opened.roots == ("/h/r/.git",)
    assert opened.readable == ("/h/r/.git/config", "/h/r/.git/hooks")
    assert opened.protect == PROTECTED


def test_direct_opens_of_a_worktree_only_data() -> None:
    """Objects, refs, logs and the worktree's own state, less the files that say where to look."""
    host = FakeHost({**WORKTREE, "/h/r/.git/logs": DIRECTORY})
    opened = access(host, [worktree_in(host)], "direct")
    own = "/h/r/.git/worktrees/w"
    parts = [f"/h/r/.git/{name}" for name in ("objects", "refs", "logs")]
    assert opened.roots == (*parts, own)
    assert opened.readable == ("/h/r/.git", f"{own}/commondir", f"{own}/gitdir")


def test_direct_keeps_a_worktree_read_only_that_could_be_given_a_configuration() -> None:
    """Where git reads config.worktree and there is none to protect, nothing can be written."""
    config = b"[extensions]\n\tworktreeConfig = true\n"
    host = FakeHost({**WORKTREE, "/h/r/.git/config": config})
    opened = access(host, [worktree_in(host)], "direct")
    assert (opened.roots, opened.readable) == ((), ("/h/r/.git",))
    assert "config.worktree" in opened.notes[0]


def test_readonly_opens_everything_read_only() -> None:
    """In readonly mode no root is added."""
    host = FakeHost(WORKTREE)
    opened = access(host, [worktree_in(host)], "readonly")
    assert (opened.roots, opened.readable) == ((), ("/h/r/.git",))


def test_git_is_never_run(worktree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here starts a program."""

    def refuse(*_: object) -> None:
        raise AssertionError

    for name in ("fork", "posix_spawn", "system", "popen"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert isinstance(found(worktree), GitDirectory)
