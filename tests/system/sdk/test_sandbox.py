"""The SDK against real sandboxes: commands, streams, limits, ends."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import casemate
from casemate import Sandbox
from casemate.errors import CasemateError, PolicyError, SandboxError, UsageError
from casemate.policy.model import Limits, Policy
from casemate.sdk.streams import AHEAD

INSTALLED = Path(casemate.__file__).parent.parent
"""Where the package under test is: a checkout, or what a wheel put there."""

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


@pytest.fixture
def sandbox(project: Path) -> Iterator[Sandbox]:
    """An open sandbox around the project."""
    with Sandbox(project) as opened:
        yield opened


def test_output_status_and_usage_come_back(sandbox: Sandbox) -> None:
    """A command's output, status and use of the machine are those it had."""
    result = sandbox.run("printf out; printf err >&2; exit 7")

    assert (result.exit_code, result.stdout, result.stderr) == (7, "out", "err")
    assert result.signal is None
    assert result.usage.wall > 0
    assert result.usage.peak_memory > 100_000


def test_bytes_that_are_no_text_survive(sandbox: Sandbox) -> None:
    """Output that is not UTF-8 is there as bytes, and escaped as text."""
    result = sandbox.run(r"printf '\377\000a'")

    assert result.stdout_bytes == b"\xff\0a"
    assert result.stdout == "\\xff\0a"


def test_a_signal_is_told(sandbox: Sandbox) -> None:
    """A command ended by a signal has its number, and 128 + it as status."""
    result = sandbox.run("kill -TERM $$")

    assert (result.signal, result.exit_code) == (signal.SIGTERM, 128 + signal.SIGTERM)


def test_input_larger_than_a_pipe_goes_through(sandbox: Sandbox) -> None:
    """Input and output of megabytes at the same time neither block nor lose a byte."""
    data = os.urandom(3_000_000)

    assert sandbox.run(["cat"], input=data).stdout_bytes == data


def test_a_reader_that_leaves_is_no_error(sandbox: Sandbox) -> None:
    """A command that does not read its input ends as it would anywhere."""
    result = sandbox.run(["true"], input=b"x" * 1_000_000)

    assert result.exit_code == 0


def test_standard_input_is_empty_by_default(sandbox: Sandbox) -> None:
    """Nobody's terminal or pipe is handed in unasked."""
    assert sandbox.run(["cat"]).stdout_bytes == b""


def test_the_streams_can_be_opened_by_name(sandbox: Sandbox) -> None:
    """/dev/stdout and /dev/stderr work, whoever started the sandbox."""
    result = sandbox.run("echo out >/dev/stdout; echo err >/dev/stderr; cat /dev/stdin", input="in")

    assert (result.stdout, result.stderr) == ("out\nin", "err\n")


def test_output_has_a_ceiling(sandbox: Sandbox) -> None:
    """Output beyond the cap is dropped, the command goes on, and the result says so."""
    result = sandbox.run("head -c 20000000 /dev/zero; echo end >&2", output_max=1000)

    assert (len(result.stdout_bytes), result.truncated) == (1000, True)
    assert (result.exit_code, result.stderr) == (0, "end\n")


def test_a_timeout_ends_the_whole_tree(sandbox: Sandbox) -> None:
    """When time is up nothing of the command is left, also what made itself a session of its own."""
    result = sandbox.run("setsid sleep 300 & sleep 300", timeout=0.2)

    assert (result.timed_out, result.limit) == (True, "time")
    assert (
        sandbox.run("ps -e -o comm= 2>/dev/null || cat /proc/[0-9]*/comm").stdout.count("sleep")
        == 0
    )


def test_a_background_process_does_not_keep_the_caller(sandbox: Sandbox) -> None:
    """A result is there when the command has ended, though a child holds its output open."""
    result = sandbox.run("sleep 300 & echo started")

    assert result.stdout == "started\n"
    assert result.usage.wall < 100


def test_limits_of_one_command_hold_for_it_alone(sandbox: Sandbox) -> None:
    """A limit given with a command is in force in it and not in the next."""
    assert sandbox.run("ulimit -n", limits={"open_files": 20}).stdout == "20\n"
    assert sandbox.run("ulimit -n").stdout != "20\n"


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": []},
        {"command": ["a\0b"]},
        {"command": "true", "timeout": 0},
        {"command": "true", "timeout": -1},
        {"command": "true", "limits": {"open_file": 3}},
        {"command": "true", "limits": {"open_files": -3}},
        {"command": "true", "env": {"A=B": "c"}},
        {"command": "true", "env": {"A": "\0"}},
    ],
)
def test_nonsense_is_refused_before_anything_runs(
    sandbox: Sandbox, arguments: dict[str, object]
) -> None:
    """Arguments that make no sense are a `UsageError`, and the sandbox lives on."""
    with pytest.raises(UsageError):
        sandbox.run(**arguments)  # type: ignore[arg-type]

    assert sandbox.run(["true"]).exit_code == 0


