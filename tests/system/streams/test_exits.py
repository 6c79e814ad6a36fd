"""How a command ended is what casemate's exit status says."""

from __future__ import annotations

import signal

import pytest
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")

DEADLY = sorted(
    set(signal.Signals)
    - {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
    - {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
)


def test_every_exit_status(perimeter: Perimeter) -> None:
    """All 256 exit statuses come out as they are."""
    with perimeter.session() as session:
        seen = [perimeter.status(session, "sh", "-c", f"exit {n}") for n in range(256)]

    assert seen == list(range(256))


@pytest.mark.parametrize("status", [0, 1, 2, 77, 124, 125, 126, 127, 128, 130, 200, 255])
def test_exit_status_of_the_program(perimeter: Perimeter, status: int) -> None:
    """casemate exits with the command's status."""
    assert perimeter.run("sh", "-c", f"exit {status}").returncode == status


def test_every_deadly_signal(perimeter: Perimeter) -> None:
    """A command ended by any signal gives 128 + its number."""
    with perimeter.session() as session:
        seen = {
            number: perimeter.status(
                session, "python3", "-c", f"import os, signal\n"
                f"if {number} not in (9, 19): signal.signal({number}, signal.SIG_DFL)\n"
                f"os.kill(os.getpid(), {number})"
            )
            for number in DEADLY
        }  # fmt: skip

    assert seen == {number: 128 + number for number in DEADLY}


@pytest.mark.parametrize("number", [1, 6, 9, 11, 13, 15])
def test_signal_status_of_the_program(perimeter: Perimeter, number: int) -> None:
    """casemate exits with 128 + the signal that ended the command."""
    result = perimeter.run("sh", "-c", f"kill -{number} $$")

    assert (result.returncode, result.stderr) == (128 + number, b"")


def test_a_command_that_is_not_there(perimeter: Perimeter) -> None:
    """127: no such program, by name, by path, and by a script whose interpreter is missing."""
    (perimeter.project / "lost").write_text("#!/no/such/interpreter\n")
    (perimeter.project / "lost").chmod(0o755)

    assert perimeter.run("no-such-program").returncode == 127
    assert perimeter.run("./no-such-program").returncode == 127
    assert perimeter.run("./lost").returncode == 127
    assert perimeter.run("").returncode == 127


def test_a_command_that_cannot_be_run(perimeter: Perimeter) -> None:
    """126: there, but a directory or without permission to execute."""
    assert perimeter.run("./README.md").returncode == 126
    assert perimeter.run("./src").returncode == 126
    assert perimeter.run("/usr").returncode == 126


def test_a_script_without_an_interpreter_line(perimeter: Perimeter) -> None:
    """A file the kernel does not know as a program is given to the shell, as execvp(3) does."""
    (perimeter.project / "plain").write_text('echo "$0 $# $1"\n')
    (perimeter.project / "plain").chmod(0o755)

    assert perimeter.output("./plain", "a b") == "./plain 1 a b\n"


def test_what_the_command_left_behind_ends(perimeter: Perimeter) -> None:
    """A background process does not keep casemate waiting and does not outlive it."""
    seen = perimeter.output("sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo started", timeout=30)

    assert seen == "started\n"


def test_the_shell_variants_of_success(perimeter: Perimeter) -> None:
    """Pipelines and exec inside keep the status of what they ran."""
    assert perimeter.run("bash", "-c", "set -o pipefail; false | true").returncode == 1
    assert perimeter.run("sh", "-c", "exec sh -c 'exit 9'").returncode == 9
