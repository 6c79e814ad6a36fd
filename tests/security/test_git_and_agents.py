"""Promise: what programs on the host run or obey by themselves is not planted: it is held back in
overlay mode, and in direct mode it is gone from the project when the session has ended."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.security.arena import Arena, attack, python, shell

pytestmark = pytest.mark.needs("git")
WRITABLE = pytest.mark.parametrize("mode", ["overlay", "direct"])

CONFIGURATION = (
    *(".claude/settings.json", ".claude/settings.local.json", ".claude/agents/x.md", "CLAUDE.md"),
    *(".codex/config.toml", "AGENTS.md", ".gemini/settings.json", "GEMINI.md", ".mcp.json"),
    *(".github/hooks/pre-tool.json", ".github/workflows/ci.yml", ".github/copilot-instructions.md"),
    *(".vscode/tasks.json", ".vscode/settings.json", ".idea/workspace.xml", ".cursor/mcp.json"),
    *(
        ".envrc",
        ".cursorrules",
        ".windsurfrules",
        ".aider.conf.yml",
        ".devcontainer/devcontainer.json",
    ),
    *(
        ".husky/pre-commit",
        ".pre-commit-config.yaml",
        "lefthook.yml",
        ".gitattributes",
        ".gitmodules",
    ),
    *(".tool-versions", ".mise.toml", ".exrc", ".dir-locals.el", ".gitlab-ci.yml", "casemate.toml"),
)

PLANT = """
import os, sys
for path in sys.argv[1:]:
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as file:
        file.write("planted")
    os.chmod(path, 0o755)