def test_environment_and_directory_are_the_commands_own(sandbox: Sandbox, project: Path) -> None:
    """`env` adds to the environment and `cwd` is relative to the project; nothing leaks in."""
    os.environ["CANARY_SECRET"] = "seen"
    try:
        result = sandbox.run("echo $NAME; pwd; env", env={"NAME": "value"}, cwd="src")
    finally:
        del os.environ["CANARY_SECRET"]

    lines = result.stdout.splitlines()
    assert lines[:2] == ["value", str(project / "src")]
    assert not [line for line in lines if "CANARY" in line]


def test_a_slow_reader_slows_the_command(sandbox: Sandbox) -> None:
    """What a process writes is read ahead by a bounded amount only."""
    process = sandbox.popen(["yes"])
    process.stdout.receive()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not process._running.outputs[0].paused:
        process.running  # noqa: B018  # lets the sandbox be read without taking anything
        sandbox.run(["true"])

    held = process._running.outputs[0]._kept
    process.kill()
    assert AHEAD <= held <= AHEAD + (1 << 17)
    assert process.wait().signal == signal.SIGKILL


def test_waiting_collects_what_was_not_read(sandbox: Sandbox) -> None:
    """`wait` after part of a stream was read gives the rest of it, with nothing lost between."""
    process = sandbox.popen("seq 1 400000")
    first = process.stdout.receive()
    result = process.wait()

    expected = "".join(f"{number}\n" for number in range(1, 400_001)).encode()
    assert first + result.stdout_bytes == expected
    assert process.wait() is result


def test_both_streams_come_in_order_of_arrival(sandbox: Sandbox) -> None:
    """`stream` gives what comes first, first, and ends with the command."""
    script = "echo a; sleep 0.05; echo b >&2; sleep 0.05; echo c"
    process = sandbox.popen(script)

    assert list(process.stream()) == [("stdout", b"a\n"), ("stderr", b"b\n"), ("stdout", b"c\n")]
    assert process.wait().exit_code == 0
    assert not process.running


def test_a_wait_that_takes_too_long_leaves_the_command(sandbox: Sandbox) -> None:
    """Waiting with a timeout raises, and the command goes on until it is told to end."""
    process = sandbox.popen(["sleep", "300"])
    with pytest.raises(SandboxError) as caught:
        process.wait(timeout=0.05)

    assert caught.value.code == "timeout"
    assert process.running
    assert sandbox.commands.kill(process.id)
    assert process.wait().signal == signal.SIGKILL
    assert not sandbox.commands.kill(process.id)


def test_many_threads_share_a_sandbox(sandbox: Sandbox) -> None:
    """Commands of many threads run at once, and each gets its own result."""
    found: list[tuple[int, str]] = []

    def work(number: int) -> None:
        for turn in range(5):
            found.append((number, sandbox.run(f"echo {number}-{turn}").stdout))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(found) == 100
    assert all(text.startswith(f"{number}-") for number, text in found)


def test_closing_while_others_wait_wakes_them(project: Path) -> None:
    """Closing ends the commands of other threads, which are told that the sandbox is closed."""
    sandbox = Sandbox(project)
    caught: list[CasemateError] = []

    def work() -> None:
        try:
            sandbox.run(["sleep", "300"])
        except CasemateError as problem:
            caught.append(problem)

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    while len(sandbox.commands.list()) < 5:
        pass
    sandbox.close()
    for thread in threads:
        thread.join(20)

    assert [problem.code for problem in caught] == ["closed"] * 5
    sandbox.close()
    with pytest.raises(SandboxError):
        sandbox.run(["true"])


def test_no_descriptor_is_left_behind(project: Path) -> None:
    """Opening, using and closing a sandbox leaves as many open files as before."""
    with Sandbox(project) as sandbox:
        sandbox.run(["true"])
    before = set(os.listdir("/proc/self/fd"))
    with Sandbox(project) as sandbox:
        sandbox.run("echo a; echo b >&2", input="x")
        sandbox.popen(["sleep", "300"])
        sandbox.popen(["cat"], stdin=True)
        sandbox.pty.create(["sleep", "300"])
        sandbox.changes()

    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_an_exception_in_the_block_closes(project: Path) -> None:
    """Leaving the block by an exception closes the sandbox and lets the exception through."""
    with pytest.raises(ZeroDivisionError), Sandbox(project) as sandbox:
        raise ZeroDivisionError

    assert sandbox.closed


