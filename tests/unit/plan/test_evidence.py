"""The check of a cached plan, which every start pays for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import casemate
from casemate.plan.evidence import holds, signature


def test_the_start_up_path_is_light() -> None:
    """Checking evidence and finding casemate's directories brings in no other module."""
    source = str(Path(casemate.__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {source!r}); import os; before = set(sys.modules);"
        "import casemate.plan.evidence, casemate.policy.locations;"
        "casemate.policy.locations.locate({'HOME': os.getcwd()});"
        "print(*(set(sys.modules) - before))"
    )
    told = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    others = {name for name in told.stdout.split() if name.partition(".")[0] != "casemate"}

    assert others <= {"__future__", "pwd"}
    assert "casemate.policy.model" not in told.stdout


def test_signatures(tmp_path: Path) -> None:
    """Existence and content are told apart; what cannot be reached has the empty signature."""
    path = tmp_path / "file"
    assert signature(str(path), True) == ()
    path.write_text("a")
    exists, content = signature(str(path), False), signature(str(path), True)
    path.write_text("ab")

    assert signature(str(path), False) == exists
    assert signature(str(path), True) != content
    assert content[:3] == exists


def test_holds(tmp_path: Path) -> None:
    """A file put in another's place is another file, and something that appears is a change."""
    path, other, absent = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    path.write_text("a")
    other.write_text("a")
    facts = [(str(p), signature(str(p), False), False) for p in (path, other, absent)]
    assert holds(facts)
    assert holds([])

    os.replace(other, path)
    assert not holds(facts[:1])
    absent.write_text("")
    assert not holds(facts[2:])
