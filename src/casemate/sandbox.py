"""The SDK: a sandbox as an object.

    with Sandbox(project) as sandbox:
        result = sandbox.run(["make", "test"])

docs/sdk.md has the whole of it, with examples that run.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from casemate.errors import CasemateError
from casemate.policy.model import Policy
from casemate.sdk import files
from casemate.sdk.base import SandboxBase
from casemate.sdk.changes import Change
from casemate.sdk.dispatcher import check_snapshot
from casemate.sdk.files import Call, FileInfo, Path, T
from casemate.sdk.opening import Settings
from casemate.sdk.process import Process, Stream, Terminal
from casemate.sdk.request import Word
from casemate.sdk.result import Result, Usage
from casemate.sdk.streams import OUTPUT_MAX

__all__ = [
    "Change",
    "Commands",
    "FileInfo",
    "Files",
    "Process",
    "Result",
    "Sandbox",
    "Stream",
    "Terminal",
    "Terminals",
    "Usage",
]


class Sandbox(SandboxBase):
    """A perimeter around a project, open until it is closed.

    `project` is the directory that commands may edit; edits stay in a copy-on-write layer unless
    `workspace` says otherwise. `policy` is the path of a policy file, its text, or a `Policy`.
    `settings` are single lines of policy, as in "limits.memory=2GiB"; `waive` names guarantees
    that may be lacking. Safe to use from several threads. A sandbox that is not closed ends with
    the process, its changes kept for `casemate diff`.

    Raises `PolicyError`, `UsageError`, `UnsupportedError`, `SandboxError` or `WorkspaceError`.
    """

    def __init__(
        self,
        project: Path = ".",
        *,
        policy: Path | Policy | None = None,
        workspace: Literal["overlay", "direct", "readonly"] | None = None,
        roots: Iterable[Path] = (),
        waive: Iterable[str] = (),
        settings: Iterable[str] = (),
        tier: Literal["auto", "process", "vm"] | None = None,
    ) -> None:
        super().__init__(Settings.of(project, policy, workspace, roots, waive, settings, tier))
        self._open()
        self.commands = Commands(self)
        self.files = Files(self)
        self.pty = Terminals(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.close()
        except CasemateError:
            # What went wrong in the block says more than that its end did, too.
            if problem is None:
                raise

    def __del__(self) -> None:
        if self._opened is not None and not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._close()

    def run(
        self,
        command: str | Sequence[Word],
        *,
        input: bytes | str = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
        limits: Mapping[str, int] | None = None,
        output_max: int = OUTPUT_MAX,
        encoding: str = "utf-8",
        check: bool = False,
    ) -> Result:
        """Runs a command to its end.

        A list is executed as it is, a string by the shell. `env` adds to the environment that the
        policy gives; `cwd` is a path inside, relative to the project. `timeout` is in seconds and
        ends the command with everything it started; `limits` holds, by name, those of
        `casemate.sdk.request.RESOURCES`. Of each stream `output_max` bytes are kept and what
        follows is dropped, marked by `truncated`. What processes left in the background write
        after the command has ended is not waited for.

        Raises `SandboxError` if the sandbox is gone, `UsageError` for arguments that make no
        sense; with `check`, `SandboxError` also where the command fails.
        """
        text = input.encode(encoding) if isinstance(input, str) else input
        request = self._request(command, env, cwd, timeout, limits)
        running = self._dispatcher.start(request, encoding=encoding, cap=output_max, stdin=text)
        process = Process(self._dispatcher, running)
        try:
            result = process.wait()
        except BaseException:
            # As after Ctrl-C: nobody will wait for it any more.
            if not self._closed and running.ended is None:
                process.kill()
            raise
        return result.check() if check else result

    def popen(
        self,
        command: str | Sequence[Word],
        *,
        stdin: bool = False,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
        limits: Mapping[str, int] | None = None,
        output_max: int = OUTPUT_MAX,
        encoding: str = "utf-8",
    ) -> Process:
        """Starts a command and returns while it runs; arguments as for `run`.

        With `stdin` it reads what `Process.write` gives it, else nothing.
        """
        request = self._request(command, env, cwd, timeout, limits)
        running = self._dispatcher.start(
            request, encoding=encoding, cap=output_max, stdin=None if stdin else b""
        )
        return Process(self._dispatcher, running)

    def changes(self) -> tuple[Change, ...]:
        """How the project as the sandbox sees it differs from the project on the host.

        Works while the sandbox is open and after it was closed. Raises `WorkspaceError`.
        """
        return self._changes_of(self._snapshot())

    def diff(self) -> str:
        """The changes as a unified diff, every name and line fit for a terminal."""
        return self._diff_of(self._snapshot())

    def _snapshot(self) -> int | None:
        if self._closed:
            return None
        descriptor, running = self._begin_snapshot()
        try:
            self._dispatcher.until(running, lambda: running.ended is not None)
            check_snapshot(running)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def apply(
        self, paths: Iterable[Path] | None = None, *, force: bool = False
    ) -> tuple[Change, ...]:
        """Closes the sandbox and writes its changes to the project, all of them or none.

        `paths`, relative to the project, choose some; a directory stands for all it holds. Changes
        that `casemate apply` asks about by name (hidden and protected files, links that lead out)
        are applied only if named. Returns what was applied; the rest stays with the session.
        Raises `ConflictError` if something changed on the host meanwhile, unless `force` prefers
        the sandbox's version; `WorkspaceError` where the system refuses.
        """
        return self._apply(paths, force)

    def discard(self) -> None:
        """Closes the sandbox and drops its changes."""
        self._discard()

    def close(self) -> None:
        """Ends every command, and keeps the changes for `apply` and `casemate diff`.

        Closing again does nothing. Raises `SandboxError` with the code "not-saved" when the
        changes cannot be written to disk.
        """
        self._close()


class Commands:
    """Commands of a sandbox: `sandbox.commands`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self.run = sandbox.run
        self.start = sandbox.popen

    def list(self) -> list[Process]:
        """The commands that run now."""
        dispatcher = self._sandbox._dispatcher
        return [Process(dispatcher, running) for running in dispatcher.running()]

    def send_signal(self, id: int, number: int) -> bool:
        """Signals a command by its `id`; False if none runs with it."""
        for process in self.list():
            if process.id == id:
                process.send_signal(number)
                return True
        return False

    def kill(self, id: int) -> bool:
        """Ends a command, and all that came of it, by its `id`; False if none runs with it."""
        return self.send_signal(id, 9)


