"""`casemate bench`: every row is there. No figure decides whether a test passes."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import tree
from tests.support.command_line import casemate, needs_script

from casemate.bench.figures import at_least, at_most, figure, median, percentile, ratio_of
from casemate.bench.fixture import (
    QUICK,
    bench_directory,
    launch_for,
    make_project,
    open_sandbox,
)
from casemate.bench.large import make_tree
from casemate.bench.memory import crossing
from casemate.bench.startup import STAGES

ROWS = {
    "start-up": {
        "posix_spawn",
        "bwrap, same tree",
        "open",
        "open + first command",
        "command in a session",
        "close",
        "python -I -S -c pass",
        "python -I -c pass",
        "casemate run, one shot",
    },
    "stages of open": set(STAGES),
    "files, inside / outside": {
        f"{name}, {side}"
        for name in ("git status", "grep -r", "find", "python import", "untar")
        for side in ("inside", "outside")
    }
    | {"open", "git status, first in a session"},
    "network, through the broker": {
        "connect, directly",
        "connect, through the broker",
        "request, directly",
        "request, through the broker",
        "request over TLS, directly",
        "request over TLS, inspected",
        "256 MiB, directly",
        "256 MiB, by tunnel",
    },
    "many at once": {
        "5 sandboxes, open one",
        "5 sandboxes, open all",
        "5 sandboxes, close one",
        "5 sandboxes, close all",
        "processes of an idle sandbox",
        "memory of an idle sandbox",
        "cross-talk seen",
    },
    "large tree": {
        "2000 files, open",
        "2000 files, 50 changes: make them inside",
        "2000 files, 50 changes: close and save",
        "2000 files, 50 changes: diff",
        "2000 files, 50 changes: apply",
    },
}
BARRED = {
    "open + first command",
    "command in a session",
    "casemate run, one shot",
    "git status, inside",
    "grep -r, inside",
    "python import, inside",
    "connect, through the broker",
    "request, through the broker",
    "request over TLS, inspected",
    "256 MiB, by tunnel",
    "memory of an idle sandbox",
    "cross-talk seen",
}


@needs_script
@pytest.mark.needs("supervisor", "user namespaces", "overlay", "git")
def test_every_row_is_measured(tmp_path: Path) -> None:
    """A quick run gives every row of the manual, each positive, and the bars beside theirs."""
    page = tmp_path / "bench.html"
    run = casemate("bench", "--quick", "--json", "--html", page, timeout=120)

    assert run.returncode == 0, run.stderr
    result = json.loads(run.stdout)
    found: dict[str, set[str]] = {}
    for row in result["rows"]:
        found.setdefault(row["section"], set()).add(row["name"])
        if "skipped" in row:
            assert row["name"] == "bwrap, same tree" and not shutil.which("bwrap"), row
        elif row["name"] != "cross-talk seen":
            assert 0 < row["median"] <= row["p95"], row
    assert found == ROWS
    assert {row["name"] for row in result["rows"] if row.get("bars")} == BARRED
    assert result["machine"]["user"] in ("root", "ordinary")
    (mixed,) = (row for row in result["rows"] if row["name"] == "cross-talk seen")
    assert mixed["median"] == 0
    text = page.read_text()
    assert text.startswith("<!doctype html>") and "casemate run, one shot" in text
    assert "src=" not in text and "http" not in text


@needs_script
def test_unwritable_page_is_refused_before_measuring() -> None:
    """A page that could not be written is an error at once, not after a minute."""
    run = casemate("bench", "--quick", "--html", "/no/such/directory/bench.html")

    assert run.returncode == 125
    assert b"cannot write" in run.stderr


def test_stages_are_those_of_the_supervisor() -> None:
    """There is a name for every stage that the supervisor reports."""
    source = (tree.ROOT / "native/supervisor/linux.zig").read_text()
    (marks,) = re.findall(r"pub const Mark = enum\(u32\) \{(.*?)\}", source, re.DOTALL)

    assert len(re.findall(r"\w+", marks)) == len(STAGES) + 1


@pytest.mark.needs("supervisor", "user namespaces", "overlay")
def test_cross_talk_would_be_seen() -> None:
    """One sandbox counted as two, and a mark left in the project, are found out."""
    with bench_directory() as directory:
        project = Path(directory, "project")
        project.mkdir()
        sandboxes = [open_sandbox(launch_for(str(project))) for _ in range(2)]
        try:
            assert crossing(sandboxes, str(project)) == 0
            assert crossing([sandboxes[0], sandboxes[0]], str(project)) == 1
            (project / "bench-mark").touch()
            assert crossing(sandboxes, str(project)) == 1
        finally:
            for sandbox in sandboxes:
                sandbox.close()


@pytest.mark.needs("git")
def test_project_is_the_same_every_time(tmp_path: Path) -> None:
    """Two projects of one size hold the same files with the same content."""
    contents = []
    for name in ("one", "two"):
        root = tmp_path / name
        root.mkdir()
        make_project(str(root), QUICK)
        make_tree(str(root / "large"), 250)
        contents.append(
            {
                path.relative_to(root): path.read_bytes()
                for path in root.rglob("*")
                if path.suffix in (".txt", ".py") and path.is_file()
            }
        )

    assert contents[0] == contents[1]
    assert len(contents[0]) == QUICK.files + QUICK.modules + 1 + 250


VALUES = st.lists(st.floats(0.001, 1000), min_size=1, max_size=40)


@given(VALUES, st.floats(0.01, 1))
def test_percentile_is_a_value_that_enough_do_not_exceed(values: list[float], share: float) -> None:
    """The percentile is one of the values, and the wanted share of all is not above it."""
    found = percentile(values, share)

    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) * (1 - 1e-9)
    assert min(values) <= median(values) <= max(values)


@given(VALUES, st.floats(0.1, 10))
def test_ratio_is_taken_round_by_round(values: list[float], factor: float) -> None:
    """Noise that hits both sides of every round leaves the ratio as it is."""
    slower = [value * factor for value in values]

    assert ratio_of(slower, values) == pytest.approx(factor)
    assert ratio_of(slower, values, "speed") == pytest.approx(1 / factor)


def test_bars_are_met_or_not() -> None:
    """A bar is met up to and including its edge, in its own direction."""
    assert at_most(2.2, 2.2, "").met and not at_most(2.3, 2.2, "").met
    assert at_least(0.97, 0.97, "").met and not at_least(0.9, 0.97, "").met
    assert figure("s", "n", [3.0, 1.0, 2.0]).median == 2.0
