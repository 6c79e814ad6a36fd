"""The SDK for event loops: `casemate.sandbox` with `await`.

    async with AsyncSandbox(project) as sandbox:
        result = await sandbox.run(["make", "test"])

One reader in the loop takes in what commands write and how they end; there are no threads but for
opening and closing.
"""

from __future__ import annotations

import asyncio
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
from casemate.sdk.process_async import AsyncProcess, AsyncStream, AsyncTerminal, until
from casemate.sdk.request import Word
from casemate.sdk.result import Result
from casemate.sdk.streams import OUTPUT_MAX

__all__ = [
    "AsyncCommands",
    "AsyncFiles",
    "AsyncProcess",
    "AsyncSandbox",
    "AsyncStream",
    "AsyncTerminal",
    "AsyncTerminals",
]


class AsyncSandbox(SandboxBase):
    """`Sandbox` for an event loop: the same arguments, verbs and errors.

    Opened by `async with` or `open`; to be used from the loop that opened it.
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
        self.commands = AsyncCommands(self)
        self.files = AsyncFiles(self)
        self.pty = AsyncTerminals(self)

    async def open(self) -> Self:
        """Starts the sandbox. Raises as `Sandbox` does."""
        await asyncio.to_thread(self._open)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._dispatcher.fileno(), self._dispatcher.step)
        return self

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close()
        except CasemateError:
            # What went wrong in the block says more than that its end did, too.
            if problem is None:
                raise

    def __del__(self) -> None:
        if self._opened is not None and not self._closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._close()

    async def run(
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
        """Runs a command to its end; see `Sandbox.run`. Cancelling ends the command."""
        text = input.encode(encoding) if isinstance(input, str) else input
        request = self._request(command, env, cwd, timeout, limits)
        running = self._dispatcher.start(request, encoding=encoding, cap=output_max, stdin=text)
        process = AsyncProcess(self._dispatcher, running)
        try:
            result = await process.wait()
        except BaseException:
            if not self._closed and running.ended is None:
                process.kill()
            raise
        return result.check() if check else result

    async def popen(
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
    ) -> AsyncProcess:
        """Starts a command and returns while it runs; see `Sandbox.popen`."""
        request = self._request(command, env, cwd, timeout, limits)
        running = self._dispatcher.start(
            request, encoding=encoding, cap=output_max, stdin=None if stdin else b""
        )
        return AsyncProcess(self._dispatcher, running)

    async def changes(self) -> tuple[Change, ...]:
        """How the project as the sandbox sees it differs from the project on the host."""
        return await asyncio.to_thread(self._changes_of, await self._snapshot())

    async def diff(self) -> str:
        """The changes as a unified diff, every name and line fit for a terminal."""
        return await asyncio.to_thread(self._diff_of, await self._snapshot())

    async def _snapshot(self) -> int | None:
        if self._closed:
            return None
        descriptor, running = self._begin_snapshot()
        try:
            await until(self._dispatcher, running, lambda: running.ended is not None)
            check_snapshot(running)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    async def apply(
        self, paths: Iterable[Path] | None = None, *, force: bool = False
    ) -> tuple[Change, ...]:
        """Closes the sandbox and writes its changes to the project; see `Sandbox.apply`."""
        self._leave_loop()
        return await asyncio.to_thread(self._apply, paths, force)

    async def discard(self) -> None:
        """Closes the sandbox and drops its changes."""
        self._leave_loop()
        await asyncio.to_thread(self._discard)

    async def close(self) -> None:
        """Ends every command, and keeps the changes; see `Sandbox.close`."""
        self._leave_loop()
        await asyncio.to_thread(self._close)

    def _leave_loop(self) -> None:
        if self._opened is not None and not self._closed:
            self._loop.remove_reader(self._dispatcher.fileno())


class AsyncCommands:
    """Commands of a sandbox: `sandbox.commands`."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox
        self.run = sandbox.run
        self.start = sandbox.popen

    async def list(self) -> list[AsyncProcess]:
        """The commands that run now."""
        dispatcher = self._sandbox._dispatcher
        return [AsyncProcess(dispatcher, running) for running in dispatcher.running()]

    async def send_signal(self, id: int, number: int) -> bool:
        """Signals a command by its `id`; False if none runs with it."""
        for process in await self.list():
            if process.id == id:
                process.send_signal(number)
                return True
        return False

    async def kill(self, id: int) -> bool:
        """Ends a command, and all that came of it, by its `id`; False if none runs with it."""
        return await self.send_signal(id, 9)


class AsyncFiles:
    """Files as the sandbox sees them: `sandbox.files`. See `casemate.sandbox.Files`."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    async def read(self, path: Path, *, size_max: int = OUTPUT_MAX) -> bytes:
        """The content of a file, of `size_max` bytes at the most."""
        return await self._call(files.read(self._at(path)), size_max)

    async def read_text(self, path: Path, *, encoding: str = "utf-8") -> str:
        """The content of a file as text; what is no text in the encoding shows as `\\xNN`."""
        return (await self.read(path)).decode(encoding, "backslashreplace")

    async def write(self, path: Path, data: bytes | str) -> None:
        """Writes a file, replacing what was there; directories that lack are made."""
        content = data.encode() if isinstance(data, str) else data
        await self._call(files.write(self._at(path), content))

    async def exists(self, path: Path) -> bool:
        """Whether there is anything at the path."""
        return await self._call(files.exists(self._at(path)))

    async def info(self, path: Path) -> FileInfo:
        """What is at the path; a link is not followed."""
        return await self._call(files.info(self._at(path)))

    async def list(self, path: Path = ".", *, depth: int = 1) -> list[FileInfo]:
        """What a directory holds, by path; with a depth above 1, what those in it hold, too."""
        return await self._call(files.entries(self._at(path), depth))

    async def make_dir(self, path: Path) -> bool:
        """Makes a directory and those above it; False if it was there."""
        return await self._call(files.make_dir(self._at(path)))

    async def remove(self, path: Path) -> None:
        """Removes a file, or a directory with all it holds."""
        await self._call(files.remove(self._at(path)))

    async def rename(self, old: Path, new: Path) -> None:
        """Moves a file or directory to a new path."""
        await self._call(files.rename(self._at(old), self._at(new)))

    def _at(self, path: Path) -> str:
        return self._sandbox._path(path)

    async def _call(self, call: Call[T], size_max: int = OUTPUT_MAX) -> T:
        return call.answer(
            await self._sandbox.run(
                call.argv,
                input=call.input,
                env=files.ENVIRONMENT,
                cwd="/",
                timeout=files.TIMEOUT,
                output_max=size_max,
            )
        )


class AsyncTerminals:
    """Commands on terminals: `sandbox.pty`."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    async def create(
        self,
        command: str | Sequence[Word] = ("/bin/sh",),
        *,
        rows: int = 24,
        columns: int = 80,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float | None = None,
        encoding: str = "utf-8",
    ) -> AsyncTerminal:
        """Starts a command (default: a shell) on a terminal of its own."""
        sandbox = self._sandbox
        variables = {"TERM": "xterm-256color", **(env or {})}
        request = sandbox._request(command, variables, cwd, timeout, None)
        dispatcher = sandbox._dispatcher
        running = dispatcher.start(
            request, encoding=encoding, cap=OUTPUT_MAX, terminal=(rows, columns)
        )
        await until(dispatcher, running, lambda: bool(running.outputs) or bool(running.ended))
        return AsyncTerminal(dispatcher, running)
