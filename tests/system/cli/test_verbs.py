"""The verbs that need no session: plan, why, trust, doctor, shell, completion, and their errors."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import time
from pathlib import Path

import pytest
from tests.support.command_line import COMMAND, casemate

from casemate.cli.main import VERBS

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

WIDE = 'version = 1\n[workspace]\nhide = ["notes.txt"]\n[limits]\nmemory = "64GiB"\n'


def terminal(arguments: list[str], project: Path, answers: bytes) -> tuple[int, str]:
    """Runs casemate on a terminal, types `answers`, and gives its status and what it showed."""
    child, master = pty.fork()
    if child == 0:
        os.chdir(project)
        os.execvp(COMMAND[0], [*COMMAND, *arguments])
    shown = b""
    deadline = time.monotonic() + 60
    asked = False
    while time.monotonic() < deadline:
        if not select.select([master], [], [], 1)[0]:
            continue
        try:
            data = os.read(master, 65536)
        except OSError:
            break
        if not data:
            break
        shown += data
        if b"[" in shown and b"]" in shown and not asked and shown.rstrip().endswith(b"]"):
            asked = True
            os.write(master, answers)
    _, status = os.waitpid(child, 0)
    os.close(master)
    return os.waitstatus_to_exitcode(status), shown.decode()


def test_plan_shows_what_is_hidden_and_limited(project: Path) -> None:
    """`plan` has the project, its hidden patterns and limits; --json the same for programs."""
    text = casemate("plan", "--set", "limits.memory=3GiB", cwd=project).stdout.decode()
    found = json.loads(casemate("plan", "--json", "--workspace", "readonly", cwd=project).stdout)

    assert "3GiB" in text
    assert str(project.name) in text
    assert found["project"] == str(project)
    assert any(step["access"] == "read-only" for step in found["files"])
    assert {item["name"] for item in found["guarantees"]} >= {"files", "edits"}


def test_plan_says_when_a_run_would_be_refused(project: Path) -> None:
    """A plan that cannot be held here is shown, with the reason, and the status is 1."""
    strict = ("--set", "strict=true", "--workspace", "direct")
    done = casemate("plan", *strict, "--json", cwd=project)

    assert done.returncode == 1
    assert "protect" in json.loads(done.stdout)["refused"]["message"]


def test_why_names_rule_and_change(project: Path) -> None:
    """`why` tells what a path is inside, by which rule, and the line that would change it."""
    text = casemate("why", ".env", cwd=project).stdout.decode()
    found = json.loads(casemate("why", "README.md", "--json", cwd=project).stdout)
    beneath = json.loads(casemate("why", "app.py", "-C", "src", "--json", cwd=project).stdout)

    assert "cannot be seen" in text
    assert "to change it: workspace.hide" in text
    assert found["verdict"] == "copy-on-write"
    assert beneath["path"] == str(project / "src/app.py")


def test_why_of_a_url(project: Path) -> None:
    """`why` tells of a connection or request by which rule it may go, or the line that allows it."""
    options = ("--set", 'network.allow=["api.example:443 GET /v1/** <=9req"]')
    text = casemate("why", "https://api.example/v1/x", *options, cwd=project).stdout.decode()
    refused = casemate(
        "why", "https://api.example/v1/x", "--method", "PUT", *options, "--json", cwd=project
    )
    found = json.loads(refused.stdout)

    assert "is allowed" in text
    assert "looked into" in text
    assert "budget: <=9req" in text
    assert (found["allowed"], found["code"]) == (False, "method")
    assert found["allow"] == 'network.allow = ["api.example:443 PUT /v1/x"]'


def test_trust_shows_asks_and_remembers(project: Path) -> None:
    """The policy and what it widens are shown; yes trusts exactly this content."""
    (project / "casemate.toml").write_text(WIDE)
    status, shown = terminal(["trust"], project, b"y\n")
    assert status == 0, shown
    assert 'memory = "64GiB"' in shown
    assert "It widens 1 rule" in shown

    listed = json.loads(casemate("trust", "--list", "--json", cwd=project).stdout)
    assert [entry["path"] for entry in listed] == [str(project / "casemate.toml")]
    plan = json.loads(casemate("plan", "--json", cwd=project).stdout)
    assert plan["limits"]["memory"] == 64 << 30

    (project / "casemate.toml").write_text(WIDE + "# changed\n")
    assert "changed" in casemate("trust", "--list", cwd=project).stdout.decode()
    plan = json.loads(casemate("plan", "--json", cwd=project).stdout)
    assert plan["limits"]["memory"] != 64 << 30
    assert "casemate trust" in plan["notices"][0]["allow"]


def test_trust_is_not_given_by_default(project: Path) -> None:
    """An empty answer, and nobody to ask, both leave the policy untrusted."""
    (project / "casemate.toml").write_text(WIDE)
    status, _ = terminal(["trust"], project, b"\n")
    assert status == 1
    assert casemate("trust", cwd=project).returncode == 125
    assert json.loads(casemate("trust", "--list", "--json", cwd=project).stdout) == []

    assert casemate("trust", "--yes", cwd=project).returncode == 0
    assert casemate("trust", "--revoke", cwd=project).returncode == 0
    assert casemate("trust", "--revoke", cwd=project).returncode == 1


def test_a_broken_policy_is_not_trusted(project: Path) -> None:
    """A policy with a mistake is an error that names file, line and key."""
    (project / "casemate.toml").write_text("version = 1\n[limits]\nmemry = 1\n")
    done = casemate("trust", "--yes", cwd=project)

    assert done.returncode == 125
    assert re.search(rb"casemate\.toml:3.*memry", done.stderr)


def test_an_ignored_policy_is_told_by_every_run(project: Path) -> None:
    """A run says what of the project's policy it did not grant, also if nothing changed."""
    (project / "casemate.toml").write_text(WIDE)
    said = casemate("run", "--", "true", cwd=project).stderr.decode()

    assert "limits.memory" in said
    assert "casemate trust" in said