class Files:
    """Files as the sandbox sees them: `sandbox.files`.

    A process inside reads and writes them, so every rule of the sandbox holds here too. Paths are
    inside, relative to the project. Every verb raises `SandboxError`, whose `code` says why:
    "not-found", "permission-denied", "is-a-directory", "not-a-directory", "exists", "no-space",
    "too-large", "timeout".
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def read(self, path: Path, *, size_max: int = OUTPUT_MAX) -> bytes:
        """The content of a file, of `size_max` bytes at the most."""
        return self._call(files.read(self._at(path)), size_max)

    def read_text(self, path: Path, *, encoding: str = "utf-8") -> str:
        """The content of a file as text; what is no text in the encoding shows as `\\xNN`."""
        return self.read(path).decode(encoding, "backslashreplace")

    def write(self, path: Path, data: bytes | str) -> None:
        """Writes a file, replacing what was there; directories that lack are made."""
        content = data.encode() if isinstance(data, str) else data
        self._call(files.write(self._at(path), content))

    def exists(self, path: Path) -> bool:
        """Whether there is anything at the path."""
        return self._call(files.exists(self._at(path)))

    def info(self, path: Path) -> FileInfo:
        """What is at the path; a link is not followed."""
        return self._call(files.info(self._at(path)))

    def list(self, path: Path = ".", *, depth: int = 1) -> list[FileInfo]:
        """What a directory holds, by path; with a depth above 1, what those in it hold, too."""
        return self._call(files.entries(self._at(path), depth))

    def make_dir(self, path: Path) -> bool:
        """Makes a directory and those above it; False if it was there."""
        return self._call(files.make_dir(self._at(path)))

    def remove(self, path: Path) -> None:
        """Removes a file, or a directory with all it holds."""
        self._call(files.remove(self._at(path)))

    def rename(self, old: Path, new: Path) -> None:
        """Moves a file or directory to a new path."""
        self._call(files.rename(self._at(old), self._at(new)))

    def _at(self, path: Path) -> str:
        return self._sandbox._path(path)

    def _call(self, call: Call[T], size_max: int = OUTPUT_MAX) -> T:
        return call.answer(
            self._sandbox.run(
                call.argv,
                input=call.input,
                env=files.ENVIRONMENT,
                cwd="/",
                timeout=files.TIMEOUT,
                output_max=size_max,
            )
        )


class Terminals:
    """Commands on terminals: `sandbox.pty`."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def create(
        self,
        command: str | Sequence[Word] = ("/bin/sh",),
        *,
        rows: int = 24,
        columns: int = 80,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
        encoding: str = "utf-8",
    ) -> Terminal:
        """Starts a command (default: a shell) on a terminal of its own."""
        sandbox = self._sandbox
        variables = {"TERM": "xterm-256color", **(env or {})}
        request = sandbox._request(command, variables, cwd, timeout, None)
        running = sandbox._dispatcher.start(
            request, encoding=encoding, cap=OUTPUT_MAX, terminal=(rows, columns)
        )
        sandbox._dispatcher.until(running, lambda: bool(running.outputs) or bool(running.ended))
        return Terminal(sandbox._dispatcher, running)