"""


def _git(*arguments: str | Path, cwd: Path) -> str:
    run = subprocess.run(["git", *map(str, arguments)], cwd=cwd, capture_output=True, check=False)
    return run.stdout.decode(errors="replace")


@pytest.fixture
def repository(arena: Arena) -> Path:
    """The project as a repository with one commit."""
    make_repository(arena.project)
    return arena.project


def make_repository(path: Path) -> None:
    """A repository with one commit of what is there."""
    _git("init", "-q", cwd=path)
    _git("add", "README.md", "src", cwd=path)
    _git("commit", "-q", "-m", "first", cwd=path)
    assert _git("rev-parse", "HEAD", cwd=path)


@WRITABLE
def test_e1_first_creation(arena: Arena, mode: str) -> None:
    """Configuration that did not exist at the start is not in the project afterwards, at no depth,
    and waits in the archive."""
    paths = [*CONFIGURATION, *(f"src/deep/er/{name}" for name in CONFIGURATION)]

    arena.bare(python(PLANT, *paths))
    bare = [path for path in paths if (arena.project / path).exists()]
    arena.renew()
    arena.inside(python(PLANT, *paths, "src/ordinary.py"), mode=mode)
    inside = [path for path in paths if (arena.project / path).exists()]

    assert bare == paths
    assert inside == []
    archived = arena.archived()
    assert [path for path in paths if archived.get(path) != b"planted"] == []
    assert (arena.project / "src/ordinary.py").exists() == (mode == "direct")


@WRITABLE
def test_e1_existing_configuration(arena: Arena, mode: str) -> None:
    """Configuration that exists is as it was, whether it is written, replaced, moved or removed."""
    paths = [path for path in CONFIGURATION if "/" not in path] + [".vscode/tasks.json", "a/.envrc"]
    spoil = shell(
        'for f in "$@"; do echo x > $f; echo x > $f.new; mv -f $f.new $f; mv $f $f.old; rm -f $f;'
        "mkdir -p $(dirname $f); echo planted > $f; chmod 777 $f; done;"
        "mv a b; mkdir a; echo planted > a/.envrc; mv .vscode .old; mkdir .vscode;"
        "echo planted > .vscode/tasks.json; ln -sf /etc/passwd .envrc",
        *paths,
    )

    def run(inside: bool) -> list[str]:
        arena.renew()
        for path in paths:
            (arena.project / path).parent.mkdir(exist_ok=True)
            (arena.project / path).write_text("version = 1")
        _ = arena.inside(spoil, mode=mode) if inside else arena.bare(spoil)
        return [path for path in paths if _text(arena.project / path) != "version = 1"]

    assert run(inside=False) == paths
    assert run(inside=True) == []


def _text(path: Path) -> str:
    if path.is_symlink():
        return f"-> {os.readlink(path)}"
    return path.read_text() if path.is_file() else ""


@WRITABLE
def test_e1_protected_links(arena: Arena, mode: str) -> None:
    """A protected name that is a symbolic link is not replaced by a file or by another link."""
    spoil = shell(
        "rm CLAUDE.md; echo planted > CLAUDE.md; rm .envrc; ln -s payload .envrc; echo planted > payload;"
        "rm .husky; mkdir .husky; echo planted > .husky/pre-commit; mv .cursor .moved; mkdir .cursor;"
        "echo planted > .cursor/mcp.json"
    )

    def run(inside: bool) -> dict[str, str]:
        arena.renew()
        (arena.project / "AGENTS.md").write_text("mine")
        (arena.project / "shared").mkdir()
        for name, target in LINKED.items():
            (arena.project / name).symlink_to(target)
        _ = arena.inside(spoil, mode=mode) if inside else arena.bare(spoil)
        return {name: _text(arena.project / name) for name in LINKED}

    kept = {name: f"-> {target}" for name, target in LINKED.items()}
    assert not {*run(inside=False).items()} & {*kept.items()}
    assert run(inside=True) == kept


LINKED = {
    "CLAUDE.md": "AGENTS.md",
    ".envrc": "shared/envrc",
    ".husky": "shared",
    ".cursor": "shared",
}


def hook_runs(directory: Path, marker: Path, *arguments: str) -> bool:
    """Whether git, run by the user in a directory, runs something that leaves a mark."""
    marker.unlink(missing_ok=True)
    for command in (
        ["status"],
        ["commit", "-q", "--allow-empty", "-m", "x"],
        ["diff"],
        ["checkout", "-q", "."],
    ):
        _git(*arguments, *command, cwd=directory)
    ran = marker.exists()
    marker.unlink(missing_ok=True)
    return ran


Plant = tuple[str, str]
"""What the attacker does, and where the user then runs git."""

HOOK = 'printf "#!/bin/sh\\ntouch $M\\n" > {0}; chmod 755 {0}'
NESTED = (
    "git init -q {0} && git -C {0} -c user.name=x -c user.email=x@y commit -q --allow-empty -m x;"
)
PLANTS: dict[str, Plant] = {
    "hook": ("mkdir -p .git/hooks;" + HOOK.format(".git/hooks/pre-commit"), "."),
    "fsmonitor": (HOOK.format("fs.sh") + '; git config core.fsmonitor "$PWD/fs.sh"', "."),
    "hooksPath": (
        "mkdir hk;" + HOOK.format("hk/pre-commit") + "; git config core.hooksPath hk",
        ".",
    ),
    "include": (
        HOOK.format("fs.sh") + "; printf '[core]\\n\\tfsmonitor = %s\\n' \"$PWD/fs.sh\" > inc;"
        "printf '[include]\\n\\tpath = ../inc\\n' >> .git/config",
        ".",
    ),
    "rename .git": (
        "mv .git .git2 && cp -r .git2 .git;" + HOOK.format(".git/hooks/pre-commit"),
        ".",
    ),
    "rename hooks": (
        "mv .git/hooks .git/h; mkdir .git/hooks;" + HOOK.format(".git/hooks/pre-commit"),
        ".",
    ),
    "link to another": (
        NESTED.format("elsewhere")
        + HOOK.format("elsewhere/.git/hooks/pre-commit")
        + "; mv .git .old; ln -s elsewhere/.git .git",
        ".",
    ),
    "separate": (
        "mv .git .old; git init -q --separate-git-dir=.git-alt;"
        + HOOK.format(".git-alt/hooks/pre-commit"),
        ".",
    ),
    "show --output": (
        HOOK.format("fs.sh")
        + '; git show -s --format="[core]%n%x09fsmonitor = $PWD/fs.sh" --output=.git/config HEAD',
        ".",
    ),
    "nested": (
        NESTED.format("vendor/sub") + HOOK.format("vendor/sub/.git/hooks/pre-commit"),
        "vendor/sub",
    ),
    "nested, not listable": (
        NESTED.format("sub") + HOOK.format("sub/.git/hooks/pre-commit") + "; chmod 0311 sub",
        "sub",
    ),
    "nested, not writable": (
        NESTED.format("sub")
        + HOOK.format("sub/.git/hooks/pre-commit")
        + "; chmod 0555 sub/.git/hooks sub",
        "sub",
    ),
    "nested in a hidden name": (
        NESTED.format("my.env") + HOOK.format("my.env/.git/hooks/pre-commit"),
        "my.env",
    ),
    "nested in .git": (
        NESTED.format(".git/sub") + HOOK.format(".git/sub/.git/hooks/pre-commit"),
        ".git/sub",
    ),
    "nested deep": (
        "p=$(printf 'd/%.0s' $(seq 150)); mkdir -p $p; cd $p;"
        + NESTED.format("x")
        + HOOK.format("x/.git/hooks/pre-commit"),
        "d/" * 150 + "x",
    ),
    "nested very deep": (
        "p=$(printf 'd/%.0s' $(seq 420)); mkdir -p $p; cd $p;"
        + NESTED.format("x")
        + HOOK.format("x/.git/hooks/pre-commit"),
        "d/" * 420 + "x",
    ),
    "the root not listable": (
        NESTED.format("sub") + HOOK.format("sub/.git/hooks/pre-commit") + "; chmod 0311 .",
        "sub",
    ),
    "gitdir file": (
        NESTED.format("real")
        + HOOK.format("real/.git/hooks/pre-commit")
        + '; mkdir sub; echo "gitdir: $PWD/real/.git" > sub/.git',
        "sub",
    ),
    "commondir": (
        NESTED.format("evil")
        + HOOK.format("evil/.git/hooks/pre-commit")
        + '; echo "$PWD/evil/.git" > .git/commondir',
        ".",
    ),
}


# In overlay mode they all come to the same: the project is not written at all.
IN_OVERLAY = ("hook", "nested", "rename .git", "show --output")


@pytest.mark.parametrize(
    ("plant", "mode"),
    [*((plant, "overlay") for plant in IN_OVERLAY), *((plant, "direct") for plant in PLANTS)],
)
def test_e5_e7_e8_git(arena: Arena, mode: str, plant: str) -> None:
    """No hook and no setting of git's that was planted runs when the user works with git."""
    script, where = PLANTS[plant]
    marker = arena.base / "git-ran"
    command = shell(f"export M={marker}; {script}")

    def run(inside: bool) -> bool:
        _ = subprocess.run(["chmod", "-R", "u+rwx", arena.project], check=True)
        arena.renew()
        make_repository(arena.project)
        _ = arena.inside(command, mode=mode) if inside else arena.bare(command)
        directory = arena.project / where
        try:
            reached = directory.is_dir()
        except PermissionError:
            reached = False
        return reached and hook_runs(directory, marker)

    assert run(inside=False)
    assert not run(inside=True)


