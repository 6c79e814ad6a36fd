"""Promise: no process, memory or name of the host can be seen or touched, and the supervisor
cannot be stopped, confused or made to lie."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import time
from pathlib import Path

import pytest
from tests.security.arena import SECRET, Arena, attack, bystander, python, shell

from casemate import Sandbox

PROCESSES = os.readlink("/proc/self/ns/pid")
"""The host's own, so that an attack on everyone inside stops where it would reach everyone."""

MODES = pytest.mark.parametrize("mode", ["overlay", "direct", "readonly"])


@MODES
def test_host_processes(arena: Arena, mode: str) -> None:
    """No process outside is listed, signalled, traced or looked at, by its number neither."""
    program = (
        "import os, signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'hit\\n'))\n"
        "print('ready', flush=True)\nwhile True: time.sleep(60)"
    )
    with bystander(
        [*python(program), "casemate-victim"], stdout=subprocess.PIPE, start_new_session=True
    ) as victim:
        assert victim.stdout and victim.stdout.readline() == b"ready\n"
        act = attack("neighbours", str(victim.pid))
        bare = arena.bare(act).json
        assert victim.stdout.readline() == b"hit\n"
        time.sleep(0.05)
        os.set_blocking(victim.stdout.fileno(), False)
        victim.stdout.read()
        inside = arena.inside(act, mode=mode).json
        hits = victim.stdout.read()

    assert bare["seen"] and {"kill", "group", "pidfd", "cwd", "priority"} <= {*bare["reached"]}
    assert inside == {"seen": [], "reached": []}
    assert not hits


def test_signals_to_everyone(arena: Arena) -> None:
    """kill(-1) and kill(0) end what is inside, and nothing else."""
    with bystander(["sleep", "60"]) as victim:
        guarded = '[ "$(readlink /proc/self/ns/pid)" != "$1" ] && '
        arena.inside(shell(guarded + "sleep 30 & sleep 0.1; kill -9 -1", PROCESSES))
        arena.inside(shell(guarded + "kill -9 0", PROCESSES))
        alive = victim.poll() is None

    assert alive
    assert arena.inside(["true"]).status == 0


def test_shared_memory_and_queues(arena: Arena) -> None:
    """Shared memory, semaphores and queues of other programs do not exist inside."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    key, name = 0x43410000 | (os.getpid() & 0xFFFF), f"casemate-{os.getpid()}"
    segment = libc.shmget(key, 4096, 0o1666)
    queue = libc.msgget(key, 0o1666)
    semaphores = libc.semget(key, 1, 0o1666)
    memory = Path("/dev/shm", name)
    try:
        assert min(segment, queue, semaphores) >= 0
        address = libc.shmat(segment, None, 0)
        ctypes.memmove(address, b"secret", 6)
        memory.write_text(SECRET)
        posix = libc.mq_open(f"/{name}".encode(), os.O_RDWR | os.O_CREAT, 0o666, None)
        act = attack("shared", str(key), name)
        bare = arena.bare(act).json
        inside = arena.inside(act).json
    finally:
        libc.shmctl(segment, 0, None)
        libc.msgctl(queue, 0, None)
        libc.semctl(semaphores, 0, 0)
        libc.mq_unlink(f"/{name}".encode())
        memory.unlink(missing_ok=True)

    expected = {"shmget", "shmat", "msgget", "semget", "shm_open"} | (
        {"mq_open"} if posix >= 0 else set()
    )
    assert expected <= {*bare}
    assert inside == []


def test_sandboxes_do_not_meet(arena: Arena) -> None:
    """Two sessions of one project share no process, socket, memory or scratch file."""
    leave = (
        "import os, socket, time\ns = socket.socket(socket.AF_UNIX); s.bind('\\0meet'); s.listen()\n"
        "t = socket.create_server(('127.0.0.1', 47111))\n"
        "open('/tmp/left', 'w').close(); open('/dev/shm/left', 'w').close(); open('left', 'w').close()\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    look = python(
        "import os, socket\n"
        "print([p for p in ('/tmp/left', '/dev/shm/left', 'left') if os.path.exists(p)])\n"
        "for family, address in ((1, '\\0meet'), (2, ('127.0.0.1', 47111))):\n"
        "    try: socket.socket(family).connect(address); print('met')\n"
        "    except OSError: pass\n"
        "print(len([p for p in os.listdir('/proc') if p.isdigit()]))"
    )
    with arena.started(python(leave)) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        inside = arena.inside(look)
        process.kill()

    assert inside.out.split("\n")[0] == "[]"
    assert "met" not in inside.out
    assert int(inside.out.split("\n")[1]) <= 2


SUPERVISOR = """
import ctypes, os, signal, sys
if os.readlink("/proc/self/ns/pid") == sys.argv[1]:
    sys.exit("this would reach everyone")
