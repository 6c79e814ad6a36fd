"""What a reviewer must know about a change before it reaches the host.

A flag is a word; `explain` gives the sentence. The table of files that programs on the host run
or obey by themselves is the heart of it: an edit to one of them is code that leaves the sandbox.
"""

from __future__ import annotations

import re

from casemate.workspace import names

EXECUTABLE = "executable"
SETUID = "setuid"
SPECIAL = "special"
HIDDEN = "hidden"
PROTECTED = "protected"
RUNS_ON_HOST = "runs-on-host"
OUTSIDE_LINK = "outside-link"
BINARY = "binary"
LARGE = "large"
CONFLICT = "conflict"
OVERSIZED = "oversized"
UNLISTED = "unlisted"
UNREACHABLE = "unreachable"

NEVER_APPLIED = frozenset((SPECIAL, OVERSIZED, UNLISTED, UNREACHABLE))
"""No selection applies a change with one of these."""

NAMED_ONLY = frozenset((HIDDEN, PROTECTED, OUTSIDE_LINK))
"""A change with one of these is applied only when its path is named."""

ASKED = frozenset((EXECUTABLE, SETUID, HIDDEN, PROTECTED, RUNS_ON_HOST, OUTSIDE_LINK, CONFLICT))
"""An interactive review asks about these one by one, with the sentence."""

_SENTENCES = {
    EXECUTABLE: "it becomes executable",
    SETUID: "it asks for setuid or setgid; the bits are dropped when it is applied",
    SPECIAL: "it is a fifo, socket or device; it is never applied",
    HIDDEN: "it matches a `hide` pattern: the sandbox never saw what is there",
    PROTECTED: "it matches a `protect` pattern",
    OUTSIDE_LINK: "the link leads out of the project; whatever follows it acts on that place",
    BINARY: "it is binary and cannot be read here",
    LARGE: "it is too large to show as text",
    CONFLICT: "it changed on this machine since the session began",
    OVERSIZED: "it is a sparse file that claims far more bytes than it holds; it is never applied",
    UNREACHABLE: "its place on this machine cannot be looked at: another file system is mounted "
    "there, or a directory above may not be searched",
    UNLISTED: "what it holds could not be listed (too much, or unreadable); it is never deleted",
}

_SYSTEM = (b"usr", b"bin", b"sbin", b"lib", b"lib64", b"opt", b"nix")
"""Top directories of the toolchain: a link there reaches programs, not the user's data."""

_BY_NAME = {
    ".envrc": "direnv runs it in your shell",
    ".env": "tools load it into the environment of what they start",
    "head": "git takes a directory with it for a repository, whose configuration runs programs",
    ".gitconfig": "git obeys it, and it can name programs to run",
    ".gitmodules": "git fetches from where it says",
    ".gitattributes": "git obeys it, and it selects filters and merge drivers to run",
    ".git": "git follows it to a repository whose configuration can name programs to run",
    ".mcp.json": "coding agents start the servers it names",
    "agents.md": "coding agents obey it",
    "claude.md": "coding agents obey it",
    "claude.local.md": "coding agents obey it",
    "gemini.md": "coding agents obey it",
    ".cursorrules": "coding agents obey it",
    ".windsurfrules": "coding agents obey it",
    ".clinerules": "coding agents obey it",
    "copilot-instructions.md": "coding agents obey it",
    "casemate.toml": "casemate reads it as policy once it is trusted",
    "makefile": "make runs it",
    "gnumakefile": "make runs it",
    "justfile": "just runs it",
    "taskfile.yml": "task runs it",
    "taskfile.yaml": "task runs it",
    "rakefile": "rake runs it",
    "dockerfile": "docker build runs it",
    "containerfile": "podman build runs it",
    "docker-compose.yml": "docker compose starts what it says, with the mounts it says",
    "docker-compose.yaml": "docker compose starts what it says, with the mounts it says",
    "compose.yml": "docker compose starts what it says, with the mounts it says",
    "compose.yaml": "docker compose starts what it says, with the mounts it says",
    "vagrantfile": "vagrant runs it",
    "jenkinsfile": "Jenkins runs it",
    ".gitlab-ci.yml": "GitLab runs it",
    ".travis.yml": "Travis runs it",
    "azure-pipelines.yml": "Azure Pipelines runs it",
    "bitbucket-pipelines.yml": "Bitbucket runs it",
    ".pre-commit-config.yaml": "pre-commit runs what it names at each commit",
    "lefthook.yml": "lefthook runs what it names at each commit",
    "package.json": "npm, yarn and pnpm run its scripts",
    ".npmrc": "npm obeys it, and it chooses the registry and the shell",
    ".yarnrc": "yarn obeys it",
    ".yarnrc.yml": "yarn obeys it, and it can name the program to run as yarn",
    ".pnpmfile.cjs": "pnpm runs it at each install",
    "binding.gyp": "npm runs it at install",
    "setup.py": "pip runs it at install",
    "setup.cfg": "Python tools obey it",
    "pyproject.toml": "pip runs the build backend it names",
    "conftest.py": "pytest runs it",
    "sitecustomize.py": "Python runs it at start-up",
    "usercustomize.py": "Python runs it at start-up",
    "noxfile.py": "nox runs it",
    "tox.ini": "tox runs it",
    "pytest.ini": "pytest obeys it, and it can load plugins",
    "tasks.py": "invoke runs it",
    "build.rs": "cargo runs it at build",
    "rust-toolchain": "cargo runs the toolchain it names",
    "rust-toolchain.toml": "cargo runs the toolchain it names",
    "build.zig": "zig runs it at build",
    "cmakelists.txt": "cmake runs it",
    "meson.build": "meson runs it",
    "configure": "builds run it",
    "build.gradle": "gradle runs it",
    "build.gradle.kts": "gradle runs it",
    "settings.gradle": "gradle runs it",
    "settings.gradle.kts": "gradle runs it",
    "gradlew": "builds run it",
    "mvnw": "builds run it",
    "pom.xml": "Maven runs the plugins it names",
    "build.sbt": "sbt runs it",
    "gemfile": "bundler runs it",
    "mix.exs": "mix runs it",
    "flake.nix": "nix runs it",
    "shell.nix": "nix-shell runs it",
    "default.nix": "nix runs it",
    ".tool-versions": "asdf and mise choose programs by it",
    "mise.toml": "mise runs its hooks and tasks",
    ".mise.toml": "mise runs its hooks and tasks",
    ".vimrc": "vim may run it on opening the directory",
    ".exrc": "vi may run it on opening the directory",
    ".nvim.lua": "neovim may run it on opening the directory",
    ".dir-locals.el": "Emacs obeys it, and it can evaluate code",
    ".gdbinit": "gdb may run it",
    ".lldbinit": "lldb may run it",
    ".bashrc": "bash runs it",
    ".bash_profile": "bash runs it",
    ".profile": "shells run it",
    ".zshrc": "zsh runs it",
    ".zshenv": "zsh runs it",
}

