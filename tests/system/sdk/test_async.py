"""The SDK in an event loop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from casemate import AsyncSandbox
from casemate.errors import SandboxError, UsageError

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs a test's coroutine; hanging is a failure."""
    asyncio.run(asyncio.wait_for(main, 60))


def test_commands_run_at_once_in_one_loop(project: Path) -> None:
    """Fifty commands at a time each get their own result."""

    async def main() -> None:
        async with AsyncSandbox(project) as sandbox:
            results = await asyncio.gather(*(sandbox.run(["echo", str(n)]) for n in range(50)))
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(50)]

    run(main())


def test_the_loop_is_never_blocked(project: Path) -> None:
    """Other tasks go on while a command runs."""

    async def main() -> None:
        async with AsyncSandbox(project) as sandbox:
            command = asyncio.create_task(sandbox.run("read line; echo $line", input=""))
            waiting = asyncio.create_task(sandbox.run(["sleep", "0.3"]))
            turns = 0
            while not waiting.done():
                await asyncio.sleep(0.01)
                turns += 1
            assert turns > 5
            assert (await command).stdout == "\n"

    run(main())


def test_streams_input_and_signals(project: Path) -> None:
    """A process is written to, read line by line, and ended."""

    async def main() -> None:
        async with AsyncSandbox(project) as sandbox:
            process = await sandbox.popen(["cat"], stdin=True)
            await process.write("one\ntwo\n")
            assert await process.stdout.receive() == b"one\ntwo\n"
            process.close_stdin()
            assert [line async for line in process.stdout] == []
            assert (await process.wait()).exit_code == 0

            both = await sandbox.popen("echo a; sleep 0.05; echo b >&2")
            assert [part async for part in both.stream()] == [
                ("stdout", b"a\n"),
                ("stderr", b"b\n"),
            ]

            sleeper = await sandbox.popen(["sleep", "300"])
            with pytest.raises(SandboxError):
                await sleeper.wait(timeout=0.05)
            assert await sandbox.commands.kill(sleeper.id)
            assert (await sleeper.wait()).signal == signal.SIGKILL

    run(main())


def test_cancelling_ends_the_command(project: Path) -> None:
    """A task that is cancelled takes its command with it."""

    async def main() -> None:
        async with AsyncSandbox(project) as sandbox:
            task = asyncio.create_task(sandbox.run(["sleep", "300"]))
            while not await sandbox.commands.list():
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while await sandbox.commands.list():
                await asyncio.sleep(0.01)

    run(main())


def test_closing_wakes_who_waits(project: Path) -> None:
    """Tasks that wait for commands are told that the sandbox is closed."""

    async def main() -> None:
        async with AsyncSandbox(project) as sandbox:
            task = asyncio.create_task(sandbox.run(["sleep", "300"]))
            await asyncio.sleep(0.05)
        with pytest.raises(SandboxError) as caught:
            await task
        assert caught.value.code == "closed"
        await sandbox.close()

    run(main())


def test_files_terminal_changes_and_apply(project: Path) -> None:
    """The verbs of the sync sandbox are there, awaited."""

    async def main() -> None:
        async with AsyncSandbox(project) as sandbox:
            await sandbox.files.write("d/f", "text")
            assert await sandbox.files.read_text("d/f") == "text"
            assert [entry.name for entry in await sandbox.files.list("d")] == ["f"]
            terminal = await sandbox.pty.create()
            terminal.resize(40, 100)
            await terminal.send("stty size; exit 4\n")
            assert b"40 100" in await terminal.output.read()
            assert (await terminal.wait()).exit_code == 4
            assert {change.path for change in await sandbox.changes()} == {"d", "d/f"}
            assert "+text" in await sandbox.diff()
            await sandbox.apply()
        assert (project / "d/f").read_text() == "text"

    run(main())


def test_nothing_is_started_before_it_is_opened(project: Path) -> None:
    """A sandbox that was never opened starts nothing, and says so when used."""

    async def main() -> None:
        sandbox = AsyncSandbox(project)
        with pytest.raises(UsageError):
            await sandbox.run(["true"])
        await sandbox.close()

    run(main())


def test_no_descriptor_is_left_behind_by_the_loop(project: Path) -> None:
    """Opening, using and closing leaves as many open files as before."""

    async def main() -> None:
        async with AsyncSandbox(project) as sandbox:
            await sandbox.run(["true"])
        before = len(os.listdir("/proc/self/fd"))
        async with AsyncSandbox(project) as sandbox:
            await sandbox.run("echo a; echo b >&2", input="x")
            await sandbox.popen(["sleep", "300"], stdin=True)
        assert len(os.listdir("/proc/self/fd")) == before

    run(main())
