"""Promise: looking at a session's changes and applying them runs nothing, follows nothing, shows no
control character, and brings nothing to the host that was to be held back."""

from __future__ import annotations

import os
import stat
import subprocess
import threading

import pytest
from tests.security.arena import SECRET, Arena, Outcome, python, shell
from tests.support.command_line import casemate

from casemate.errors import CasemateError
from casemate.workspace.review import open_review
from casemate.workspace.store import Store


def _verb(arena: Arena, *arguments: str) -> Outcome:
    """Another verb of casemate's, in the project."""
    run = casemate(*arguments, cwd=arena.project)
    return Outcome(
        run.returncode,
        run.stdout.decode(errors="backslashreplace"),
        run.stderr.decode(errors="backslashreplace"),
    )


def _git(arena: Arena, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=arena.project, check=False, capture_output=True)


@pytest.mark.needs("git")
@pytest.mark.parametrize("way", ["fsmonitor", "filter", "textconv", "hook", "pager"])
def test_e3_e4_git_configuration_runs_nothing(arena: Arena, way: str) -> None:
    """No verb of casemate's runs what the project's git configuration, attributes or hooks name."""
    marker = arena.base / "ran"
    program = arena.project / "tool.sh"
    program.write_text(f"#!/bin/sh\ntouch {marker}\ncat\n")
    program.chmod(0o755)
    _git(arena, "init", "-q")
    (arena.project / ".gitattributes").write_text("*.md filter=x diff=x\n")
    _git(arena, "add", "README.md")
    _git(arena, "commit", "-q", "-m", "first")
    settings = {
        "fsmonitor": [("core.fsmonitor", str(program))],
        "filter": [
            ("filter.x.clean", str(program)),
            ("filter.x.smudge", str(program)),
            ("attr.tree", "HEAD"),
        ],
        "textconv": [("diff.x.textconv", str(program)), ("diff.external", str(program))],
        "hook": [("core.hooksPath", str(arena.project / "hooks"))],
        "pager": [("core.pager", str(program)), ("core.editor", str(program))],
    }[way]
    for name, value in settings:
        _git(arena, "config", name, value)
    (arena.project / "hooks").mkdir()
    for hook in ("pre-commit", "post-checkout", "post-index-change"):
        os.link(program, arena.project / "hooks" / hook)
    (arena.project / "README.md").write_text("changed\n")
    for command in (
        ["status"],
        ["diff"],
        ["add", "README.md"],
        ["commit", "-m", "x", "--allow-empty"],
    ):
        _git(arena, *command)
    ran_bare = marker.exists()
    marker.unlink(missing_ok=True)

    arena.inside(shell("echo again >> README.md; echo new > src/new.py"))
    for verb in (["diff"], ["apply", "--yes"], ["undo", "--yes"], ["apply", "--yes"], ["plan"]):
        _verb(arena, *verb)

    if way != "pager":
        assert ran_bare
    assert (arena.project / "src/new.py").exists()
    assert not marker.exists()


def test_e9_links_are_not_followed(arena: Arena) -> None:
    """A link that appears where a change is to go is not written through."""
    arena.inside(shell("echo planted > src/app.py; mkdir new; echo planted > new/file"))
    naive = shell("mkdir -p new; echo planted > src/app.py; echo planted > new/file")

    def trap() -> None:
        for name in ("src", "new"):
            subprocess.run(["rm", "-rf", arena.project / name], check=True)
            (arena.project / name).symlink_to(arena.outside)
        for name in ("app.py", "file"):
            (arena.outside / name).write_text("untouched")

    trap()
    arena.bare(naive)
    bare = [(arena.outside / name).read_text() for name in ("app.py", "file")]
    trap()
    _verb(arena, "apply", "--yes")

    assert bare == ["planted\n", "planted\n"]
    assert [(arena.outside / name).read_text() for name in ("app.py", "file")] == ["untouched"] * 2


