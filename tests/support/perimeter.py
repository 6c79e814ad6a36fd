"""Runs commands inside the perimeter of one project, and looks for what they left behind."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.command_line import COMMAND

from casemate.cli.prepare import prepare
from casemate.cli.run import begin, parse
from casemate.tiers.linux.open import environment
from casemate.tiers.linux.session import Session
from casemate.workspace import archive, store
from casemate.workspace.create import finish

SURROUNDINGS = str(Path(__file__).with_name("surroundings.py"))
SUBREAPER = str(Path(__file__).with_name("subreaper.py"))
OUTSIDE_BASE = 0x70000000
"""First of the identities that sandboxes started as root get on the host."""


class Perimeter:
    """`casemate run` on one project, its state below the test's own home directory."""

    def __init__(self, project: Path, home: Path) -> None:
        self.project = project
        self.home = home
        self.state = home / ".local/state/casemate"
        self.environment: list[bytes] = []

    def arguments(self, *command: str | bytes | Path, options: tuple[str, ...] = ()) -> list[Any]:
        """The arguments of `casemate` that run this command."""
        return ["run", "-q", "-C", str(self.project), *options, "--", *command]

    def run(
        self,
        *command: str | bytes | Path,
        options: tuple[str, ...] = (),
        lacking: tuple[str | Path, ...] = (),
        **settings: Any,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command inside; `options` are those of `casemate run`.

        `lacking` are words of tests/support/surroundings.py: what the machine is to be without.
        """
        streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        if "input" not in settings:
            streams["stdin"] = subprocess.DEVNULL
        line = [*surroundings(lacking), *self.line(*command, options=options)]
        return subprocess.run(line, check=False, **{"timeout": 60, **streams, **settings})

    def line(self, *command: str | bytes | Path, options: tuple[str, ...] = ()) -> list[Any]:
        """The whole command line that runs a command inside."""
        return [*COMMAND, *self.arguments(*command, options=options)]

    @staticmethod
    def outside(*command: Any, lacking: tuple[str | Path, ...]) -> str:
        """Standard output of a command outside, on a machine that lacks something."""
        line = [*surroundings(lacking), *command]
        return subprocess.run(line, check=True, timeout=60, stdout=-1, stdin=-3).stdout.decode()

    def output(
        self, *command: str | bytes | Path, options: tuple[str, ...] = (), **settings: Any
    ) -> str:
        """Standard output of a command that has to succeed."""
        result = self.run(*command, options=options, **settings)
        assert result.returncode == 0, (result.returncode, result.stdout, result.stderr)
        return result.stdout.decode(errors="surrogateescape")

    def script(self, text: str, **settings: Any) -> str:
        """Standard output of a shell script that has to succeed."""
        return self.output("sh", "-euc", text, **settings)

    def python(self, text: str, **settings: Any) -> str:
        """Standard output of a Python program that has to succeed."""
        return self.output("python3", "-c", text, **settings)

    def popen(
        self, *command: str | bytes | Path, options: tuple[str, ...] = (), **settings: Any
    ) -> subprocess.Popen[bytes]:
        """Start a command inside and do not wait for it."""
        line = self.line(*command, options=options)
        return subprocess.Popen(line, **{"stdin": subprocess.DEVNULL, **settings})

    @contextlib.contextmanager
    def session(self, *options: str) -> Iterator[Session]:
        """An open session to run many commands in; closed, and its record finished, at the end."""
        launch = prepare(parse(["-C", str(self.project), *options, "--", "true"]))
        record, session = begin(launch, ["true"])
        self.environment = environment(launch, os.environb, record.id)
        try:
            yield session
        finally:
            session.close()
            finish(record, exit_status=0)

    def start(self, session: Session, *command: str | bytes, **settings: Any) -> int:
        """Start a command in an open session, without input and output unless given."""
        settings.setdefault("stdio", (None, None, None))
        words = [os.fsencode(word) for word in command]
        return session.start(words, self.environment, os.fsencode(self.project), **settings)

    def status(self, session: Session, *command: str | bytes, **settings: Any) -> int:
        """Exit status of a command run in an open session."""
        return session.wait(self.start(session, *command, **settings)).status

    def sessions(self) -> tuple[store.Session, ...]:
        """What the state directory lists, newest first."""
        return store.Store(str(self.state)).sessions()

    def changes(self, session: store.Session | None = None) -> dict[str, archive.Record]:
        """The records of a session's archive by path; of the only session if none is named."""
        if session is None:
            (session,) = self.sessions()
        descriptor = os.open(session.archive_path, os.O_RDONLY)
        with archive.read(descriptor) as opened:
            return {os.fsdecode(record.path): record for record in opened.records}

    def content(self, name: str, session: store.Session | None = None) -> bytes:
        """A file as a session left it; the only session if none is named."""
        if session is None:
            (session,) = self.sessions()
        with archive.read(os.open(session.archive_path, os.O_RDONLY)) as opened:
            record = opened.get(0, os.fsencode(name))
            assert record, f"{name} was not changed"
            return opened.open_content(record).read(record.size)


class Watched:
    """A casemate whose every descendant is accounted for.

    It runs below a process that adopts orphans, so `gone` cannot be true while any lives.
    """

    def __init__(
        self,
        arguments: list[Any],
        *,
        output: Path | None = None,
        lacking: tuple[str | Path, ...] = (),
        **settings: Any,
    ) -> None:
        # The command's output must not mix with what the subreaper reports.
        target = str(output or os.devnull)
        self._process = subprocess.Popen(
            [sys.executable, "-I", SUBREAPER, target, *surroundings(lacking), *COMMAND, *arguments],
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            **settings,
        )
        self.pid = int(self._line().removeprefix("started "))

    def _line(self) -> str:
        assert self._process.stdout
        line: bytes = self._process.stdout.readline()
        return line.decode().strip()

    def signal(self, number: int) -> None:
        """Send casemate itself a signal."""
        os.kill(self.pid, number)

    def status(self) -> int:
        """Wait for casemate; its exit status, or minus the signal that ended it."""
        return int(self._line().removeprefix("ended "))

    def gone(self, timeout: float = 30) -> bool:
        """Wait for every descendant to end; False if one is still there after `timeout` seconds."""
        try:
            output, _ = self._process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return False
        return output.endswith(b"nobody is left\n") and self._process.returncode == 0

    def end(self) -> None:
        """Whatever the test found, leave nothing running."""
        for pid in reversed(descendants(self._process.pid)):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        self._process.kill()
        self._process.communicate()


def surroundings(lacking: tuple[str | Path, ...]) -> list[str]:
    """What to put before a command so that it runs on a machine that lacks something."""
    return [sys.executable, "-I", SURROUNDINGS, *map(str, lacking), "--"] if lacking else []


def descendants(root: int) -> list[int]:
    """The processes that came from `root` and still live, parents first. proc(5)"""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text(errors="replace")
        except OSError:
            continue
        children.setdefault(int(text.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def control_groups(sessions: set[str]) -> list[str]:
    """The control groups of these sessions that still exist."""
    found = []
    for directory, names, _ in os.walk("/sys/fs/cgroup"):
        found += [
            os.path.join(directory, name)
            for name in names
            if name.startswith("casemate-") and name.removeprefix("casemate-") in sessions
        ]
    return found


def mounts_below(path: Path) -> list[str]:
    """What is mounted at or below a path, as this process sees it."""
    places = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [place for place in places if place.startswith(str(path))]
