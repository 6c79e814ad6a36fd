"""The verbs around a session: the summary of a run, diff, apply, undo, discard, sessions."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import casemate

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

EDIT = "echo more >> README.md; mkdir new; echo x > new/f; rm run.sh"
PLANT = "mkdir -p .github/workflows; echo run > .github/workflows/ci.yml"


def run(project: Path, script: str, *options: str) -> Any:
    """`casemate run OPTIONS -- sh -c SCRIPT` in the project."""
    return casemate("run", *options, "--", "sh", "-c", script, cwd=project)


def in_json(project: Path, *arguments: str) -> Any:
    """What a verb prints with --json; the verb must succeed."""
    done = casemate(*arguments, "--json", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def identifier(project: Path) -> str:
    """The id of the only session."""
    (session,) = in_json(project, "sessions")
    found: str = session["session"]
    return found


def test_the_summary_tells_what_changed_and_what_next(project: Path) -> None:
    """After a run standard error has the changes, their number and the next commands."""
    done = run(project, EDIT)

    said = done.stderr.decode()
    assert (done.returncode, done.stdout) == (0, b"")
    assert re.search(r"^casemate: 4 changes: 2 added, 1 modified, 1 deleted$", said, re.MULTILINE)
    for line in ("  M README.md  +1", "  A new/f  +1", "  D run.sh"):
        assert line in said
    name = identifier(project)
    assert f"casemate diff {name}" in said
    assert f"casemate apply {name}" in said
    assert "\x1b" not in said


def test_the_summary_points_out_what_runs_on_the_host(project: Path) -> None:
    """A planted workflow is marked, and the mark says what it does."""
    said = run(project, PLANT).stderr.decode()

    assert "A .github/workflows/ci.yml" in said
    assert "! it matches a `protect` pattern" in said
    assert "! GitHub runs it" in said


def test_the_summary_is_short_and_keeps_what_is_flagged(project: Path) -> None:
    """Of many changes some lines are shown, and among them those that need a look."""
    said = run(project, f"for i in $(seq 200); do echo $i > f$i; done; {PLANT}").stderr.decode()

    assert len(said.splitlines()) < 40
    assert ".github/workflows/ci.yml" in said
    assert re.search(r"… and \d+ more", said)


def test_the_summary_as_json_is_one_object(project: Path) -> None:
    """`--json` prints the whole summary as one JSON object on standard error, nothing else."""
    done = run(project, f"{EDIT}; exit 3", "--json")

    found = json.loads(done.stderr)
    assert (done.returncode, found["exit_status"]) == (3, 3)
    assert {change["path"] for change in found["changes"]} == {
        "README.md",
        "new",
        "new/f",
        "run.sh",
    }
    assert found["session"] == identifier(project)
    assert {"files", "network"} <= {item["name"] for item in found["guarantees"]}
    assert found["saved"] is True


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        (["no-such-program"], 127, "cannot run no-such-program: No such file or directory"),
        (["./README.md"], 126, "cannot run ./README.md: Permission denied"),
    ],
)
def test_what_could_not_start_is_explained(
    project: Path, command: list[str], status: int, said: str
) -> None:
    """A command that cannot be started has the status a shell gives it, and a reason."""
    for options in ([], ["--quiet"]):
        done = casemate("run", *options, "--", *command, cwd=project)

        assert done.returncode == status
        assert said in done.stderr.decode()


def test_a_program_that_is_only_outside_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program on PATH that the sandbox does not show comes with the line that would show it."""
    tool = tmp_path / "tools/mytool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{tool.parent}")
    said = casemate("run", "--", "mytool", cwd=project).stderr.decode()

    assert f"it is {tool} here" in said
    assert f'files.read=["{tool}"]' in said


def test_quiet_runs_are_silent(project: Path) -> None:
    """With --quiet a run that went well says nothing, and its session is kept all the same."""
    done = run(project, EDIT, "--quiet")

    assert (done.stdout, done.stderr) == (b"", b"")
    assert identifier(project)


def test_apply_at_once(project: Path) -> None:
    """`run --apply` writes the changes of a command that succeeded, but what must be named."""
    done = run(project, f"{EDIT}; {PLANT}", "--apply")

    assert done.returncode == 0
    assert (project / "new/f").read_text() == "x\n"
    assert not (project / ".github/workflows").exists()
    assert "held back: .github/workflows" in done.stderr.decode()


def test_apply_at_once_only_after_success(project: Path) -> None:
    """`run --apply` leaves the project alone when the command failed, and says so."""
    done = run(project, f"{EDIT}; exit 4", "--apply")

    assert done.returncode == 4
    assert not (project / "new").exists()
    assert "not applied" in done.stderr.decode()


def test_discard_at_once(project: Path) -> None:
    """`run --discard` keeps nothing."""
    run(project, EDIT, "--discard")

    assert in_json(project, "sessions") == []
    assert not (project / "new").exists()


def test_diff_shows_the_lines(project: Path) -> None:
    """`diff` is a unified diff of the newest session; paths choose; --stat is short."""
    run(project, EDIT)
    whole = casemate("diff", cwd=project).stdout.decode()
    some = casemate("diff", "README.md", cwd=project).stdout.decode()
    short = casemate("diff", identifier(project), "--stat", "new", cwd=project).stdout.decode()

    assert "--- a/README.md\n+++ b/README.md\n@@ -1 +1,2 @@\n # A project\n+more\n" in whole
    assert "deleted file mode 0755" in whole
    assert "diff run.sh" not in some
    assert "  A new/f  +1" in short
    assert "M README" not in short