def test_e9_links_swapped_during_an_apply(arena: Arena) -> None:
    """Directories that turn into links and back while an apply runs lead no write out."""
    place, spare = arena.project / "src", arena.project / "spare"
    (arena.outside / "app.py").write_text("untouched")
    spare.symlink_to(arena.outside)
    stop = threading.Event()

    def swap() -> None:
        import ctypes

        libc = ctypes.CDLL(None)
        names = os.fsencode(place), os.fsencode(spare)
        while not stop.is_set():
            libc.renameat2(-100, names[0], -100, names[1], 2)

    arena.inside(shell("for i in 1 2 3 4 5 6 7 8; do echo planted$i > src/f$i; done"))
    thread = threading.Thread(target=swap)
    thread.start()
    escaped = 0
    try:
        for _ in range(3000):
            try:
                (place / "bare").write_text("x")
                if (arena.outside / "bare").exists():
                    escaped += 1
                    break
            except OSError:
                pass
        store = Store(str(arena.state))
        for _ in range(60):
            try:
                with open_review(store, store.find(project=str(arena.project)).id) as review:
                    review.apply()
            except (CasemateError, OSError):
                continue
    finally:
        stop.set()
        thread.join()

    assert escaped
    assert not list(arena.outside.glob("f*"))
    assert (arena.outside / "app.py").read_text() == "untouched"


def test_e10_hard_links_are_broken(arena: Arena) -> None:
    """Applying to a file with a second name outside leaves what has that name alone."""
    twin = arena.outside / "twin"
    (arena.project / "shared").write_text("mine")
    twin.hardlink_to(arena.project / "shared")
    arena.inside(shell("echo theirs > shared"))

    _verb(arena, "apply", "--yes")

    assert (arena.project / "shared").read_text() == "theirs\n"
    assert twin.read_text() == "mine"


def test_links_that_lead_out(arena: Arena) -> None:
    """A link made inside that leads out of the project is applied only by name."""
    targets = {
        "a": "/etc/passwd",
        "b": f"../../{arena.outside.name}",
        "c": str(arena.home),
        "d": "src/../../../outside",
        "e": "/proc/self/root",
    }
    arena.inside(
        shell(
            ";".join(f"ln -s {target} {name}" for name, target in targets.items())
            + "; ln -s README.md fine"
        )
    )

    said = _verb(arena, "apply", "--yes")

    assert (arena.project / "fine").is_symlink(), said
    assert not [name for name in targets if (arena.project / name).is_symlink()]


SPECIAL = """
import os, socket
os.mkfifo("pipe")
with socket.socket(socket.AF_UNIX) as s: s.bind("socket")
open("program", "w").close(); os.chmod("program", 0o6755)
os.mkdir("shared"); os.chmod("shared", 0o3777)
open("shared/inner", "w").close()
os.utime("program", (0, 2**33))
"""


def test_e44_what_is_never_applied(arena: Arena) -> None:
    """No pipe, socket or setuid bit reaches the project, whatever is selected."""
    arena.inside(python(SPECIAL))

    _verb(arena, "apply", "--yes")
    _verb(arena, "apply", "--yes", "pipe", "socket")
    kinds = {path.name: path.lstat().st_mode for path in arena.project.rglob("*")}

    assert "pipe" not in kinds and "socket" not in kinds
    assert stat.S_IMODE(kinds["program"]) & 0o6000 == 0
    assert stat.S_IMODE(kinds["shared"]) & 0o6000 == 0
    assert {"program", "shared", "inner"} <= {*kinds}


def test_hidden_and_protected_are_held(arena: Arena) -> None:
    """Names that are hidden or protected are applied only when each is named."""
    (arena.project / ".envrc").write_text("mine")
    arena.inside(
        shell(
            "echo x > .env; echo x > .envrc; mkdir -p .vscode .git/hooks new/.claude; echo x > .vscode/tasks.json;"
            "echo x > .git/hooks/pre-commit; echo x > new/.claude/settings.json; echo x > plain;"
            "echo x > .npmrc; echo x > casemate.toml"
        )
    )

    said = _verb(arena, "apply", "--yes")
    held = [
        ".vscode/tasks.json",
        ".git/hooks/pre-commit",
        "new/.claude/settings.json",
        ".npmrc",
        "casemate.toml",
    ]

    assert (arena.project / "plain").exists(), said
    assert [path for path in held if (arena.project / path).exists()] == []
    assert (arena.project / ".env").read_text() == f"TOKEN={SECRET}\n"
    assert (arena.project / ".envrc").read_text() == "mine"
    _verb(arena, "apply", "--yes", ".vscode")
    assert (arena.project / ".vscode/tasks.json").exists()
    assert not (arena.project / ".npmrc").exists()