@WRITABLE
@pytest.mark.parametrize(
    "setting", ["core.hooksPath", "include.path", "core.fsmonitor", "core.attributesFile"]
)
def test_e6_places_that_the_configuration_names(arena: Arena, mode: str, setting: str) -> None:
    """What the repository's own configuration runs from within the project is protected too."""
    marker = arena.base / "git-ran"
    hook = HOOK.replace("$M", str(marker))
    plants = {
        "core.hooksPath": (
            "tools/hooks",
            "mkdir -p tools/hooks;" + hook.format("tools/hooks/pre-commit"),
        ),
        "include.path": (
            "../tools/settings",
            hook.format("tools/fs.sh")
            + "; printf '[core]\\n\\tfsmonitor = %s\\n' \"$PWD/tools/fs.sh\" > tools/settings",
        ),
        "core.fsmonitor": ("tools/watch.sh", hook.format("tools/watch.sh")),
        "core.attributesFile": (
            "tools/attributes",
            "echo '*.md filter=x' > tools/attributes; touch README.md",
        ),
    }
    value, script = plants[setting]

    def run(inside: bool) -> bool:
        arena.renew()
        (arena.project / "tools").mkdir()
        make_repository(arena.project)
        _git("config", setting, value, cwd=arena.project)
        _git("config", "filter.x.clean", f"touch {marker}; cat", cwd=arena.project)
        _ = arena.inside(shell(script), mode=mode) if inside else arena.bare(shell(script))
        (arena.project / "README.md").touch()
        return hook_runs(arena.project, marker)

    assert run(inside=False)
    assert not run(inside=True)


