"""The git directory of a worktree or submodule, which lies outside its project root.

There `.git` is a file that says where the rest is. A file can say anything, so the place it names
is accepted only if that place, in turn, names this root, and belongs to the same user: a planted
`.git` file opens nothing. git itself is never run. Sources: gitrepository-layout(5),
git-worktree(1), gitsubmodules(7).

What is accepted is opened so that no program of the host can be led to run something by it:

- overlay: the repository's directory is a root of its own, its edits are reviewed like others;
  `config`, `hooks` and `modules` are read-only, and `PROTECTED` is added to the protected patterns;
- direct: of a worktree, `objects`, `refs`, `logs` and its own directory can be written (commits
  work; what rewrites `packed-refs`, such as deleting a branch, does not); a submodule, whose index
  lies beside its configuration, is read-only;
- readonly: everything is read-only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from casemate.plan.etc import read_git_configuration
from casemate.plan.host import Host
from casemate.plan.roots import within
from casemate.policy.model import WorkspaceMode

POINTER_MAX = 4096 + 16
"""Bytes of a file that holds one path."""

PROTECTED = (
    "/commondir",
    "/config.worktree",
    "/info/attributes",
    "/worktrees/*/commondir",
    "/worktrees/*/gitdir",
    "/worktrees/*/config.worktree",
)
"""Relative to a git directory: what tells git where to take its configuration from."""


@dataclass(frozen=True, slots=True)
class GitDirectory:
    """A git directory that is genuinely this root's: real paths."""

    root: str
    directory: str
    """What `.git` names."""
    common: str
    """The repository's directory; of a submodule the same as `directory`."""


@dataclass(frozen=True, slots=True)
class Access:
    """What to open, and how."""

    roots: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()
    protect: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find(host: Host, root: str, roots: Sequence[str]) -> GitDirectory | str | None:
    """The git directory outside `root`; why it is not accepted; or None where there is none.

    `roots` are all project roots: what lies in one of them is there anyway.
    """
    pointer = f"{root}/.git"
    kind = host.kind(pointer)
    if kind == "symlink":
        return "it is a symbolic link"
    if kind != "file":
        return None
    named = _path_in(host, pointer, prefix="gitdir: ")
    if named is None:
        return 'it does not hold "gitdir: PATH"'
    found = host.resolve(os.path.join(root, named))
    if any(within(found.real, other) for other in roots):
        return None
    if found.kind != "directory":
        return f"{named} is not a directory"
    directory = found.real
    parent = os.path.dirname(directory)
    if os.path.basename(parent) == "worktrees":
        return _worktree(host, root, directory, os.path.dirname(parent), roots)
    if "/.git/modules/" in directory:
        return _submodule(host, root, directory, roots)
    return f"{named} is neither a worktree's nor a submodule's"


def enclosing_repository(host: Host, root: str) -> str:
    """The repository that a root without a `.git` of its own is a part of; "" if there is none."""
    if host.kind(f"{root}/.git") != "missing":
        return ""
    above = os.path.dirname(root)
    while above != "/":
        if host.kind(f"{above}/.git") in ("directory", "file"):
            return above
        above = os.path.dirname(above)
    return ""


def _worktree(
    host: Host, root: str, directory: str, common: str, roots: Sequence[str]
) -> GitDirectory | str | None:
    back = _path_in(host, f"{directory}/gitdir")
    if back is None or host.resolve(os.path.join(directory, back)).real != f"{root}/.git":
        return f"{directory} belongs to another worktree"
    shared = _path_in(host, f"{directory}/commondir")
    if shared is None or host.resolve(os.path.join(directory, shared)).real != common:
        return f"{directory} does not belong to {common}"
    return _checked(host, GitDirectory(root, directory, common), roots)


def _submodule(
    host: Host, root: str, directory: str, roots: Sequence[str]
) -> GitDirectory | str | None:
    superproject = directory.partition("/.git/modules/")[0]
    if not within(root, superproject):
        return f"{directory} belongs to a repository that this directory is not in"
    if host.kind(f"{directory}/commondir") != "missing":
        return f"{directory} has its configuration elsewhere"
    worktree = read_git_configuration(_read(host, f"{directory}/config")).get("core.worktree", "")
    if not worktree or host.resolve(os.path.join(directory, worktree)).real != root:
        return f"{directory} belongs to another submodule"
    return _checked(host, GitDirectory(root, directory, directory), roots)


def _checked(host: Host, found: GitDirectory, roots: Sequence[str]) -> GitDirectory | str:
    common = found.common
    if any(within(root, common) for root in roots):
        return f"{common} holds a project root"
    if host.kind(f"{common}/HEAD") != "file" or host.kind(f"{common}/config") != "file":
        return f"{common} is not a git directory"
    for name in ("objects", "refs"):
        if host.kind(f"{common}/{name}") != "directory":
            return f"{common} is not a git directory"
    owner = host.owner(found.root)
    for path in (f"{found.root}/.git", found.directory, common):
        if host.owner(path) != owner:
            return f"{path} belongs to another user"
    if host.kind(f"{common}/hooks") != "directory":
        # What is not there cannot be made read-only.
        return f"it has no hooks directory to protect: mkdir {common}/hooks"
    return found


def access(host: Host, found: Sequence[GitDirectory], mode: WorkspaceMode) -> Access:
    """What to open for the git directories of all roots, each once."""
    if mode == "readonly":
        return Access(readable=tuple(dict.fromkeys(item.common for item in found)))
    roots: list[str] = []
    readable: list[str] = []
    notes: list[str] = []
    for item in found:
        common, own = item.common, item.directory
        if mode == "overlay":
            roots.append(common)
            readable += _existing(host, common, ("config", "hooks", "modules"))
            continue
        readable.append(common)
        if own == common:
            notes.append(
                f"{item.root}/.git: a submodule's history is read-only in direct mode; "
                "to commit, use the overlay mode"
            )
            continue
        settings = f"{common}/config"
        by_worktree = "extensions.worktreeconfig" in read_git_configuration(_read(host, settings))
        if by_worktree and host.kind(f"{own}/config.worktree") == "missing":
            notes.append(
                f"{item.root}/.git: its history is read-only in direct mode, for it lacks a "
                f"configuration file to protect: touch {own}/config.worktree"
            )
            continue
        roots += _existing(host, common, ("objects", "refs", "logs"))
        roots.append(own)
        readable += _existing(host, own, ("commondir", "gitdir", "config.worktree"))
    protect = PROTECTED if mode == "overlay" and found else ()
    once = dict.fromkeys
    return Access(tuple(once(roots)), tuple(once(readable)), protect, tuple(notes))


def _existing(host: Host, directory: str, names: Sequence[str]) -> list[str]:
    paths = [f"{directory}/{name}" for name in names]
    return [path for path in paths if host.kind(path) in ("file", "directory")]


def _read(host: Host, path: str) -> bytes:
    try:
        return host.read(path) or b""
    except OSError:
        return b""


def _path_in(host: Host, path: str, prefix: str = "") -> str | None:
    """The one path a file of git's holds; None if the file is something else."""
    if host.kind(path) != "file":
        return None
    content = _read(host, path)
    if len(content) > POINTER_MAX:
        return None
    text = os.fsdecode(content).removesuffix("\n")
    if not text.startswith(prefix) or set(text) & set("\0\n\r"):
        return None
    return text.removeprefix(prefix) or None
