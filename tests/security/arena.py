"""Where attacks run: the same program once bare, as the user, and once inside the perimeter."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.support.command_line import COMMAND, casemate

from casemate.workspace.archive import read

ATTACKS = Path(__file__).parent / "attacks"
PYTHON = shutil.which("python3", path="/usr/bin:/bin:/usr/local/bin") or "python3"
"""A Python that every user may run, so that bare and inside it is the same program."""

TIMEOUT = 60.0
"""Seconds after which a run counts as hung."""

STARTED = "the-command-has-started\n"
PROOF = ("/bin/sh", "-c", 'echo the-command-has-started >&2; exec "$@"', "sh")
"""Starts a command and says so."""

SECRET = "s3cr3t-of-the-user"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attack ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What the attack reported; its complaints where it could not even report."""
        try:
            return json.loads(self.out)
        except ValueError as problem:
            text = f"no report, status {self.status}: {self.out!r} {self.err!r}"
            raise AssertionError(text) from problem


def attack(name: str, *arguments: str | Path) -> list[str]:
    """The command line of `attacks/NAME.py`, which carries its own text: nothing is mounted."""
    text = (ATTACKS / f"{name}.py").read_text()
    return [PYTHON, "-I", "-S", "-c", text, *map(str, arguments)]


def python(text: str, *arguments: str | Path) -> list[str]:
    """The command line of a short attack written in Python."""
    return [PYTHON, "-I", "-S", "-c", text, *map(str, arguments)]


def shell(text: str, *arguments: str | Path) -> list[str]:
    """The command line of an attack written for the shell."""
    return ["/bin/sh", "-c", text, "sh", *map(str, arguments)]


@contextlib.contextmanager
def bystander(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the host's that runs beside an attack, and no longer than the block."""
    with subprocess.Popen([*map(str, command)], **options) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def listening(path: Path) -> Iterator[list[bytes]]:
    """A server on a unix socket of the host; the list holds what it was told."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as server:
        # Through the directory's descriptor: a socket's address has room for 107 bytes.
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        server.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)
        server.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        heard.append(client.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield heard
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


class Arena:
    """A user's home with secrets, a project, and what lies beside it."""

    def __init__(self, base: Path, home: Path) -> None:
        self.base = base
        self.home = home
        self.project = base / "work" / "project"
        self.beside = base / "work" / "project-evil"
        self.outside = base / "outside"
        for directory in (self.project, self.beside, self.outside, home / ".ssh"):
            directory.mkdir(parents=True, exist_ok=True)
        (home / ".ssh/id_rsa").write_text(SECRET)
        (home / ".bash_history").write_text(SECRET)
        (self.beside / "secret").write_text(SECRET)
        (self.outside / "secret").write_text(SECRET)
        self.renew()

    def renew(self) -> Path:
        """The project as it was at first, so that the second run starts like the first."""
        for entry in self.project.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        (self.project / "src").mkdir()
        (self.project / "src/app.py").write_text("print('hello')\n")
        (self.project / "README.md").write_text("# A project\n")
        (self.project / ".env").write_text(f"TOKEN={SECRET}\n")
        return self.project

    def bare(
        self,
        command: Sequence[str | Path],
        *,
        timeout: float = TIMEOUT,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Outcome:
        """Run a command as the user would, in the project, without casemate."""
        settings: dict[str, Any] = {
            "cwd": self.project,
            "env": {**os.environ, "TMPDIR": str(self.base), **(environment or {})},
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        if "input" not in options:
            settings["stdin"] = subprocess.DEVNULL
        settings |= options
        run = subprocess.run([*map(str, command)], check=False, timeout=timeout, **settings)
        return _outcome(run)

    def inside(
        self,
        command: Sequence[str | Path],
        *options: str | Path,
        mode: str = "overlay",
        environment: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        **settings: Any,
    ) -> Outcome:
        """Run a command with `casemate run` in the project; `options` are casemate's.

        Fails the test where the command never started: what does not run leaks nothing either.
        """
        settings = {
            "cwd": self.project,
            "env": {**os.environ, **(environment or {})},
        } | settings
        arguments = ("run", "-q", "--workspace", mode, *options, "--", *PROOF, *command)
        run = casemate(*arguments, timeout=timeout, **settings)
        outcome = _outcome(run)
        if isinstance(run.stderr, bytes):
            assert STARTED in outcome.err, f"not started: {outcome.err}"
        return replace(outcome, err=outcome.err.replace(STARTED, ""))

    def refused(self, *options: str | Path, **settings: Any) -> str:
        """What casemate says when it refuses to start anything with these options."""
        arguments = ("run", "-q", *options, "--", "echo", STARTED)
        run = casemate(*arguments, **({"cwd": self.project} | settings))
        assert run.returncode == 125 and not run.stdout, run
        return run.stderr.decode()

    @contextlib.contextmanager
    def started(
        self,
        command: Sequence[str | Path],
        *options: str | Path,
        mode: str = "overlay",
        **settings: Any,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """`casemate run` under way, its streams as pipes; ended with the block."""
        settings = {"cwd": self.project} | settings
        process: subprocess.Popen[Any] = subprocess.Popen(
            [
                *COMMAND,
                "run",
                "-q",
                "--workspace",
                mode,
                *map(str, options),
                "--",
                *map(str, command),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **settings,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()

    @property
    def state(self) -> Path:
        """The state directory of the user whose home this is."""
        return Path(os.environ["XDG_STATE_HOME"]) / "casemate"

    def archives(self) -> list[Path]:
        """The change archives that hold something, the oldest first."""
        found = sorted(self.state.glob("sessions/*/changes"))
        return [path for path in found if path.stat().st_size]

    def archived(self) -> dict[str, bytes]:
        """Path and content of every file in the newest archive, which must be whole."""
        with read(os.open(self.archives()[-1], os.O_RDONLY)) as opened:
            return {
                os.fsdecode(record.path): opened.open_content(record).read(1 << 20)
                if record.type == 1
                else b""
                for record in opened.records
            }


def _outcome(run: subprocess.CompletedProcess[bytes]) -> Outcome:
    out, err = (stream or b"" for stream in (run.stdout, run.stderr))
    return Outcome(run.returncode, *(text.decode(errors="backslashreplace") for text in (out, err)))