@WRITABLE
def test_e5_bare_repository(arena: Arena, mode: str) -> None:
    """A directory that git takes for a bare repository is not left where git would obey it."""
    marker = arena.base / "git-ran"
    script = (
        f"export M={marker}; mkdir -p docs/x/objects docs/x/refs docs/x/tree; cd docs/x; {HOOK.format('fs.sh')};"
        "echo 'ref: refs/heads/main' > HEAD;"
        "printf '[core]\\n\\trepositoryformatversion = 0\\n\\tbare = false\\n\\tworktree = tree\\n\\tfsmonitor = %s\\n' \"$PWD/fs.sh\" > config"
    )

    def run(inside: bool) -> bool:
        arena.renew()
        _ = arena.inside(shell(script), mode=mode) if inside else arena.bare(shell(script))
        directory = arena.project / "docs/x"
        return directory.is_dir() and hook_runs(directory, marker)

    assert run(inside=False)
    assert not run(inside=True)


@WRITABLE
def test_e8_parents_of_a_repository(arena: Arena, mode: str) -> None:
    """A repository's parent directory cannot be moved away and made anew with hooks in it."""
    marker = arena.base / "git-ran"
    script = (
        f"export M={marker}; mv pkg old; mkdir -p pkg; cp -r old/lib pkg/lib 2>/dev/null;"
        + HOOK.format("pkg/lib/.git/hooks/pre-commit")
    )

    def run(inside: bool) -> bool:
        arena.renew()
        inner = arena.project / "pkg/lib"
        inner.mkdir(parents=True)
        (inner / "README.md").write_text("x")
        make_repository(inner)
        _ = arena.inside(shell(script), mode=mode) if inside else arena.bare(shell(script))
        return hook_runs(inner, marker)

    assert run(inside=False)
    assert not run(inside=True)


def test_alternates_in_direct_mode(arena: Arena, repository: Path) -> None:
    """A store of objects elsewhere cannot be put under a repository."""
    alternates = repository / ".git/objects/info/alternates"
    write = shell("mkdir -p .git/objects/info; echo /elsewhere > .git/objects/info/alternates")

    arena.bare(write)
    bare = alternates.exists()
    alternates.unlink()
    arena.inside(write, mode="direct")

    assert bare
    assert not alternates.exists()


def test_git_works_in_direct_mode(arena: Arena, repository: Path) -> None:
    """For all that, the agent can commit, branch and merge."""
    work = shell(
        "set -e; echo more >> README.md; git add README.md; git commit -q -m second;"
        "git switch -q -c topic; echo x > new; git add new; git commit -q -m third;"
        "git switch -q -; git merge -q topic; git log --oneline | wc -l"
    )

    inside = arena.inside(work, mode="direct")

    assert inside.out.strip() == "3", inside.err
    assert _git("log", "--oneline", cwd=repository).count("\n") == 3


def test_held_back_in_direct_mode_when_nothing_can_be_saved(arena: Arena) -> None:
    """Where the archive cannot be written, planted files are disarmed all the same."""
    import resource

    plant = shell(
        "mkdir -p .aaa/.vscode .claude zzz; head -c 200000 /dev/urandom > .vscode-big;"
        "mkdir .vscode; head -c 60000 /dev/urandom > .vscode/tasks.json;"
        "mkdir -p d1/.vscode; head -c 60000 /dev/urandom > d1/.vscode/tasks.json;"
        "echo planted > .claude/settings.json; echo planted > .envrc; echo planted > zzz/.envrc"
    )

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    arena.inside(["true"], mode="direct")
    arena.inside(plant, mode="direct", preexec_fn=limited)
    left = [
        p
        for p in (
            ".claude/settings.json",
            ".envrc",
            "zzz/.envrc",
            ".vscode/tasks.json",
            "d1/.vscode/tasks.json",
        )
        if (arena.project / p).exists()
    ]

    assert left == []