def test_doctor_tells_what_is_there(project: Path) -> None:
    """`doctor` really starts a sandbox; every fact has a state and what it is for."""
    found = json.loads(casemate("doctor", "--json", cwd=project).stdout)
    text = casemate("doctor", cwd=project)

    assert found["works"] is True
    assert {fact["state"] for fact in found["facts"]} <= {"yes", "partly", "no"}
    names = {fact["name"] for fact in found["facts"]}
    assert {"kernel", "user namespaces", "overlay", "Landlock", "seccomp", "KVM", "SGX"} <= names
    assert all(fact["gives"] for fact in found["facts"])
    assert {item["name"] for item in found["guarantees"]} >= {"files", "network", "cleanup"}
    assert text.returncode == 0
    assert b"A run works here" in text.stdout


def test_doctor_works_where_no_project_is(home: Path) -> None:
    """In the home directory, which cannot be a project, the machine is still told about."""
    done = casemate("doctor", "--json", cwd=home)

    assert done.returncode == 0
    assert json.loads(done.stdout)["works"] is True
    assert json.loads(casemate("sessions", "--json", cwd=home).stdout) == []


def test_doctor_fails_with_the_reason(project: Path) -> None:
    """Where a run cannot start, the status is 1 and the reason is told."""
    (project / "casemate.toml").write_text("nonsense\n")
    done = casemate("doctor", cwd=project)

    assert done.returncode == 1
    assert b"does not start" in done.stdout
    assert b"casemate.toml" in done.stdout


def test_shell_is_the_users_own_inside(project: Path) -> None:
    """`shell` opens a shell in the perimeter; its edits wait like those of a run."""
    done = casemate("shell", "-q", cwd=project, input=b"echo edit > edited; exit 5\n")

    assert done.returncode == 5
    assert not (project / "edited").exists()
    sessions = json.loads(casemate("sessions", "--json", cwd=project).stdout)
    assert sessions[0]["command"][0].startswith("/")
    assert casemate("shell", "--", "ls", cwd=project).returncode == 125


