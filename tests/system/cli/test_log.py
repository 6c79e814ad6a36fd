"""`casemate log`: what it shows of a journal, whoever wrote that."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest
from tests.support.command_line import COMMAND, casemate

from casemate.audit.journal import Journal
from casemate.cli.log import prune

FIRST, NEWEST = "20260101-000000-aaaa", "20260102-000000-bbbb"


@pytest.fixture
def journals(home: Path) -> Path:
    """Where journals are."""
    return home / ".local/state/casemate/journals"


def begun(directory: Path, session: str) -> Journal:
    """A journal with one of each kind of line, not yet ended."""
    log = Journal(str(directory / f"{session}.jsonl"), session, policy="abc")
    log.write(
        "request",
        verdict="allowed",
        via="connect",
        method="GET",
        host="api.example.com",
        port=443,
        path="/v1/x",
        rule="api.example.com GET",
        status=200,
        up=120,
        down=2048,
        ms=12.3,
    )
    for _ in range(3):
        log.write_refusal(
            ("host",),
            "connection",
            verdict="refused",
            via="connect",
            host="evil.example",
            port=443,
            code="host",
            why="no rule",
        )
    log.sync()
    return log


def said(*arguments: str) -> str:
    """Standard output of `casemate log` that has to succeed."""
    ended = casemate("log", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.decode()


def test_table(journals: Path) -> None:
    """The newest session by default, as a table without colours; another by how its id ends."""
    begun(journals, FIRST).close()
    begun(journals, NEWEST).close(allowed=1)
    lines = said().splitlines()
    assert lines[0].split() == ["TIME", "VERDICT", "WHAT", "WHY"]
    assert "GET api.example.com:443/v1/x" in lines[2]
    assert "120 B out, 2.0 KiB in, 12 ms, status 200; rule api.example.com GET" in lines[2]
    assert "connect evil.example:443" in lines[3]
    assert "host: no rule (and 2 times more)" in lines[4]
    assert "the session ends" in lines[5]
    assert "\x1b" not in said()
    assert json.loads(said("aaaa", "--json").splitlines()[0])["session"] == FIRST


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ([], 5),
        (["--refused"], 2),
        (["--allowed"], 1),
        (["--host", "*.example.com"], 1),
        (["--host", "EVIL.example"], 2),
        (["--event", "request"], 1),
        (["--event", "begin"], 1),
        (["--since", "1h"], 5),
        (["--since", "1ms"], 0),
    ],
)
def test_filters(journals: Path, options: list[str], count: int) -> None:
    """Each filter takes what it says; --json has one line for each, as in the journal."""
    begun(journals, NEWEST).close()
    lines = said("--json", *options).splitlines()
    kept = (journals / f"{NEWEST}.jsonl").read_text().splitlines()
    assert len(lines) == count
    assert set(lines) <= set(kept)


def test_hostile_lines(journals: Path) -> None:
    """What a journal says cannot reach the terminal as anything but text, nor stop the report."""
    log = Journal(str(journals / f"{NEWEST}.jsonl"), NEWEST)
    log.write("request", verdict="refused", host="\x1b]0;x\x07\u202e", port="\n", path="\x9b2J")
    log.write("request\r", verdict="allowed", up="many", ms=True, host=None)
    log.write("\x1b[2J")
    log.close()
    shown = said()
    assert len(shown.splitlines()) == 6
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_verify(journals: Path) -> None:
    """--verify gives the head; a changed line is named, and so is a hash that is gone."""
    begun(journals, NEWEST).close()
    path = journals / f"{NEWEST}.jsonl"
    head = json.loads(said("--verify", "--json"))
    assert head["lines"] == 5
    assert head["sha256"] in said("--verify")
    assert said("--head", head["sha256"].upper())
    assert casemate("log", "--head", "0" * 64).returncode == 125
    path.write_bytes(path.read_bytes().replace(b"evil.example", b"good.example", 1))
    ended = casemate("log", "--verify")
    assert ended.returncode == 125
    assert f"{NEWEST}.jsonl:4".encode() in ended.stderr


@pytest.mark.parametrize("last", ["end", "killed"])
def test_follow(journals: Path, last: str) -> None:
    """--follow shows each line as it comes, and ends with the session: also with one whose writer
    was killed and could not say so."""
    log = begun(journals, NEWEST)
    command = [*COMMAND, "log", "--follow", "--json", "--event", "connection"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        assert [json.loads(following.stdout.readline())["host"] for _ in range(2)]
        log.write("connection", host="late.example", verdict="allowed")
        assert json.loads(following.stdout.readline())["host"] == "late.example"
        if last == "end":
            log.close()
        else:
            os.close(log._file)
        assert following.wait(timeout=30) == 0


def test_prune(journals: Path) -> None:
    """Old journals go; one that is still being written stays, and so does what is no journal."""
    begun(journals, FIRST).close()
    running = begun(journals, NEWEST)
    (journals / "notes.txt").write_text("mine")
    for path in journals.iterdir():
        os.utime(path, (0, time.time() - 100))
    assert prune(str(journals), 1000) == 0
    assert prune(str(journals), 10) == 1
    assert sorted(path.name for path in journals.iterdir()) == [f"{NEWEST}.jsonl", "notes.txt"]
    running.close()
    assert prune(str(journals), -1) == 1


def test_nothing_there() -> None:
    """Without a journal the error says when there is one."""
    ended = casemate("log")
    assert ended.returncode == 125
    assert b"allows endpoints" in ended.stderr