@WRITABLE
def test_e2_policy_is_not_taken_from_the_project(arena: Arena, mode: str) -> None:
    """A casemate.toml that an agent plants or the project brings opens nothing until trusted."""
    policy = (
        f'version = 1\n[workspace]\nmode = "direct"\nhide = ["!.env", "!*"]\nprotect = ["!*"]\n'
        f'[files]\nread = ["{arena.outside}"]\nwrite = ["{arena.home}"]\n'
        '[environment]\npass = ["SECRET_*"]\n[kernel]\nallow = ["ptrace", "mount"]\nwaive = []\n'
    )
    plant = python(
        PLANT.replace('"planted"', "sys.stdin.read()"), "casemate.toml", "src/casemate.toml"
    )
    look = shell(
        'cat "$1/secret" .env; env | grep SECRET_; echo x > "$2/planted"', arena.outside, arena.home
    )

    arena.inside(plant, mode=mode, input=policy.encode())
    assert not (arena.project / "casemate.toml").exists()
    (arena.project / "casemate.toml").write_text(policy.replace("waive = []\n", ""))
    environment = {"SECRET_X": "leaked"}
    bare = arena.bare(look, environment=environment)
    (arena.home / "planted").unlink()
    inside = arena.inside(look, mode=mode, environment=environment)

    assert "s3cr3t" in bare.out and "leaked" in bare.out
    assert "s3cr3t" not in inside.out and "leaked" not in inside.out
    assert not (arena.home / "planted").exists()


def test_e2_trust_is_of_the_content(arena: Arena) -> None:
    """A trusted policy that is changed afterwards is a stranger again, also to a cached plan."""
    file = arena.project / "casemate.toml"
    file.write_text(f'version = 1\n[files]\nread = ["{arena.outside}"]\n')
    look = shell('cat "$1/secret"', arena.outside)
    from casemate.policy.trust import TrustStore

    TrustStore(str(arena.state)).trust(str(file))
    assert "s3cr3t" in arena.inside(look).out

    status = file.stat()
    changed = file.read_text().replace(str(arena.outside), str(arena.outside) + "/.")
    file.write_text(changed)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    inside = arena.inside(look)

    assert "s3cr3t" not in inside.out


@WRITABLE
def test_worktree_pointers(arena: Arena, mode: str) -> None:
    """A planted `.git` file shows nothing of the repository that it names."""
    other = arena.outside / "private"
    other.mkdir()
    (other / "README.md").write_text("s3cr3t")
    make_repository_in(other)
    look = shell('ls "$1/.git"; git log; cat "$1/.git/config"', other)

    for pointer in (f"gitdir: {other}/.git\n", f"gitdir: {other}/.git/worktrees/x\n"):
        arena.renew()
        (arena.project / ".git").write_text(pointer)
        inside = arena.inside(look, mode=mode)
        assert "HEAD" not in inside.out and "first" not in inside.out
    (arena.project / ".git").write_text(f"gitdir: {other}/.git\n")
    assert "first" in arena.bare(look).out


def make_repository_in(path: Path) -> None:
    """A repository with a commit of its README."""
    _git("init", "-q", cwd=path)
    _git("add", "README.md", cwd=path)
    _git("commit", "-q", "-m", "first", cwd=path)


def test_nothing_is_left_in_the_tree(arena: Arena, repository: Path) -> None:
    """Protecting and hiding leave no mount point, stub or empty file behind."""

    def listing() -> list[str]:
        return sorted(str(path) for path in repository.rglob("*") if ".git/" not in str(path))

    before = listing()
    for mode in ("overlay", "direct", "readonly"):
        arena.inside(["true"], mode=mode)
        assert listing() == before, mode


_ = (attack, Callable, shutil)
