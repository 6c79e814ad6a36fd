"""Real overlay layers, made by real programs: apply gives the tree they saw, undo the old one."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support import layers, workbench
from tests.support.workbench import Snapshot, Workbench

from casemate.workspace import flags
from casemate.workspace.undo import undo

pytestmark = pytest.mark.needs("overlay")

SCRIPTS = {
    "edit in place": "echo more >> src/main.py; sed -i s/hello/bye/ readme",
    "delete and make again": "rm -r src; mkdir src; echo new > src/main.py",
    "directory replaced within": "rm -r src/deep; mkdir -p src/deep/a/b; echo other > src/deep/a/b/file",
    "move a directory": "mv src moved",
    "move a directory and back": "mv src moved; mv moved src",
    "move a file over another": "mv -f src/main.py readme",
    "file to directory": "rm readme; mkdir readme; echo x > readme/inner",
    "directory to file": "rm -r src/deep; echo x > src/deep",
    "directory to link": "rm -r src/deep; ln -s /usr/bin src/deep",
    "link to directory": "rm link; mkdir link; echo x > link/inner",
    "modes": "chmod 600 readme; chmod 700 src; chmod -x src/tool; chmod +x src/main.py",
    "deep new tree": "mkdir -p a/b/c/d/e; echo x > a/b/c/d/e/f; ln -s ../b a/b/again",
    "touched only": "touch readme src/main.py; chmod 644 readme",
    "hard links": "ln src/main.py src/second; echo more >> src/second",
    "odd names": "touch 'a b' \"$(printf 'new\\nline')\" \"$(printf '\\377')\" -- -dash",
    "deleted and made again as it was": "cp -p readme copy; rm readme; mv copy readme",
    "made and deleted": "mkdir -p x/y; touch x/y/z; rm -r x; touch readme",
    "chmod of the root": "chmod 711 .",
    "read-only directory": "mkdir ro; echo x > ro/file; chmod 555 ro",
    "empty file and directory": "mkdir e; : > e/mpty",
}


def merged(bench: Workbench, script: str, layer: Path) -> tuple[Snapshot, Path]:
    """What the session saw at its end, and the upper directory it leaves."""
    seen = bench.base / "seen"
    upper = layers.edit(bench.project, layer, f"{script}\ncp -a . {seen}")
    expected = workbench.snapshot(seen) | {".": ("d", seen.stat().st_mode & 0o7777, b"")}
    subprocess.run(["chmod", "-R", "u+rwX", seen], check=True)
    shutil.rmtree(seen)
    return expected, upper


def with_root(bench: Workbench) -> Snapshot:
    mode = bench.project.stat().st_mode & 0o7777
    return bench.snapshot() | {".": ("d", mode, b"")}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
def test_apply_gives_what_the_session_saw(bench: Workbench, script: str, tmp_path: Path) -> None:
    """Applied, the project is the tree that the session saw at its end; undone, as before."""
    before = with_root(bench)
    expected, upper = merged(bench, script, tmp_path / "layer")
    id = bench.session(lambda writer: layers.archive(writer, upper))
    applied = bench.apply(id)
    assert with_root(bench) == expected
    assert not applied.held
    if applied.changes:
        assert before != expected
        undo(bench.store, id)
    assert with_root(bench) == before
    subprocess.run(["chmod", "-R", "u+rwX", bench.project], check=True)


@pytest.mark.parametrize("seed", range(3))
def test_random_edits(bench: Workbench, tmp_path: Path, seed: int) -> None:
    """A long random sequence of edits arrives exactly, and is undone exactly."""
    generator = random.Random(seed)
    places = ["src", "src/deep", "src/deep/a", "n1", "n2", "n1/n3", "src/n4", "readme", "src/tool"]
    edits = [
        "rm -rf {one}",
        "mkdir -p {one}",
        "echo {content} > {one}",
        "echo {content} >> {one}/f",
        "mv -T {one} {other}",
        "cp -rT {one} {other}",
        "ln -sfn {other} {one}",
        "chmod {mode} {one}",
    ]
    script = tmp_path / "edits"
    with script.open("w") as file:
        for _ in range(300):
            one, other = generator.choice(places), generator.choice(places)
            mode, content = generator.choice(["700", "755", "750"]), generator.random()
            edit = generator.choice(edits).format(one=one, other=other, mode=mode, content=content)
            file.write(f"{{ {edit}; }} 2>/dev/null || true\n")
    before = with_root(bench)
    expected, upper = merged(bench, f". {script}", tmp_path / "layer")
    id = bench.session(lambda writer: layers.archive(writer, upper))
    with bench.review(id) as review:
        outside = [(0, c.path) for c in review.changes if flags.OUTSIDE_LINK in c.flags]
    bench.apply(id, ".", *(path.decode() for _, path in outside))
    assert with_root(bench) == expected
    undo(bench.store, id)
    assert with_root(bench) == before


@pytest.mark.needs("git")
def test_git_commit_in_the_session(bench: Workbench, tmp_path: Path) -> None:
    """A commit made inside arrives whole: git on the host finds the repository sound."""
    git = "git -c user.name=x -c user.email=x@example.invalid -c core.hooksPath=/dev/null"
    subprocess.run(
        ["sh", "-eu", "-c", f"git init -q; git add -A; {git} commit -qm first"],
        cwd=bench.project,
        check=True,
    )
    script = f"echo change >> readme; {git} commit -qam second; git gc -q; git branch other"
    upper = layers.edit(bench.project, tmp_path / "layer", script)
    id = bench.session(lambda writer: layers.archive(writer, upper))
    applied = bench.apply(id)
    assert not applied.held
    for command in (["fsck", "--strict"], ["status", "--porcelain"]):
        # Else git would refresh its index, which is then, rightly, changed since the apply.
        subprocess.run(
            ["git", "--no-optional-locks", *command],
            cwd=bench.project,
            check=True,
            capture_output=True,
        )
    log = subprocess.run(
        ["git", "log", "--format=%s", "other"],
        cwd=bench.project,
        check=True,
        capture_output=True,
        text=True,
    )
    assert log.stdout.split() == ["second", "first"]
    undo(bench.store, id)
    subprocess.run(["git", "fsck"], cwd=bench.project, check=True, capture_output=True)
