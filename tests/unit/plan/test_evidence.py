"""Facts about the host: what counts as the same, and what makes a plan stale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from casemate.plan.evidence import holds, signature


def held(path: Path, content: bool) -> list[tuple[str, tuple[int, ...], bool]]:
    return [(str(path), signature(str(path), content), content)]


def test_a_missing_path_has_an_empty_signature(tmp_path: Path) -> None:
    """Absence, and a path no kernel would take, are both ()."""
    assert signature(str(tmp_path / "no"), content=False) == ()
    assert signature(str(tmp_path / "no"), content=True) == ()
    assert signature("a\0b", content=False) == ()


def test_absence_holds_until_something_appears(tmp_path: Path) -> None:
    """A plan made without a file is stale once the file is there."""
    facts = held(tmp_path / "new", content=False)
    assert holds(facts)
    (tmp_path / "new").touch()
    assert not holds(facts)


def test_existence_does_not_notice_content(tmp_path: Path) -> None:
    """What only had to exist may change within."""
    (tmp_path / "file").write_text("a")
    facts = held(tmp_path / "file", content=False)
    (tmp_path / "file").write_text("longer")
    assert holds(facts)


@pytest.mark.parametrize("change", ["edit", "replace", "remove"])
def test_content_notices_every_change(tmp_path: Path, change: str) -> None:
    """An edit, a file put in its place and its removal all make the plan stale."""
    file = tmp_path / "file"
    file.write_text("a")
    facts = held(file, content=True)
    assert holds(facts)
    if change == "edit":
        file.write_text("ab")
    elif change == "replace":
        (tmp_path / "other").write_text("a")
        os.replace(tmp_path / "other", file)
    else:
        file.unlink()
    assert not holds(facts)


def test_a_swapped_link_is_noticed(tmp_path: Path) -> None:
    """A link that leads elsewhere is another one, even if it gets the same inode number."""
    link = tmp_path / "link"
    link.symlink_to("one")
    facts = held(link, content=False)
    for _ in range(20):
        link.unlink()
        link.symlink_to("two")
        assert not holds(facts)


def test_a_directory_become_a_link_is_noticed(tmp_path: Path) -> None:
    """A component of a path replaced by a link makes the plan stale."""
    (tmp_path / "real").mkdir()
    (tmp_path / "place").mkdir()
    facts = held(tmp_path / "place", content=False)
    (tmp_path / "place").rmdir()
    (tmp_path / "place").symlink_to("real")
    assert not holds(facts)


def test_content_behind_a_link_is_followed(tmp_path: Path) -> None:
    """Of content it counts what the path leads to, so a link to another file is noticed."""
    (tmp_path / "one").write_text("a")
    (tmp_path / "two").write_text("a")
    (tmp_path / "link").symlink_to("one")
    facts = held(tmp_path / "link", content=True)
    assert holds(facts)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("two")
    assert not holds(facts)


def test_checking_evidence_imports_next_to_nothing() -> None:
    """It is on the start-up path, where each import costs more than all the checks."""
    program = (
        "import sys, os; before = set(sys.modules); import casemate.plan.evidence;"
        "print(*sorted(set(sys.modules) - before))"
    )
    source = Path(__file__).parents[3] / "src"
    environment = {"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-c", program]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert set(found.stdout.split()) <= {
        "__future__",
        "casemate",
        "casemate.plan",
        "casemate.plan.evidence",
    }
