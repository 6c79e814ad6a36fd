"""E33 and the vault as a process: what others see of it, and how it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import casemate
from casemate.errors import RefusedError
from casemate.policy.model import Secret
from casemate.vault.client import SecretSession, Vault
from casemate.vault.sources import Held, definition, read, seal

VALUE = b"sk-canary0CANARY1canary2CANARY3"
MARKER = "marker-in-the-environment"

PEEK = """
import ctypes, os, sys
pid, needle = int(sys.argv[1]), sys.argv[2].encode()[::-1]
found = []
try:
    if needle in open(f"/proc/{pid}/environ", "rb").read(): found.append("environ")
except OSError: pass
try:
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in open(f"/proc/{pid}/maps"):
            bounds, rights = line.split()[:2]
            start, end = (int(part, 16) for part in bounds.split("-"))
            if "rw" not in rights or end - start > 1 << 28: continue
            try:
                memory.seek(start)
                if needle in memory.read(end - start): found.append("mem"); break
            except (OSError, OverflowError): pass
except OSError: pass
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(0x4206, pid, 0, 0) == 0: found.append("ptrace")  # PTRACE_SEIZE
print(*found)
"""
"""What another process of the user gets out of one; the needle comes backwards."""

BARE = """
import sys
value = sys.stdin.buffer.readline()
print("ready", flush=True); sys.stdin.buffer.read()
"""

VAULT = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from casemate.policy.model import Secret
from casemate.vault.client import Vault
from casemate.vault.sources import definition, read, seal
async def main():
    vault = await Vault.start()
    value = sys.stdin.buffer.readline().strip()
    held = read([definition(Secret(name="KEY", to=("api.example.com",)))], {b"KEY": value})
    session = await vault.open("s", [held[0].definition], seal(held))
    head = [(b"Authorization", b"Bearer " + held[0].placeholder)]
    _, headers = await session.outgoing("api.example.com", 443, "GET", b"/", head)
    assert value in dict(headers)[b"Authorization"]
    print(vault.pid, flush=True); await asyncio.to_thread(sys.stdin.buffer.read); vault.close()
asyncio.run(main())
"""