@pytest.mark.parametrize("mode", ["whole", "named"])
def test_deleting_what_holds_hidden_files(arena: Arena, mode: str) -> None:
    """Deleting a directory deletes none of the hidden files in it, on applying neither."""
    directory = arena.project / "config"
    (directory / "deep").mkdir(parents=True)
    for name in (".env", "deep/key.pem", "plain"):
        (directory / name).write_text(SECRET)
    arena.inside(shell("rm -rf config; mkdir config; echo mine > config/other"))

    _verb(arena, "apply", "--yes", *(["config"] if mode == "named" else []))

    assert (directory / ".env").read_text() == SECRET
    assert (directory / "deep/key.pem").read_text() == SECRET
    assert not (directory / "plain").exists()


@pytest.mark.needs("git")
def test_e5_bare_repositories_are_held(arena: Arena) -> None:
    """The parts of a bare repository that git obeys are held back like those of any other."""
    arena.inside(
        shell(
            "mkdir -p d/x/objects d/x/refs d/x/hooks; cd d/x; echo 'ref: refs/heads/main' > HEAD;"
            "echo '[core]' > config; echo x > hooks/pre-commit; echo x > plain"
        )
    )

    _verb(arena, "apply", "--yes")

    assert (arena.project / "d/x/plain").exists()
    assert not (arena.project / "d/x/config").exists()
    assert not (arena.project / "d/x/hooks/pre-commit").exists()


def test_unsearchable_directories_are_saved(arena: Arena) -> None:
    """Directories without permissions hide nothing from the archive and lose nothing."""
    arena.inside(
        shell(
            "for m in 000 100 200 300 400 500 600; do mkdir -p d$m/in; echo $m > d$m/f; echo $m > d$m/in/g;"
            "chmod $m d$m/f d$m/in; chmod $m d$m; done; echo top > top; chmod 0 top; chmod 0 ."
        )
    )
    archived = arena.archived()

    assert archived["top"] == b"top\n"
    for mode in ("000", "100", "200", "300", "400", "500", "600"):
        assert archived[f"d{mode}/in/g"] == archived[f"d{mode}/f"] == f"{mode}\n".encode()


ESCAPES = {
    "names": """
import os
for name in (b"a\\x1b]0;owned\\x07", b"b\\x1b[2J\\x1b[H", b"c\\rd", b"d\\nerror: forged", b"e\\x9b31m",
             b"f\\xe2\\x80\\xaegnp.exe", b"g\\x08\\x08h", b"i\\x1bP+q\\x1b\\\\\\\\", b"j\\xff\\xfe", b"k\\xc2\\x9b2J"):
    with open(name, "w") as file: file.write("x")
os.symlink(b"\\x1b[2J", "link")
""",
    "contents": """
with open("README.md", "wb") as file:
    file.write(b"plain\\n\\x1b]0;owned\\x07\\n\\x1b[2J\\n\\r+forged\\n\\xc2\\x9b31m\\n\\xe2\\x80\\xae\\n\\x08\\x7f\\n" + b"\\x1b" * 5000)
""",
    "command": "",
}


@pytest.mark.parametrize("where", ESCAPES)
def test_e45_terminal_escapes(arena: Arena, where: str) -> None:
    """Names and contents that hold control characters are shown escaped, wherever they are shown."""
    attack = python(ESCAPES[where] or "open('x', 'w').close()", "\x1b]0;owned\x07\x1b[2J")
    bare = arena.bare([*shell('ls --show-control-chars; cat README.md; echo "$1"'), attack[-1]])
    arena.renew()
    arena.inside(attack)
    summary = casemate("run", "--", *attack, cwd=arena.project).stderr.decode(
        errors="backslashreplace"
    )
    shown = [summary]
    verbs = [["diff"], ["sessions"], ["apply", "--yes"], ["undo", "--yes"]]
    if where == "names":
        verbs += [["diff", "--stat"], ["diff", "--json"], ["sessions", "--json"], ["apply", "-n"]]
    for verb in verbs:
        outcome = _verb(arena, *verb)
        shown += [outcome.out, outcome.err]

    if where == "command":
        assert "\x1b" in bare.out
    for text in shown:
        bad = {c for c in text if not (c.isprintable() or c in "\n\t")}
        assert not bad, text[:2000]
        assert "\nerror: forged" not in text
