"""What a sandbox changed: seen while it is open and after, applied, dropped."""

from __future__ import annotations

from pathlib import Path

import pytest

from casemate import Sandbox
from casemate.errors import ConflictError, UsageError
from casemate.policy.locations import locate
from casemate.workspace.store import Store

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


def store() -> Store:
    """The sessions of the test's user."""
    import os

    return Store(locate(os.environ).state)


def test_changes_are_seen_while_the_sandbox_is_open(project: Path) -> None:
    """`changes` and `diff` show the state of the moment, and the commands go on."""
    with Sandbox(project) as sandbox:
        assert sandbox.changes() == ()
        sandbox.run("echo one > one")
        first = sandbox.changes()
        sandbox.run("echo two > two; rm one")
        second = sandbox.changes()
        diff = sandbox.diff()

    assert [change.path for change in first] == ["one"]
    assert [(change.kind, change.path) for change in second] == [("added", "two")]
    assert "+two" in diff
    assert [change.path for change in sandbox.changes()] == ["two"]


def test_apply_writes_all_and_closes(project: Path) -> None:
    """After `apply` the project has the changes and the sandbox is closed."""
    with Sandbox(project) as sandbox:
        sandbox.run("echo changed > README.md; mkdir -p n/m; echo x > n/m/f; rm run.sh")
        applied = sandbox.apply()

        assert sandbox.closed
    assert (project / "README.md").read_text() == "changed\n"
    assert (project / "n/m/f").read_text() == "x\n"
    assert not (project / "run.sh").exists()
    assert {change.path for change in applied} >= {"README.md", "n/m/f", "run.sh"}
    assert sandbox.changes() == ()


def test_paths_choose_what_is_applied(project: Path) -> None:
    """Only what is named is applied, the rest waits in the session; none means none."""
    with Sandbox(project) as sandbox:
        sandbox.run("echo a > a; mkdir d; echo b > d/b; echo c > c")
    assert sandbox.apply([]) == ()
    assert {change.path for change in sandbox.apply(["a", "d"])} == {"a", "d", "d/b"}

    assert (project / "d/b").exists()
    assert not (project / "c").exists()
    assert [change.path for change in sandbox.changes()] == ["c"]


def test_protected_files_need_their_name(project: Path) -> None:
    """A planted hook is not applied with the rest, but is when it is named."""
    with Sandbox(project) as sandbox:
        sandbox.run("mkdir -p .github/workflows; echo run > .github/workflows/x.yml; echo a > a")
        sandbox.apply()
    assert (project / "a").exists()
    assert not (project / ".github/workflows").exists()

    sandbox.apply([".github/workflows"])
    assert (project / ".github/workflows/x.yml").exists()


def test_a_change_on_the_host_meanwhile_is_a_conflict(project: Path) -> None:
    """What the user wrote is not overwritten unless asked for."""
    with Sandbox(project) as sandbox:
        sandbox.run("echo theirs > README.md; echo new > new")
        (project / "README.md").write_text("mine")
        with pytest.raises(ConflictError) as caught:
            sandbox.apply()
    assert caught.value.paths == ("README.md",)
    assert (project / "README.md").read_text() == "mine"
    assert not (project / "new").exists()

    sandbox.apply(force=True)
    assert (project / "README.md").read_text() == "theirs\n"


def test_discard_leaves_nothing(project: Path) -> None:
    """A sandbox discarded while open leaves no session, one discarded later can be recovered."""
    with Sandbox(project) as sandbox:
        sandbox.run("echo a > a")
        sandbox.discard()
    assert store().sessions() == ()

    with Sandbox(project) as sandbox:
        sandbox.run("echo a > a")
    sandbox.discard()
    assert [session.state for session in store().sessions()] == ["discarded"]
    with pytest.raises(UsageError):
        sandbox.apply()


def test_a_sandbox_that_changed_nothing_leaves_nothing(project: Path) -> None:
    """Without changes there is no session to look after."""
    with Sandbox(project) as sandbox:
        sandbox.run(["true"])

    assert store().sessions() == ()
    assert sandbox.apply() == ()
    assert sandbox.diff() == ""
    sandbox.discard()


def test_the_old_content_of_hidden_files_is_not_shown(project: Path) -> None:
    """A diff may go to whoever must not see a hidden file: it names it and shows nothing."""
    with Sandbox(project) as sandbox:
        sandbox.run("rm -f .env; echo planted > .env")
        diff = sandbox.diff()
        flags = [change.flags for change in sandbox.changes() if change.path == ".env"]

    assert "sk-secret-of-the-project" not in diff
    assert flags == [] or "hidden" in flags[0]


def test_nothing_from_inside_reaches_a_terminal(project: Path) -> None:
    """Escape sequences in names, targets and content are shown as text."""
    with Sandbox(project) as sandbox:
        sandbox.run(
            "printf 'a\\033[31mb\\n' > \"$(printf 'n\\033[2J')\"; ln -s \"$(printf '\\033]0;x')\" l"
        )
        diff = sandbox.diff()
        names = [change.name for change in sandbox.changes()]

    assert "\x1b" not in diff
    assert "\\x1b[31m" in diff
    assert not any("\x1b" in name for name in names)
