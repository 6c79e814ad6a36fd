"""Many commands in one session at once, each with its own streams."""

from __future__ import annotations

import os
import threading

import pytest
from tests.support.perimeter import Perimeter

from casemate.workspace import archive

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


def test_a_hundred_at_once(perimeter: Perimeter) -> None:
    """A hundred commands run side by side; none gets another's bytes or status."""
    with perimeter.session() as session:
        running = {}
        for number in range(100):
            read, write = os.pipe()
            script = f"echo {number}; head -c {number * 1000} /dev/zero; exit {number}"
            identifier = perimeter.start(session, "sh", "-c", script, stdio=(None, write, None))
            os.close(write)
            running[identifier] = (number, read)
        outputs: dict[int, bytes] = {}

        def collect(number: int, read: int) -> None:
            with os.fdopen(read, "rb") as stream:
                outputs[number] = stream.read()

        threads = [threading.Thread(target=collect, args=pair) for pair in running.values()]
        for thread in threads:
            thread.start()
        statuses = {number: session.wait(id).status for id, (number, _) in running.items()}
        for thread in threads:
            thread.join()

    assert statuses == {number: number for number in range(100)}
    assert all(
        outputs[number] == f"{number}\n".encode() + bytes(number * 1000) for number in range(100)
    )


def test_they_see_each_other(perimeter: Perimeter) -> None:
    """Commands of one session share its files, its loopback and its processes."""
    with perimeter.session() as session:
        serve = (
            "import os, socket; s = socket.create_server(('127.0.0.1', 5000)); open('up', 'w').close();"
            "s.accept()[0].sendall(b'hello')"
        )
        server = perimeter.start(session, "python3", "-c", serve)
        ask = (
            "import os, socket, time\n"
            "while not os.path.exists('up'): time.sleep(0.01)\n"
            "assert socket.create_connection(('127.0.0.1', 5000)).recv(9) == b'hello'"
        )

        assert perimeter.status(session, "python3", "-c", ask) == 0
        assert session.wait(server).status == 0


def test_signals_reach_one_of_them(perimeter: Perimeter) -> None:
    """A signal goes to the process group of one command, SIGKILL to its children elsewhere too."""
    with perimeter.session() as session:
        spared = perimeter.start(session, "sleep", "1000")
        script = "setsid sleep 1001 & sleep 1001 & wait"
        doomed = perimeter.start(session, "sh", "-c", script)
        count = "while [ $(pgrep -fxc 'sleep 1001') -ne {} ]; do sleep 0.01; done"
        assert perimeter.status(session, "sh", "-c", count.format(2)) == 0
        session.signal(doomed, 9)
        assert session.wait(doomed).status == 137
        assert perimeter.status(session, "sh", "-c", count.format(0)) == 0
        assert perimeter.status(session, "pgrep", "-fx", "sleep 1000") == 0
        session.signal(spared, 15)
        assert session.wait(spared).status == 143


def test_time_limit_of_one_command(perimeter: Perimeter) -> None:
    """A command has a time of its own; the session and the others go on."""
    with perimeter.session() as session:
        other = perimeter.start(session, "cat")
        hasty = session.wait(perimeter.start(session, "sleep", "1000", time_limit_ms=100))

        assert (hasty.status, hasty.reason) == (137, 1)
        assert session.wait(other).status == 0
        assert perimeter.status(session, "true") == 0


def test_snapshot_of_a_running_session(perimeter: Perimeter) -> None:
    """The changes so far can be saved while commands go on."""
    with perimeter.session() as session, open(perimeter.home / "so-far", "w+b") as file:
        assert perimeter.status(session, "sh", "-c", "echo one > one") == 0
        writer = perimeter.start(session, "sh", "-c", "while :; do echo x >> busy; done")
        assert session.wait(session.snapshot(file.fileno())).status == 0
        session.signal(writer, 9)
        session.wait(writer)
        with archive.read(os.dup(file.fileno())) as opened:
            assert opened.complete
            record = opened.get(0, b"one")
            assert record and opened.open_content(record).read(9) == b"one\n"


def test_usage_is_reported(perimeter: Perimeter) -> None:
    """Each report has the command's own time and peak memory."""
    burn = "import time; b = bytearray(50 << 20); t = time.process_time()\nwhile time.process_time() < t + 0.1: pass"
    with perimeter.session() as session:
        busy = session.wait(perimeter.start(session, "python3", "-c", burn))
        idle = session.wait(perimeter.start(session, "true"))

    assert busy.user_us + busy.system_us >= 100_000
    assert busy.peak_memory >= 50 << 20
    assert idle.user_us + idle.system_us < busy.user_us + busy.system_us
    assert busy.wall_us >= 100_000
