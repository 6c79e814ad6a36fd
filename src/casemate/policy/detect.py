"""What a project is made of, and a first policy for it, as `casemate init` writes it.

The project may be hostile: its top directory is listed, up to a bound, and nothing in it is
opened or followed. What it holds decides only between texts that casemate ships.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

ENTRIES_MAX = 10_000
"""Names of the top directory that are looked at."""

_LANGUAGES = {
    "git": (".git",),
    "python": ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt", "Pipfile", "tox.ini"),
    "node": ("package.json", "deno.json", "deno.jsonc", "bun.lock", "bun.lockb"),
    "rust": ("Cargo.toml",),
    "go": ("go.mod", "go.work"),
}
"""Preset to the names at the top of a project that show it is of use."""

_AGENTS = {
    "codex": ("codex", ".codex"),
    "claude": ("claude", ".claude"),
    "gemini": ("gemini", ".gemini"),
    "aider": ("aider", ".aider"),
    "opencode": ("opencode", ".opencode"),
    "goose": ("goose", ".config/goose"),
}
"""Preset to its program and its directory in the home."""

_WHY = {
    "git": "a git repository",
    "python": "Python",
    "node": "JavaScript",
    "rust": "Rust",
    "go": "Go",
}


@dataclass(frozen=True, slots=True)
class Detected:
    """Names of presets: what the project uses, and which agents the user has."""

    project: tuple[str, ...]
    agents: tuple[str, ...]


def detect(project: str, home: str, environment: Mapping[str, str]) -> Detected:
    """Look at the top of a project, at PATH and at the home."""
    names = _names(project)
    used = [preset for preset, marks in _LANGUAGES.items() if names.intersection(marks)]
    agents = [
        preset
        for preset, (program, directory) in _AGENTS.items()
        if _on_path(program, project, environment.get("PATH", ""))
        or os.path.isdir(os.path.join(home, directory))
    ]
    return Detected(tuple(used), tuple(agents))


def _names(project: str) -> set[str]:
    """The files and directories at the top; symbolic links do not count."""
    found: set[str] = set()
    with os.scandir(project) as entries:
        for index, entry in enumerate(entries):
            if index == ENTRIES_MAX:
                break
            try:
                mode = entry.stat(follow_symlinks=False).st_mode
            except OSError:
                continue
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                found.add(entry.name)
    return found


def _on_path(program: str, project: str, search_path: str) -> bool:
    """Whether a program is found, the project's own directories left out."""
    for directory in search_path.split(os.pathsep):
        path = os.path.join(directory, program)
        inside = f"{directory}/".startswith(f"{project}/")
        if os.path.isabs(directory) and not inside and os.access(path, os.X_OK):
            return True
    return False


def policy_text(detected: Detected) -> str:
    """A complete, commented casemate.toml."""
    extends = ", ".join(f'"{name}"' for name in detected.project)
    made_of = ", ".join(_WHY[name] for name in detected.project) or "nothing casemate knows"
    agents = "".join(
        f'# "{name}" is installed here; its preset opens the network to its service:\n'
        f"# extends = [{', '.join(part for part in (extends, f'{chr(34)}{name}{chr(34)}') if part)}]\n"
        for name in detected.agents
    )
    return _TEMPLATE.format(made_of=made_of, extends=extends, agents=agents)


_TEMPLATE = """\
# What `casemate run` allows in this project. Everything not allowed here is refused.
# This file counts once you have trusted exactly this content: casemate trust casemate.toml
# `casemate plan` shows what follows from it, `casemate why PATH` explains one file.
version = 1

# Ready-made parts for what was found here: {made_of}.
extends = [{extends}]
{agents}
[workspace]
# overlay: edits wait for `casemate apply`. direct: edits are live. readonly: there are none.
mode = "overlay"
# Files nobody inside can read, beside those casemate hides anyway (.env, keys, credentials ...).
# Written as in .gitignore; "!pattern" takes one back.
hide = []
# Files whose change is held back, beside git hooks, CI, editor and agent configuration ...
protect = []
# How much one run may write.
disk = "2GiB"
files = 200_000

[files]
# Paths outside the project, as in "~/.cache/pip".
read = []
write = []

[network]
# Closed while empty. As in "api.example.com:443 GET /v1/** <=10MB".
allow = []

[limits]
memory = "8GiB"
processes = 1024
# time = "2h"
# cpus = 2

[environment]
# Variables passed on, beside PATH, LANG, TERM and the like; "NAME_*" is every one that begins so.
pass = []
"""
