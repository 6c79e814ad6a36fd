"""`casemate demo`: it holds on this machine, and it says so when something does not."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.command_line import casemate, needs_script

from casemate.demo.attempts import ATTEMPTS, judge
from casemate.demo.decoys import Decoys
from casemate.demo.perimeter import Command, Output, Perimeter, run_without
from casemate.demo.play import Runner, play
from casemate.demo.project import base_python, find_project, own_source
from casemate.demo.report import Paint, lines

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


@pytest.fixture
def decoys() -> Iterator[Decoys]:
    """A stage of decoys, gone at the end."""
    made = Decoys(base_python())
    try:
        with made:
            yield made
    finally:
        made.remove()


def attack_by(runner: Runner) -> Runner:
    """Work and tests inside as they should be, the attack by `runner`."""

    def run(perimeter: Perimeter, command: Command) -> Output:
        if command.script.endswith("attack.py"):
            return runner(perimeter, command)
        return perimeter.run(command)

    return run


@needs_script
def test_demo_holds() -> None:
    """On casemate's own source every attempt is refused and the edit reaches the copy."""
    run = casemate("demo", "--json")

    result = json.loads(run.stdout)
    assert [row for row in result["attempts"] if not row["held"]] == []
    assert len(result["attempts"]) == len(ATTEMPTS)
    assert result["edited"] == ["src/casemate/policy/units.py", "tests/test_weeks.py"]
    assert set(result["edited"]) <= set(result["applied"])
    assert result["tests"]["status"] == 0
    assert run.returncode == 0 and result["passed"]


@needs_script
def test_text_for_a_pipe_is_plain_and_leaves_nothing() -> None:
    """In a pipe there are no colours; the temporary directory is empty again at the end."""
    with tempfile.TemporaryDirectory(prefix="cd", dir="/tmp") as short:
        run = casemate("demo", env=os.environ | {"TMPDIR": short})
        left = os.listdir(short)

    assert run.returncode == 0, run.stdout + run.stderr
    assert b"\x1b" not in run.stdout
    assert b"+DURATION_UNITS" in run.stdout
    assert left == []


def test_a_long_temporary_directory(tmp_path: Path) -> None:
    """A TMPDIR too long for the name of a socket is passed over, not failed on."""
    deep = tmp_path / ("long" * 30)
    deep.mkdir()
    run = casemate("demo", env=os.environ | {"TMPDIR": str(deep)})

    assert run.returncode == 0, run.stdout + run.stderr
    assert os.listdir(deep) == []


def test_attack_without_sandbox_is_reported_as_such(decoys: Decoys) -> None:
    """With the attack run outside in place of inside, every row that can says it got through."""
    result = play(
        own_source(), decoys, inside=attack_by(lambda _perimeter, command: run_without(command))
    )

    through = {row.attempt.name for row in result.rows if row.inside.succeeded}
    closed = {row.attempt.name for row in result.rows if row.attempt.closed_here}
    assert {attempt.name for attempt in ATTEMPTS} - closed <= through
    assert not result.passed
    text = "\n".join(lines(result, Paint(False)))
    assert "got through: read ~/.ssh/id_ed25519" in text
    assert "Every attempt was refused" not in text


def test_silent_agent_proves_nothing(decoys: Decoys) -> None:
    """An attack that never reports is not taken for one that was refused."""
    result = play(
        own_source(), decoys, inside=attack_by(lambda _perimeter, _command: Output(0, ""))
    )

    assert not any(row.held for row in result.rows)
    assert not result.passed
    assert "NOT SHOWN" in "\n".join(lines(result, Paint(False)))


def test_lying_agent_is_found_out(decoys: Decoys) -> None:
    """Claims of refusal do not cover what is seen from outside."""

    def lie(_perimeter: Perimeter, command: Command) -> Output:
        run_without(command)
        claims = [{"attempt": attempt.name, "errno": "EACCES"} for attempt in ATTEMPTS]
        return Output(0, "\n".join(map(json.dumps, claims)))

    result = play(own_source(), decoys, inside=attack_by(lie))

    through = {row.attempt.name for row in result.rows if row.inside.succeeded}
    traces = {attempt.name for attempt in ATTEMPTS if attempt.proof == "trace"}
    assert traces <= through
    assert not result.passed


def test_other_project_with_its_own_tests(decoys: Decoys, project: Path) -> None:
    """A given project is copied, tested by its own tests and improved; itself it stays as it was."""
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}

    result = play(find_project(str(project)), decoys)

    assert result.edited == ("README.md", ".editorconfig")
    assert result.tests is not None
    assert [row for row in result.rows if not row.held] == []
    assert result.edit_applied
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_failing_tests_fail_the_demo(decoys: Decoys, project: Path) -> None:
    """Tests that fail inside are shown, and the demonstration does not pass."""
    (project / "tests/test_app.py").write_text("raise SystemExit(3)\n")

    result = play(find_project(str(project)), decoys)

    assert result.tests is not None and result.tests.status != 0
    assert not result.passed


@needs_script
def test_missing_project_is_an_error() -> None:
    """A path that is no directory is refused with casemate's own exit status."""
    run = casemate("demo", "/no/such/project")

    assert run.returncode == 125
    assert b"not a directory" in run.stderr


def test_secret_counts_only_when_shown() -> None:
    """An agent that claims to have read a secret has to show it."""
    (attempt,) = (attempt for attempt in ATTEMPTS if attempt.name == "ssh_key")
    secrets = {"ssh_key": "the-secret"}

    assert judge(attempt, {"loot": "x the-secret y"}, {}, secrets).succeeded is True
    assert judge(attempt, {"loot": "a file of its own"}, {}, secrets).succeeded is False
    assert judge(attempt, {"errno": "ENOENT"}, {}, secrets).succeeded is False
    assert judge(attempt, {"problem": "TypeError()"}, {}, secrets).succeeded is None
    assert judge(attempt, None, {}, secrets).succeeded is None