# As root the attack is played by an ordinary user against that same user's vault.
USER: dict[str, Any] = (
    {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
)


def run(test: Callable[[Vault], Coroutine[Any, Any, None]]) -> None:
    """Runs a coroutine with a vault of its own."""

    async def whole() -> None:
        vault = await Vault.start()
        try:
            await test(vault)
        finally:
            vault.close()

    asyncio.run(whole())


async def opened(vault: Vault, **options: Any) -> tuple[SecretSession, Held]:
    """A session with one secret."""
    fields = {"name": "KEY", "to": ("api.example.com",)} | options
    (held,) = read([definition(Secret(**fields))], {b"KEY": VALUE})
    return await vault.open("s", [held.definition], seal([held])), held


def peek(pid: int, needle: str) -> list[str]:
    """What another process of the same user gets out of one."""
    command = [sys.executable, "-I", "-S", "-c", PEEK, str(pid), needle[::-1]]
    run = subprocess.run(command, capture_output=True, text=True, check=True, **USER)
    found: str = run.stdout
    return found.split()


@contextmanager
def started(*command: str) -> Iterator[int]:
    """A process that was given the value; the number it says, or its own."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"TOKEN": MARKER},
        cwd="/",
        **USER,
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(VALUE + b"\n")
        process.stdin.flush()
        line = process.stdout.readline().strip()
        yield process.pid if line == b"ready" else int(line)
        process.stdin.close()
        assert process.wait(timeout=20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()


def test_e33_memory_and_environment() -> None:
    """E33: a process of the same user reads a plain process, and nothing of the vault.

    Out of the plain one it gets the value, the environment and a trace, unless Yama stands before
    the memory.
    """
    with started(BARE) as pid:
        attack = [peek(pid, VALUE.decode()), peek(pid, MARKER)]
    assert "environ" in attack[1]
    if not Path("/proc/sys/kernel/yama").exists():
        assert attack[0] == ["mem", "ptrace"]

    with started(VAULT, str(Path(casemate.__file__).parents[1])) as pid:
        assert Path(f"/proc/{pid}").exists()
        assert peek(pid, VALUE.decode()) == []
        assert peek(pid, MARKER) == []
        if os.getuid() == 0:
            # Root may look, and finds that nothing was handed down.
            assert not Path(f"/proc/{pid}/environ").read_bytes()


def test_confined() -> None:
    """The vault has three null descriptors and its socket, no core, no new privileges, a filter."""

    async def test(vault: Vault) -> None:
        status = Path(f"/proc/{vault.pid}/status").read_text()
        assert "Seccomp:\t2\n" in status
        assert "NoNewPrivs:\t1\n" in status
        if os.getuid() == 0:
            limits = Path(f"/proc/{vault.pid}/limits").read_text()
            (core,) = [line for line in limits.splitlines() if "core file" in line]
            assert core.split()[4:6] == ["0", "0"]
            links = [os.readlink(entry) for entry in Path(f"/proc/{vault.pid}/fd").iterdir()]
            assert sorted(link.partition(":")[0] for link in links) == ["/dev/null"] * 3 + [
                "socket"
            ]

    run(test)


def test_round_trip() -> None:
    """A placeholder is exchanged, an answer scrubbed, a leak refused, through the process."""

    async def test(vault: Vault) -> None:
        session, held = await opened(vault)
        head = [(b"Authorization", b"Bearer " + held.placeholder)]
        _, headers = await session.outgoing("api.example.com", 443, "GET", b"/", head)
        assert dict(headers)[b"Authorization"] == b"Bearer " + VALUE

        answer = session.response("api.example.com")
        out = await answer.feed(b"<" + VALUE[:9]) + await answer.feed(VALUE[9:] + b">")
        assert out + await answer.finish() == b"<" + held.placeholder + b">"
        assert await session.scrub_headers([(b"a", VALUE)]) == [(b"a", held.placeholder)]

        body = session.body("other.example", "br")
        assert await body.feed(bytes(1 << 20)) == bytes(1 << 20)
        with pytest.raises(RefusedError) as caught:
            await body.feed(VALUE)
        assert caught.value.code == "secret-leak"
        await body.finish()
        assert "br" in body.note

        assert session.bound("api.example.com")
        assert not session.bound("example.com")
        await session.close()
        with pytest.raises(RefusedError):
            await session.outgoing("api.example.com", 443, "GET", b"/", head)

    run(test)


def test_many_at_once() -> None:
    """Calls of many sessions run at once, and each gets its own answer."""

    async def test(vault: Vault) -> None:
        sessions = [await opened(vault) for _ in range(20)]

        async def ask(session: SecretSession, held: Held) -> None:
            for _ in range(20):
                stream = session.response("api.example.com")
                assert await stream.feed(VALUE + b"!") == held.placeholder + b"!"
                assert await stream.finish() == b""

        await asyncio.gather(*(ask(*each) for each in sessions))

    run(test)


def test_the_end_of_the_vault_refuses_everything() -> None:
    """When the vault dies, what waits and what comes later is refused."""

    async def test(vault: Vault) -> None:
        session, _ = await opened(vault)
        os.kill(vault.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(RefusedError) as caught:
                await session.outgoing("api.example.com", 443, "GET", b"/", [])
            assert caught.value.code == "vault"

    run(test)


def test_the_end_of_the_vault_is_noticed_while_sending() -> None:
    """A call that is being sent when the vault turns out to be gone is refused like the others."""

    async def test(vault: Vault) -> None:
        session, _ = await opened(vault)
        os.kill(vault.pid, signal.SIGKILL)
        # Without a turn of the loop: the next write is the first to know.
        os.waitid(os.P_PID, vault.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
        with pytest.raises(RefusedError) as caught:
            await asyncio.wait_for(session.outgoing("api.example.com", 443, "GET", b"/", []), 10)
        assert caught.value.code == "vault"

    run(test)


def test_the_vault_ends_with_the_broker() -> None:
    """End of file is the end of the process, and of every secret in it."""

    async def test(vault: Vault) -> None:
        await opened(vault)
        vault.close()
        assert not Path(f"/proc/{vault.pid}").exists()

    run(test)


def test_definitions_that_make_no_sense() -> None:
    """What a client registers is hostile: it is refused, and the vault serves on."""

    async def test(vault: Vault) -> None:
        wrong: list[list[dict[str, Any]]] = [
            [{}],
            [{"name": "A"}],
            [{"name": 1, "form": "", "form_name": "", "to": []}],
            [{"name": "A", "form": "", "form_name": "", "to": []}],
        ]
        for secrets in wrong:
            with pytest.raises(RefusedError):
                await vault.open("s", secrets, os.open("/dev/null", os.O_RDONLY))
        await opened(vault)

    run(test)
