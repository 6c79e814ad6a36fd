"""The interactive review: what is asked, in which order, and what each answer selects."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest
from tests.support import workbench
from tests.support.workbench import Workbench

from casemate.policy.patterns import parse_pattern
from casemate.workspace import create
from casemate.workspace.archive_writer import ArchiveWriter
from casemate.workspace.interactive import choose
from casemate.workspace.selection import Selection


class Script:
    """A dialogue with prepared answers; remembers what was shown."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.shown = ""

    def write(self, text: str) -> None:
        self.shown += text

    def ask(self, question: str) -> str:
        self.shown += question + "\n"
        return self.answers.pop(0) if self.answers else ""


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """A project with a directory that the session deletes."""
    made = Workbench(tmp_path)
    workbench.fill(made.project)
    return made


def build(writer: ArchiveWriter) -> None:
    writer.directory(0, b"src", mode=0o700)
    workbench.text(writer, "src/main.py", "print(2)\n")
    writer.whiteout(0, b"src/deep")
    writer.directory(0, b"new")
    workbench.text(writer, "new/file", "x\n")
    workbench.text(writer, ".envrc", "evil\n")
    workbench.text(writer, ".env", "x\n")
    writer.special(0, b"pipe")


@pytest.fixture
def id(bench: Workbench) -> str:
    """A session with plain, flagged and impossible changes."""
    return bench.session(build, hide=create.encode_patterns([parse_pattern(".env")]))


def chosen(bench: Workbench, id: str, script: Script) -> set[str] | None:
    with bench.review(id) as review:
        selection = choose(review, script, color=False)
        if selection is None:
            return None
        plan = review.plan(selection)
        assert not plan.conflicts
        return {change.name for change in plan.chosen}


def test_each_change_is_asked_about_once(bench: Workbench, id: str) -> None:
    """Unflagged changes come first, a deleted directory is one question, a new one none."""
    script = Script("n", "y", "n", "n", "n", "n")
    assert chosen(bench, id, script) == {"src"}
    questions = [line for line in script.shown.split("\n") if line.startswith("(")]
    assert [question.split(")")[0] for question in questions] == [
        f"({number}/6" for number in range(1, 7)
    ]
    assert [" FLAGGED " in question for question in questions] == [False] * 4 + [True] * 2
    assert "directory deleted: src/deep with the 3 entries in it" in script.shown
    assert "not applied: pipe" in script.shown


def test_all_leaves_the_flagged_to_their_own_questions(bench: Workbench, id: str) -> None:
    """ "a" takes every unflagged change; flagged ones are still asked about, and named by "y"."""
    script = Script("a", "y", "n")
    assert chosen(bench, id, script) == {
        "new",
        "new/file",
        "src",
        "src/main.py",
        "src/deep",
        "src/deep/a",
        "src/deep/a/b",
        "src/deep/a/b/file",
        ".env",
    }
    assert "it matches a `hide` pattern" in script.shown
    assert "direnv runs it in your shell" in script.shown


@pytest.mark.parametrize("answers", [("y", "q"), ("y",), (), ("n", "d"), ("d",)])
def test_stopping(bench: Workbench, id: str, answers: tuple[str, ...]) -> None:
    """ "q", the end of input, and taking nothing at all apply nothing, never everything."""
    assert chosen(bench, id, Script(*answers)) is None


def test_done_keeps_what_was_taken(bench: Workbench, id: str) -> None:
    """ "d" leaves this and all that follow, and keeps what was accepted before."""
    assert chosen(bench, id, Script("y", "d")) == {"new", "new/file"}


def test_odd_answers_get_help(bench: Workbench, id: str) -> None:
    """Anything else explains the keys and asks again; "v" shows the change again."""
    script = Script("what", "v", "y", "d")
    assert chosen(bench, id, script) == {"new", "new/file"}
    assert "leave it in the session" in script.shown
    assert script.shown.count("added: new/file") == 2


def test_conflicts_are_forced_one_by_one(bench: Workbench, id: str) -> None:
    """Accepting a conflict takes the session's version of that path alone."""
    workbench.write(bench.project / "src/main.py", "edited on the host\n")
    script = Script("n", "n", "n", "n", "n", "y")
    with bench.review(id) as review:
        selection = choose(review, script, color=False)
        assert selection == Selection(exact=((0, b"src/main.py"),), force=((0, b"src/main.py"),))
        review.apply(selection)
    assert (bench.project / "src/main.py").read_text() == "print(2)\n"
    assert "it changed on this machine since the session began" in script.shown


def test_on_a_terminal(bench: Workbench, id: str) -> None:
    """On a real terminal, what was typed before the question does not answer it."""
    child, master = pty.fork()
    if child == 0:
        status = 1
        try:
            from casemate.workspace.interactive import Terminal

            with Terminal() as terminal:
                os.read(0, 100)
                answer = terminal.ask("question? ")
                status = 0 if answer == "late" else 2
        finally:
            os._exit(status)
    os.write(master, b"go\nearly\n")
    seen = b""
    while b"question?" not in seen:
        seen += os.read(master, 1000)
    os.write(master, b"late\n")
    _, status = os.waitpid(child, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 0
