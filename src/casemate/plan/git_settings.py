"""What a project's own git configuration makes git run or obey inside the project.

A hook directory, an included file or a monitor may lie anywhere in the work tree. Whoever writes
there decides what the user's git runs, so such places are protected like `.git/hooks` itself.
Sources: git-config(1), githooks(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from casemate.plan.etc import read_git_configuration
from casemate.plan.host import Host
from casemate.plan.roots import expand, within

PATHS = ("core.hookspath", "core.attributesfile", "init.templatedir")
"""Settings that hold a path; a relative one starts at the top of the work tree."""

COMMANDS = (
    *("core.fsmonitor", "core.sshcommand", "core.editor", "core.pager", "core.askpass"),
    *("sequence.editor", "diff.external", "gpg.program", "credential.helper", "core.gitproxy"),
    *("interactive.difffilter", "uploadpack.packobjectshook"),
)
"""Settings that hold a command, which git starts at the top of the work tree."""

INCLUDES = "include.path"
"""A path relative to the file that holds it."""


def named_places(host: Host, root: str, *, home: str) -> tuple[str, ...]:
    """Patterns for the places in `root` that its configuration or the user's own names.

    Of a setting that is repeated the last counts, but for includes only the last is seen.
    """
    own = (f"{home}/.gitconfig", f"{home}/.config/git/config")
    files = (*own, f"{root}/.git/config", f"{root}/.git/config.worktree")
    found = (place for path in files for place in _places(host, path, root, home))
    inside = (os.path.relpath(path, root) for path in found if path != root and within(path, root))
    return tuple(dict.fromkeys("/" + _escaped(path) for path in inside))


def _places(host: Host, file: str, root: str, home: str) -> Iterator[str]:
    try:
        settings = read_git_configuration(host.read(file) or b"")
    except OSError:
        return
    for name in PATHS:
        if value := settings.get(name):
            yield _absolute(value, root, home)
    if value := settings.get(INCLUDES):
        yield _absolute(value, os.path.dirname(file), home)
    for name in COMMANDS:
        # Any word may be the script: `sh tools/hook.sh`.
        for word in settings.get(name, "").split():
            if "/" in word or host.kind(f"{root}/{word}") == "file":
                yield _absolute(word.strip("'\""), root, home)


def _absolute(path: str, base: str, home: str) -> str:
    return os.path.normpath(os.path.join(base, expand(path, home)))


def _escaped(path: str) -> str:
    return "".join(f"\\{c}" if c in "*?[\\" else c for c in path)