_BY_DIRECTORY: tuple[tuple[tuple[str, ...], str], ...] = (
    ((".githooks",), "git runs it where core.hooksPath says so"),
    ((".husky",), "git runs it as a hook"),
    ((".github", "workflows"), "GitHub runs it"),
    ((".github", "actions"), "GitHub runs it"),
    ((".github", "hooks"), "coding agents run it"),
    ((".gitea", "workflows"), "Gitea runs it"),
    ((".forgejo", "workflows"), "Forgejo runs it"),
    ((".circleci",), "CircleCI runs it"),
    ((".buildkite",), "Buildkite runs it"),
    ((".vscode",), "the editor obeys it, and its tasks and settings can start programs"),
    ((".idea",), "the editor obeys it, and its run configurations start programs"),
    ((".zed",), "the editor obeys it, and its tasks start programs"),
    ((".devcontainer",), "the editor builds and starts it"),
    ((".claude",), "coding agents obey it, and its hooks run programs"),
    ((".codex",), "coding agents obey it, and it can name programs to start"),
    ((".gemini",), "coding agents obey it, and its hooks run programs"),
    ((".cursor",), "coding agents obey it, and it can name programs to start"),
    ((".windsurf",), "coding agents obey it"),
    ((".agents",), "coding agents obey it"),
    ((".cargo",), "cargo obeys it, and it can name programs to run"),
    ((".yarn",), "yarn runs the release and plugins in it"),
    ((".mvn",), "Maven obeys it, and it can load extensions"),
    (("gradle", "wrapper"), "gradlew downloads and runs what it names"),
    ((".direnv",), "direnv loads it"),
    ((".bundle",), "bundler obeys it"),
    ((".config", "nvim"), "neovim runs it"),
)

_BY_SUFFIX = {
    ".pth": "Python runs its import lines at start-up where it is in a site directory",
    ".code-workspace": "the editor obeys it, and its tasks can start programs",
    ".csproj": "MSBuild runs its targets",
    ".props": "MSBuild runs it",
    ".targets": "MSBuild runs it",
    ".mk": "make runs it where it is included",
}


_GIT_DIRECTORY = "git obeys its own directory: hooks and configuration run programs"

_GIT_DATA = re.compile(
    r"(?:modules/.+/|worktrees/[^/]+/)?"
    r"(?:objects/(?:[0-9a-f]{2}/[0-9a-f]{38,62}|pack/pack-[0-9a-f]+\.[a-z]+|info/packs)"
    r"|refs/.*|logs/.*|info/exclude"
    r"|head|index|packed-refs|orig_head|fetch_head|commit_editmsg|shallow|description)",
    re.DOTALL,
)
"""What git only reads as data; everything else beneath a repository's directory is flagged."""


def explain(flag: str) -> str:
    """The sentence that goes with a flag, without a full stop."""
    return _SENTENCES.get(flag, "")


def runs_on_host(path: bytes) -> str:
    """Which program on the host runs or obeys the file `path` by itself, as a sentence, or "".

    Compared without regard to case: a file system may be case-insensitive.
    """
    components = [component.lower() for component in names.parts(path)]
    for index, component in enumerate(components[:-1]):
        if component.endswith(".git"):
            below = "/".join(components[index + 1 :])
            return "" if _GIT_DATA.fullmatch(below) else _GIT_DIRECTORY
        for directory, sentence in _BY_DIRECTORY:
            if tuple(components[index : index + len(directory)]) == directory:
                return sentence
    name = components[-1] if components else ""
    if sentence := _BY_NAME.get(name, ""):
        return sentence
    if name.startswith(("dockerfile.", "makefile.")):
        return "builds run it"
    dot = name.rfind(".")
    return _BY_SUFFIX.get(name[dot:], "") if dot > 0 else ""


def leads_outside(path: bytes, target: bytes) -> bool:
    """Whether a link at `path` with `target` may point out of its root, by its text alone.

    The toolchain's directories (as /usr) do not count: nothing of the user's is there. A `..`
    after a name does: the name may be a link, so that counting components proves nothing.
    """
    components = [part for part in target.split(b"/") if part not in (b"", b".")]
    if target.startswith(b"/"):
        return b".." in components or not components or components[0] not in _SYSTEM
    climbing = 0
    while climbing < len(components) and components[climbing] == b"..":
        climbing += 1
    return climbing > path.count(b"/") or b".." in components[climbing:]
