"""The journal: whatever is done to a line, it shows."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from casemate.audit import journal
from casemate.audit.journal import Journal, JournalError, Reader, read, verify


def written(path: Path, count: int = 5) -> Journal:
    log = Journal(str(path), "session", policy="abc")
    for number in range(count):
        log.write("connection", host=f"host{number}.example", port=443, verdict="allowed")
    return log


def test_chain(tmp_path: Path) -> None:
    """Each line names the hash of the one before; the head is that of the last."""
    path = tmp_path / "a/journal"
    log = written(path)
    log.close(connections=5)
    lines = path.read_bytes().splitlines()
    assert json.loads(lines[0])["previous"] == "0" * 64
    for before, line in pairwise(lines):
        assert json.loads(line)["previous"] == hashlib.sha256(before).hexdigest()
    head = verify(str(path))
    assert head == log.head
    assert (head.lines, head.torn) == (7, False)
    assert head.digest == hashlib.sha256(lines[-1]).hexdigest()
    assert [line["event"] for line in read(str(path))][-1] == "end"
    assert path.stat().st_mode & 0o777 == 0o600


@given(
    st.sampled_from(["byte", "remove", "double", "swap"]),
    st.integers(0, 1 << 16),
    st.integers(1, 255),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tampering_shows(tmp_path: Path, kind: str, where: int, change: int) -> None:
    """A byte changed, a line removed, doubled or swapped: `verify` finds it, unless it is the end
    that was cut off, which the head in a receipt tells."""
    path = tmp_path / f"journal-{os.urandom(4).hex()}"
    written(path).close()
    lines = path.read_bytes().splitlines(keepends=True)
    at = where % (len(lines) - 1)
    if kind == "byte":
        content = bytearray(b"".join(lines))
        content[where % len(b"".join(lines[:-1]))] ^= change
        lines = [bytes(content)]
    elif kind == "remove":
        del lines[at]
    elif kind == "double":
        lines.insert(at, lines[at])
    else:
        lines[at], lines[at + 1] = lines[at + 1], lines[at]
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError):
        verify(str(path))


def test_torn_line(tmp_path: Path) -> None:
    """A last line cut off by a crash is told apart from tampering."""
    path = tmp_path / "journal"
    written(path).sync()
    whole = verify(str(path))
    with path.open("ab") as file:
        file.write(b'{"n":6,"ti')
    torn = verify(str(path))
    assert torn.torn
    assert torn.digest == whole.digest


def test_killed_while_writing(tmp_path: Path) -> None:
    """kill -9 leaves a journal that verifies."""
    path = tmp_path / "journal"
    child = os.fork()
    if child == 0:
        try:
            log = Journal(str(path), "session")
            while True:
                log.write("request", path="x" * 500)
        finally:
            os._exit(1)
    while not path.exists() or path.stat().st_size < 100_000:
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert verify(str(path)).lines > 100


def test_flood_of_refusals(tmp_path: Path) -> None:
    """A program that tries without end fills no disk: one line, then one that counts the rest."""
    path = tmp_path / "journal"
    log = Journal(str(path), "session")
    for _ in range(10_000):
        log.write_refusal(("a.example", 443), "connection", host="a.example", verdict="refused")
    log.sync()
    lines = list(read(str(path)))
    assert [line.get("repeated") for line in lines] == [None, None, 9999]
    for number in range(2 * journal.REPEATED_MAX):
        log.write_refusal((number,), "connection", host=f"{number}.example", verdict="refused")
    log.sync()
    assert verify(str(path)).lines == 3 + journal.REPEATED_MAX + 1


def test_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full journal says so in its last line but one and refuses, so that nothing happens
    unrecorded."""
    monkeypatch.setattr(journal, "SIZE_MAX", 2000)
    path = tmp_path / "journal"
    log = Journal(str(path), "session")
    with pytest.raises(JournalError, match="full"):
        for _ in range(100):
            log.write("request", path="/")
    assert log.full
    log.close()
    assert [line["event"] for line in read(str(path))][-2:] == ["full", "end"]


def test_lost_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines that a disk did not keep end the journal: nothing is allowed from then on."""

    def lose(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    log = written(tmp_path / "journal")
    monkeypatch.setattr(os, "fdatasync", lose)
    with pytest.raises(JournalError, match="Input/output"):
        log.flush()
    assert log.full


def test_hostile_values(tmp_path: Path) -> None:
    """Long values are cut, control characters and line breaks are escaped, and a line of many
    long values is short enough to be read again."""
    path = tmp_path / "journal"
    log = Journal(str(path), "session")
    log.write("request", path="x" * 100_000, host="a\n\x1b[31m\udcff")
    log.write("request", **{f"field{number}": "\0" * 5000 for number in range(8)})
    lines = list(read(str(path)))
    assert lines[1]["path"].endswith("... (100000 characters)")
    assert b"\x1b" not in path.read_bytes()
    assert len(path.read_bytes().splitlines()) == 3
    assert lines[2]["field7"].endswith("... (5000 characters)")


def test_read_on(tmp_path: Path) -> None:
    """A reader goes on where it ended, and knows whether somebody still writes."""
    path = tmp_path / "journal"
    log = written(path)
    with Reader(str(path)) as reader:
        assert len(list(reader)) == 6
        assert reader.live
        log.write("connection", host="late.example")
        assert [line["host"] for line in reader] == ["late.example"]
        log.close()
        assert [line["event"] for line in reader] == ["end"]
        assert not reader.live


def test_known_head(tmp_path: Path) -> None:
    """A hash that was kept finds what the chain alone cannot: an end cut off, a journal written
    anew."""
    path = tmp_path / "journal"
    log = written(path)
    early = log.head.digest
    log.close()
    assert verify(str(path), early).lines == 7
    late = verify(str(path)).digest
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert verify(str(path)).lines == 6
    with pytest.raises(JournalError, match="cut off"):
        verify(str(path), late)


@given(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from(
            [
                b"[" * 100_000,
                b"{" * 100_000,
                b"1" * 100_000,
                b'{"n":0}',
                b'{"n":0,"time":1e999,"session":"s","event":"begin","previous":"%s"}' % (b"0" * 64),
                b'{"n":0,"time":NaN,"session":"s","event":"begin","previous":"%s"}' % (b"0" * 64),
                b'{"n":0,"time":0,"session":[],"event":"begin","previous":"%s"}' % (b"0" * 64),
            ]
        ),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_anybodys_file(tmp_path: Path, content: bytes) -> None:
    """What is no journal is an error that names the line, whatever it is."""
    path = tmp_path / "journal"
    path.write_bytes(content + b"\n")
    with pytest.raises(JournalError, match=r"journal:\d+: "):
        verify(str(path))


def test_no_file(tmp_path: Path) -> None:
    """A link, a pipe and a directory are not read."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link", ".", "missing"):
        with pytest.raises(JournalError):
            verify(str(tmp_path / name))


def test_two_writers(tmp_path: Path) -> None:
    """A journal has one writer, and is begun once; a link is not followed."""
    path = tmp_path / "journal"
    written(path)
    with pytest.raises(JournalError):
        Journal(str(path), "session")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(JournalError):
        Journal(str(tmp_path / "link"), "session")