def test_a_forgotten_sandbox_is_closed_and_told_of(project: Path) -> None:
    """A sandbox that is dropped open ends, with a `ResourceWarning`."""
    sandbox = Sandbox(project)
    session = sandbox._opened.session._pid  # type: ignore[union-attr]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        del sandbox
        gc.collect()

    assert any(issubclass(warning.category, ResourceWarning) for warning in said)
    assert not os.path.exists(f"/proc/{session}")


def test_a_killed_program_leaves_its_changes_and_nothing_else(project: Path) -> None:
    """After SIGKILL of the program the sandbox is gone and its changes wait in a session."""
    script = (
        f"import sys; sys.path.insert(0, {str(INSTALLED)!r})\n"
        "import time\n"
        "from casemate import Sandbox\n"
        f"sandbox = Sandbox({str(project)!r})\n"
        "sandbox.run('echo kept > kept')\n"
        "sandbox.popen(['sleep', '300'])\n"
        "print(sandbox._opened.session._pid, sandbox.id, flush=True)\n"
        "time.sleep(300)\n"
    )
    program = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert program.stdout is not None
    keeper, identifier = program.stdout.readline().split()
    program.kill()
    program.wait()
    program.stdout.close()

    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{keeper}") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(f"/proc/{keeper}")
    listed = subprocess.run(
        [sys.executable, "-m", "casemate", "diff", identifier],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(INSTALLED)},
        check=True,
    )
    assert "+kept" in listed.stdout


def test_a_policy_may_be_text_a_file_or_a_value(project: Path, tmp_path: Path) -> None:
    """The three ways to give a policy come to the same."""
    text = 'version = 1\n[limits]\nopen_files = 123\n[workspace]\nhide = ["README.md"]\n'
    file = tmp_path / "policy.toml"
    file.write_text(text)
    for policy in (text, file, Policy(limits=Limits(open_files=123))):
        with Sandbox(project, policy=policy) as sandbox:
            assert sandbox.run("ulimit -n").stdout == "123\n"

    with Sandbox(project, policy=text) as sandbox:
        assert not sandbox.run("test -e .env && cat .env").stdout
        assert sandbox.run("cat README.md").exit_code != 0


def test_the_project_is_exactly_the_one_named(repository: Path) -> None:
    """A directory inside a repository is a project of its own: what is beside it is not shown."""
    with Sandbox(repository / "src") as sandbox:
        assert sandbox.run("pwd; ls").stdout == f"{repository}/src\napp.py\n"
        assert sandbox.run(["ls", ".."]).stdout.split() == ["src"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"project": "/no/such/place"}, UsageError),
        ({"policy": "/no/such/policy.toml"}, PolicyError),
        ({"policy": "version = 1\nnonsense = 2\n"}, PolicyError),
        ({"settings": ["limits.memory"]}, UsageError),
        ({"settings": "limits.memory=1GiB"}, UsageError),
        ({"waive": ["nothing"]}, PolicyError),
    ],
)
def test_bad_arguments_name_what_is_wrong(
    project: Path, arguments: dict[str, object], error: type[CasemateError]
) -> None:
    """A sandbox that cannot be opened raises an error of the family, and nothing is started."""
    with pytest.raises(error):
        Sandbox(**{"project": project, **arguments})  # type: ignore[arg-type]


def test_a_dead_supervisor_is_an_error_and_loses_nothing(project: Path) -> None:
    """When the sandbox dies under a running command, waiting and starting raise, changes stay."""
    with Sandbox(project) as sandbox:
        sandbox.run("echo kept > kept")
        process = sandbox.popen(["sleep", "300"])
        keeper = sandbox._opened.session._pid  # type: ignore[union-attr]
        first = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0]
        os.kill(int(first), signal.SIGKILL)

        with pytest.raises(SandboxError):
            process.wait(timeout=20)
        with pytest.raises(SandboxError):
            sandbox.run(["true"])
    assert [change.path for change in sandbox.changes()] == ["kept"]


def test_the_sessions_own_time_limit_is_told(project: Path) -> None:
    """When the time of the whole session is up its commands end, and the notice says why."""
    with Sandbox(project, settings=["limits.time=300ms"]) as sandbox:
        result = sandbox.run(["sleep", "300"])

        assert result.timed_out
        assert any("time" in notice for notice in sandbox.notices)


def test_interrupting_a_run_ends_its_command(project: Path) -> None:
    """Ctrl-C while `run` waits raises KeyboardInterrupt and leaves no command behind."""
    with Sandbox(project) as sandbox:
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.3, signal.pthread_kill, [main, signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            sandbox.run(["sleep", "300"])
        timer.join()

        deadline = time.monotonic() + 20
        while sandbox.commands.list() and time.monotonic() < deadline:
            pass
        assert sandbox.commands.list() == []
        assert sandbox.run(["true"]).exit_code == 0