libc = ctypes.CDLL(None, use_errno=True)
for number in (signal.SIGSTOP, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP,
               signal.SIGSEGV, signal.SIGCHLD, signal.SIGABRT, signal.SIGTSTP, 34, 64):
    for target in (1, -1):
        if target == -1 and number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGABRT):
            continue
        signal.signal(number, signal.SIG_IGN) if number not in (signal.SIGKILL, signal.SIGSTOP) else None
        try: os.kill(target, number)
        except OSError: pass
for action in (
    lambda: libc.sched_setscheduler(1, 5, bytes(4)),
    lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
    lambda: os.sched_setaffinity(1, {0}),
    lambda: open("/proc/1/oom_score_adj", "w").write("1000"),
    lambda: open("/proc/1/comm", "w").write("evil"),
    lambda: open("/proc/1/clear_refs", "w").write("1"),
    lambda: os.write(3, b"forged"),
):
    try: action()
    except OSError: pass
sys.exit(42)
"""


@MODES
def test_e40_the_supervisor(arena: Arena, mode: str) -> None:
    """No signal or limit from inside stops, kills or slows PID 1: the exit status comes through."""
    inside = arena.inside(python(SUPERVISOR, PROCESSES), mode=mode, timeout=30)

    assert inside.status == 42, inside.err


def test_e40_exit_status_cannot_be_forged(arena: Arena) -> None:
    """A descendant that ends otherwise, before or after, does not speak for the command."""
    act = python(
        "import os, time\n"
        "for status in range(1, 50):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork(): os._exit(status)\n"
        "        time.sleep(0.01 * (status % 3)); os._exit(status)\n"
        "time.sleep(0.2)\n"
        "os._exit(77)"
    )

    assert arena.inside(act).status == 77


STOPPER = """
import os, signal
print("ready", flush=True)
own = os.getpid()
while True:
    for pid in range(own + 1, own + 200):
        try: os.kill(pid, signal.SIGSTOP)
        except OSError: pass
"""


def test_newborn_processes_are_stopped(arena: Arena) -> None:
    """A program that stops each new process at birth holds neither the supervisor up nor the end
    of the session."""
    with Sandbox(arena.project) as sandbox:
        stopper = sandbox.popen(python(STOPPER))
        victims = [sandbox.popen(["/bin/true"]) for _ in range(60)]
        # The supervisor still answers: it lists and kills.
        assert len(sandbox.commands.list()) >= 1
        stopper.kill()
        for victim in victims:
            victim.kill()
        assert sandbox.run(["echo", "alive"]).stdout.strip() == "alive"


def test_snapshots_are_not_held_up(arena: Arena) -> None:
    """A program that stops whatever it can does not keep the host from looking at the changes."""
    with Sandbox(arena.project) as sandbox:
        sandbox.run(["touch", "made"])
        sandbox.popen(python(STOPPER))
        for _ in range(5):
            assert [change.path for change in sandbox.changes()] == ["made"]


def test_host_name_and_machine(arena: Arena) -> None:
    """The host's name and identity are not told."""
    inside = arena.inside(
        shell("hostname 2>/dev/null; uname -n; cat /etc/hostname /etc/machine-id")
    )

    assert {*inside.out.split()} == {"casemate"}
    assert socket.gethostname() not in inside.out.split() or socket.gethostname() == "casemate"