def test_diff_of_what_is_not_there(project: Path) -> None:
    """An unknown session, and a path outside, are errors with a way on and status 125."""
    run(project, EDIT)
    for arguments in (["19990101-000000-aaaa"], ["../elsewhere"], ["/etc/passwd"]):
        done = casemate("diff", *arguments, cwd=project)

        assert done.returncode == 125
        assert done.stderr.startswith(b"error: ")


def test_apply_undo_and_apply_again(project: Path) -> None:
    """Applying writes all, undoing takes it back, and the session has it still."""
    before = sorted(path.name for path in project.iterdir())
    run(project, EDIT)
    applied = in_json(project, "apply", "--yes")
    assert {change["path"] for change in applied["applied"]} >= {"README.md", "new/f", "run.sh"}
    assert (project / "new/f").exists()
    assert in_json(project, "sessions")[0]["state"] == "applied"

    undone = casemate("undo", "--yes", cwd=project)
    assert undone.returncode == 0, undone.stderr
    assert sorted(path.name for path in project.iterdir()) == before
    assert (project / "README.md").read_text() == "# A project\n"
    assert len(in_json(project, "diff")["changes"]) == 4


def test_apply_asks_nobody_who_is_not_there(project: Path) -> None:
    """Without a terminal and without --yes nothing is applied."""
    run(project, EDIT)
    done = casemate("apply", cwd=project)

    assert done.returncode == 125
    assert b"--yes" in done.stderr
    assert not (project / "new").exists()


def test_apply_part_by_path_and_exclusion(project: Path) -> None:
    """Paths choose what is applied, --exclude leaves out, the rest waits."""
    run(project, EDIT)
    casemate("apply", "--yes", "new", cwd=project)
    assert (project / "new/f").exists()
    assert (project / "run.sh").exists()

    casemate("apply", "--yes", "--exclude", "run.sh", cwd=project)
    assert (project / "README.md").read_text().endswith("more\n")
    assert [change["path"] for change in in_json(project, "diff")["changes"]] == ["run.sh"]


def test_protected_files_are_held_until_asked_for(project: Path) -> None:
    """What matches `protect` is held back, and applied with its name or --include-protected."""
    run(project, f"{PLANT}; mkdir -p .vscode; echo '{{}}' > .vscode/tasks.json; echo a > a")
    held = in_json(project, "apply", "--yes")["held"]
    assert {".github/workflows/ci.yml"} <= {item["path"] for item in held}
    assert (project / "a").exists()
    assert not (project / ".github/workflows").exists()

    done = casemate("apply", "--yes", "--include-protected", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (project / ".github/workflows/ci.yml").exists()


def test_a_dry_run_changes_nothing(project: Path) -> None:
    """--dry-run tells what would be applied."""
    run(project, EDIT)
    found = in_json(project, "apply", "--dry-run")

    assert len(found["applied"]) == 4
    assert not (project / "new").exists()


def test_conflicts_stop_everything(project: Path) -> None:
    """A file changed on the host is not overwritten, nothing is applied, --force decides."""
    run(project, EDIT)
    (project / "README.md").write_text("mine\n")
    done = casemate("apply", "--yes", cwd=project)
    assert done.returncode == 125
    assert b"README.md" in done.stderr
    assert not (project / "new").exists()

    done = casemate("apply", "--yes", "--force", "README.md", cwd=project)
    assert done.returncode == 0, done.stderr
    assert (project / "README.md").read_text() == "# A project\nmore\n"


def test_discard_and_recover(project: Path) -> None:
    """A discarded session is listed as such and can be taken back."""
    run(project, EDIT)
    name = identifier(project)
    assert in_json(project, "discard")["state"] == "discarded"
    assert in_json(project, "sessions")[0]["state"] == "discarded"
    assert casemate("apply", "--yes", name, cwd=project).returncode == 125

    casemate("sessions", "--recover", name, cwd=project)
    assert in_json(project, "sessions")[0]["state"] == "open"
    assert casemate("sessions", "--remove", name, cwd=project).returncode == 0
    assert in_json(project, "sessions") == []


def test_sessions_are_listed_for_people(project: Path) -> None:
    """The table names session, state, project and command, a hostile command escaped."""
    casemate("run", "--", "sh", "-c", "echo x > y # \x1b[31m", cwd=project)
    listed = casemate("sessions", cwd=project).stdout.decode()

    assert listed.splitlines()[0].split()[:2] == ["SESSION", "STATE"]
    assert identifier(project) in listed
    assert "\x1b" not in listed


def test_hostile_names_and_contents_are_escaped(project: Path) -> None:
    """Nothing from inside reaches the terminal as it is, in no report."""
    run(
        project,
        "printf 'x\\033[2J\\n' > \"$(printf 'a\\033]0;t\\007\\nb')\"; printf '\\377' > \"$(printf '\\377')\"",
    )
    for arguments in (["diff"], ["diff", "--stat"], ["diff", "--json"], ["apply", "--dry-run"]):
        done = casemate(*arguments, cwd=project)

        assert done.returncode == 0, done.stderr
        assert not set(done.stdout) & set(b"\x1b\x07\x9b\xff")


def test_colours_only_where_they_are_wanted(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe gets none unless FORCE_COLOR asks, and NO_COLOR wins."""
    run(project, EDIT)
    assert b"\x1b[" not in casemate("diff", cwd=project).stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert b"\x1b[32m+more" in casemate("diff", cwd=project).stdout
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b[" not in casemate("diff", cwd=project).stdout