def test_interactive_apply_decides_one_by_one(project: Path) -> None:
    """Each change is asked about; what was refused stays with the session."""
    casemate("run", "--", "sh", "-c", "echo a > a; echo b > b; echo c > c", cwd=project)
    status, shown = terminal(["apply", "--interactive"], project, b"y\nn\ny\n")

    assert status == 0, shown
    assert [(project / name).exists() for name in "abc"] == [True, False, True]
    left = json.loads(casemate("diff", "--json", cwd=project).stdout)["changes"]
    assert [change["path"] for change in left] == ["b"]


def test_interactive_apply_can_be_left(project: Path) -> None:
    """Quitting applies nothing, also of what was agreed to before."""
    casemate("run", "--", "sh", "-c", "echo a > a; echo b > b", cwd=project)
    status, _ = terminal(["apply", "--interactive"], project, b"y\nq\n")

    assert status == 1
    assert not (project / "a").exists()


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("demo", "bench")])
def test_every_verb_has_help_and_refuses_nonsense(verb: str, project: Path) -> None:
    """`--help` succeeds and tells the usage; an unknown option is an error with a way on."""
    told = casemate(verb, "--help", cwd=project)
    refused = casemate(verb, "--no-such-option", cwd=project)

    assert told.returncode == 0
    assert f"usage: casemate {verb}".encode() in told.stdout
    assert refused.returncode == 125
    assert refused.stderr.startswith(b"error: ")
    assert b"--help" in refused.stderr


def test_errors_as_json_are_one_object(project: Path) -> None:
    """With --json an error is one JSON object on standard output."""
    done = casemate("diff", "--json", cwd=project)

    assert done.returncode == 125
    assert json.loads(done.stdout)["error"] == "usage"


def test_bash_completes_verbs_options_and_sessions(project: Path) -> None:
    """The script for bash loads and completes from the same table as the parsers."""
    casemate("run", "-q", "--", "sh", "-c", "echo a > a", cwd=project)
    script = casemate("completion", "bash", cwd=project).stdout.decode()
    (session,) = json.loads(casemate("sessions", "--json", cwd=project).stdout)

    def complete(*words: str) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        code = f"""{script}
casemate() {{ {" ".join(COMMAND)} "$@"; }}
COMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}; _casemate
printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = subprocess.run(
            ["bash", "--norc", "-c", code], capture_output=True, text=True, check=True, cwd=project
        )
        return done.stdout.split()

    assert complete("casemate", "se") == ["sessions"]
    assert "--interactive" in complete("casemate", "apply", "--i")
    assert complete("casemate", "run", "--workspace", "over") == ["overlay"]
    assert complete("casemate", "completion", "z") == ["zsh"]
    assert complete("casemate", "discard", session["session"][:8]) == [session["session"]]
    assert "true" in complete("casemate", "run", "--", "tru")


def test_init_writes_a_policy_that_can_be_trusted(repository: Path) -> None:
    """`init` finds what the project is made of; what it writes is valid and widens what it says."""
    (repository / "pyproject.toml").write_text("[project]\n")
    printed = casemate("init", "--stdout", cwd=repository / "src").stdout.decode()
    assert not (repository / "casemate.toml").exists()

    done = casemate("init", cwd=repository / "src")
    assert done.returncode == 0, done.stderr
    assert (repository / "casemate.toml").read_text() == printed
    assert '"git"' in printed
    assert '"python"' in printed
    assert casemate("trust", "--yes", cwd=repository).returncode == 0
    assert casemate("run", "-q", "--", "true", cwd=repository).returncode == 0


def test_init_never_overwrites(project: Path, tmp_path: Path) -> None:
    """A policy that is there stays as it is, and a planted link is not written through."""
    (project / "casemate.toml").write_text("version = 1\n")
    assert casemate("init", cwd=project).returncode == 125
    assert (project / "casemate.toml").read_text() == "version = 1\n"

    (project / "casemate.toml").unlink()
    (project / "casemate.toml").symlink_to(tmp_path / "elsewhere")
    assert casemate("init", cwd=project).returncode == 125
    assert not (tmp_path / "elsewhere").exists()
