"""What git needs beside the project: the repository of a worktree or submodule, and a name.

All that is read here may have been planted by what ran in the project before, so nothing is
believed that does not lead back: a git directory outside the project is shown only if that
directory itself, which no sandbox could have written, says that it belongs to this project.
Sources: gitrepository-layout(5), git-worktree(1), gitmodules(5). Git itself is never run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from casemate.plan.host import Host

_FILE_MAX = 4096
_CONFIGURATION_MAX = 256 << 10

_HARMLESS = {
    "user.name": "name",
    "user.email": "email",
    "init.defaultbranch": "defaultBranch",
    "core.autocrlf": "autocrlf",
    "core.eol": "eol",
    "pull.rebase": "rebase",
    "pull.ff": "ff",
    "merge.conflictstyle": "conflictStyle",
    "diff.algorithm": "algorithm",
}
"""Settings taken over from the user's own: none names a program, a file or a credential."""


@dataclass(frozen=True, slots=True)
class GitDirectory:
    """A git directory outside the project: its real path if it is genuine, else why not."""

    path: str
    problem: str = ""


def outside_git_directory(host: Host, project: str) -> GitDirectory | None:
    """The git directory that `project/.git` points to, if it is a file that does.

    `project` is a real path. None if the repository, if any, lies within the project.
    """
    dot_git = f"{project}/.git"
    if host.is_link(dot_git):
        return GitDirectory("", ".git is a symbolic link, which is not followed")
    content = host.read(dot_git, _FILE_MAX)
    if content is None or not content.startswith(b"gitdir: "):
        return None
    named = os.fsdecode(content[len(b"gitdir: ") :].rstrip(b"\r\n"))
    directory = "" if "\0" in named else host.real(os.path.join(project, named))
    if not directory:
        return GitDirectory("", ".git points to a directory that does not exist")
    if directory == project or directory.startswith(f"{project}/"):
        return None
    for genuine in (_worktree_of, _submodule_of):
        path = genuine(host, directory, project)
        if path:
            return GitDirectory(path)
    return GitDirectory(
        "", f"{directory}, where .git points to, does not name this project as its own"
    )


def _worktree_of(host: Host, directory: str, project: str) -> str:
    """The repository whose worktree record `directory` is, if the record names the project."""
    worktrees, _ = os.path.split(directory)
    common, name = os.path.split(worktrees)
    if name != "worktrees" or not _is_git_directory(host, common):
        return ""
    back = _line(host, f"{directory}/gitdir")
    shared = _line(host, f"{directory}/commondir")
    if not back or not shared:
        return ""
    points_back = os.path.basename(back) == ".git" and project == host.real(
        os.path.join(directory, os.path.dirname(back))
    )
    same = host.real(os.path.join(directory, shared)) == common
    owned = _belongs(host, project, directory, common)
    return common if points_back and same and owned else ""


def _submodule_of(host: Host, directory: str, project: str) -> str:
    """`directory`, if it lies in a repository's modules and its work tree is the project."""
    head, modules, _ = directory.partition("/modules/")
    if not modules or not _is_git_directory(host, head) or not _is_git_directory(host, directory):
        return ""
    content = host.read(f"{directory}/config", _CONFIGURATION_MAX)
    trees = [value for key, value in settings(content or b"") if key == "core.worktree"]
    if not trees or host.real(os.path.join(directory, trees[-1])) != project:
        return ""
    return directory if _belongs(host, project, directory, head) else ""


def _is_git_directory(host: Host, path: str) -> bool:
    return (
        host.kind(f"{path}/HEAD") == "file"
        and host.kind(f"{path}/objects") == "directory"
        and host.kind(f"{path}/refs") == "directory"
    )


def _belongs(host: Host, project: str, *paths: str) -> bool:
    """Whether all the paths are the user's; root's when root works on another's project."""
    owner = host.owner(project) if host.uid == 0 else host.uid
    return all(host.owner(path) == owner for path in paths)


def _line(host: Host, path: str) -> str:
    content = host.read(path, _FILE_MAX)
    if content is None or b"\0" in content:
        return ""
    return os.fsdecode(content.rstrip(b"\r\n"))


def enclosing_repository(host: Host, project: str) -> str:
    """The repository that the project is a part of, if its top lies above; else ""."""
    if os.path.lexists(f"{project}/.git"):
        return ""
    directory = os.path.dirname(project)
    while directory not in ("", "/"):
        if host.kind(f"{directory}/.git"):
            return directory
        directory = os.path.dirname(directory)
    return ""


def configuration(host: Host, home: str) -> bytes:
    """An /etc/gitconfig for the sandbox: the user's name and a few harmless settings."""
    found: dict[str, str] = {}
    for path in (f"{home}/.config/git/config", f"{home}/.gitconfig"):
        real = host.real(path)
        content = host.read(real, _CONFIGURATION_MAX) if real else None
        found |= {key: value for key, value in settings(content or b"") if key in _HARMLESS}
    # The check of owners protects from other users' repositories; a sandbox shows none.
    lines = ["[safe]", "\tdirectory = *"]
    for key, value in sorted(found.items()):
        section = key.partition(".")[0]
        if value.isprintable():
            lines += [f"[{section}]", f"\t{_HARMLESS[key]} = {_quoted(value)}"]
    return "\n".join([*lines, ""]).encode("utf-8", "replace")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def settings(content: bytes) -> Iterator[tuple[str, str]]:
    """The settings in a git configuration file, as (section.name, value); lower-case keys.

    Subsections and includes are passed over. Source: git-config(1), "Syntax".
    """
    section = ""
    text = content.decode("utf-8", "replace").replace("\\\r\n", "").replace("\\\n", "")
    for raw in text.split("\n"):
        line = raw.strip()
        if line.startswith("["):
            section, bracket, line = line[1:].partition("]")
            section = "" if not bracket or '"' in section else section.strip().lower()
            line = line.strip()
        name, _, value = line.partition("=")
        if section and name and name[0].isalpha():
            yield f"{section}.{name.strip().lower()}", _unquoted(value.strip())


def _unquoted(text: str) -> str:
    value: list[str] = []
    quoted = False
    characters = iter(text)
    for character in characters:
        if character == '"':
            quoted = not quoted
        elif character == "\\":
            escaped = next(characters, "")
            value.append({"n": "\n", "t": "\t", "b": "\b"}.get(escaped, escaped))
        elif character in "#;" and not quoted:
            break
        else:
            value.append(character)
    return "".join(value).rstrip() if not text.endswith('"') else "".join(value)
