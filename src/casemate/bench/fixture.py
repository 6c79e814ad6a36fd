"""What is measured on: a made-up project, the same every time, and sessions around it."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from casemate.cli.prepare import prepare
from casemate.cli.run import Options, begin
from casemate.errors import SandboxError
from casemate.supervisor.protocol import EXIT_STATUS
from casemate.tiers.linux.open import environment
from casemate.tiers.linux.session import Session
from casemate.workspace.create import NewSession, finish

WORDS = [
    "queue",
    "stack",
    "table",
    "index",
    "graph",
    "token",
    "frame",
    "block",
    "chunk",
    "layer",
    "match",
    "parse",
    "needle",
]


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured. `--quick` is for looking whether everything works."""

    rounds: int
    file_rounds: int
    modules: int
    files: int
    sandboxes: int
    large_files: int
    large_changes: int


FULL = Size(60, 12, 200, 3000, 100, 100_000, 1000)
QUICK = Size(5, 2, 20, 200, 5, 2000, 50)


@contextmanager
def bench_directory() -> Iterator[str]:
    """A temporary directory with a home of its own; casemate's environment is clean within."""
    directory = os.path.realpath(tempfile.mkdtemp(prefix="casemate-bench-"))
    before = dict(os.environ)
    kept = {name: before[name] for name in ("PATH", "LANG", "LC_ALL") if name in before}
    home = os.path.join(directory, "home")
    os.mkdir(home, 0o700)
    try:
        os.environ.clear()
        os.environ.update(kept | {"HOME": home})
        yield directory
    finally:
        os.environ.clear()
        os.environ.update(before)
        shutil.rmtree(directory, ignore_errors=True)


def make_small_project(directory: str) -> None:
    """A project of a few files: what is left of a start is what the perimeter itself takes."""
    os.makedirs(directory)
    for number in range(10):
        with open(os.path.join(directory, f"m{number}.py"), "w") as file:
            file.write(f"VALUE = {number}\n")


def make_project(directory: str, size: Size) -> None:
    """Text files, a Python package with its bytecode, an archive, and a git repository."""
    source = random.Random(1)
    for number in range(size.files):
        folder = os.path.join(directory, "text", f"{number % 60:02}")
        os.makedirs(folder, exist_ok=True)
        lines = (" ".join(source.choices(WORDS, k=9)) for _ in range(source.randint(5, 80)))
        with open(os.path.join(folder, f"{number:05}.txt"), "w") as file:
            file.write("\n".join(lines) + "\n")
    package = os.path.join(directory, "package")
    os.mkdir(package)
    for number in range(size.modules):
        with open(os.path.join(package, f"m{number}.py"), "w") as file:
            file.writelines(
                f"def f{function}(a, b):\n    return a * {number} + b\n\n\n"
                for function in range(20)
            )
    with open(os.path.join(package, "__init__.py"), "w") as file:
        file.writelines(f"from . import m{number}\n" for number in range(size.modules))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    compiling = [sys.executable, "-I", "-m", "compileall", "-q", package]
    subprocess.run(compiling, check=True, **quiet)  # type: ignore[call-overload]
    archive = ["tar", "-C", directory, "-cf", f"{directory}/archive.tar", "text"]
    if shutil.which("tar"):
        subprocess.run(archive, check=True, **quiet)  # type: ignore[call-overload]
    if shutil.which("git"):
        identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.invalid"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "bench"]):
            git = ["git", "-C", directory, *identity, *command]
            subprocess.run(git, check=True, **quiet)  # type: ignore[call-overload]


class Sandbox:
    """An open session, and how to run something in it. `opened` is the seconds it took."""

    def __init__(self, launch: dict[str, Any], record: NewSession, session: Session) -> None:
        self.launch = launch
        self.record = record
        self.session = session
        self.variables = environment(launch, os.environb, record.id)
        self.opened = 0.0

    def run(
        self,
        arguments: Sequence[str],
        *,
        output: int | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> float:
        """Seconds from the request to the report of the end. Raises `SandboxError` if it fails."""
        command = [os.fsencode(argument) for argument in arguments]
        added = [os.fsencode(f"{key}={value}") for key, value in (variables or {}).items()]
        directory = os.fsencode(self.launch["directory"])
        began = time.perf_counter()
        identifier = self.session.start(
            command, [*self.variables, *added], directory, stdio=(None, output, 2)
        )
        ended = self.session.wait(identifier)
        seconds = time.perf_counter() - began
        if ended.kind != EXIT_STATUS or ended.status:
            raise SandboxError(f"{' '.join(arguments)[:200]} failed inside: {ended.status}")
        return seconds

    def text(self, arguments: Sequence[str]) -> str:
        """What a command wrote to standard output, up to 64 KiB of it."""
        output = os.memfd_create("output")
        try:
            self.run(arguments, output=output)
            return os.pread(output, 1 << 16, 0).decode("utf-8", "replace")
        finally:
            os.close(output)

    def close(self, *, discard: bool = True) -> float:
        """Seconds until everything inside had ended and the changes were saved or dropped."""
        began = time.perf_counter()
        self.session.close(discard=discard)
        finish(self.record, exit_status=0)
        return time.perf_counter() - began


def launch_for(directory: str, settings: Sequence[str] = (), tier: str = "") -> dict[str, Any]:
    """The launch for a project; made once, as a caller would find it in the cache."""
    options = Options()
    options.values = {"directory": directory, "set": tuple(settings)}
    if tier:
        options.values["tier"] = tier
    return prepare(options)


def open_sandbox(launch: dict[str, Any]) -> Sandbox:
    """Opens a session, its record included."""
    began = time.perf_counter()
    record, session = begin(launch, ["casemate", "bench"])
    seconds = time.perf_counter() - began
    sandbox = Sandbox(launch, record, session)
    sandbox.opened = seconds
    return sandbox
