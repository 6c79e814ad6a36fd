"""A plan as the supervisor gets it, read back field by field as docs/protocol.md has them."""

from __future__ import annotations

import os
import resource
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.tiers.test_assess import plan

from casemate.plan.model import Bind, Directory, File, Mask, Plan, Root, Scratch, Symlink
from casemate.policy.model import Limits
from casemate.policy.patterns import parse_pattern
from casemate.tiers.linux.launch import compile_launch


class Fields:
    """Takes fields off the packed tail."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        """The next bytes."""
        assert size <= len(self.data)
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def integer(self, size: int) -> int:
        """The next little-endian number."""
        return int.from_bytes(self.take(size), "little")

    def string(self) -> bytes:
        """The next string, with its closing zero checked."""
        value = self.take(self.integer(4))
        assert self.take(1) == b"\0"
        return value

    def patterns(self) -> list[tuple[int, list[bytes]]]:
        """The next list of patterns: flags and segments."""
        found = []
        for _ in range(self.integer(4)):
            flags, count = self.integer(1), self.integer(1)
            found.append((flags, [self.string() for _ in range(count)]))
        return found

    def step(self) -> tuple[object, ...]:
        """The next step: its kind and its fields."""
        kind = self.integer(1)
        if kind in (1, 5):
            return kind, self.integer(4), self.string()
        if kind == 2:
            return kind, self.string(), self.string()
        if kind == 3:
            return kind, self.integer(4), self.string(), self.string()
        if kind == 4:
            return kind, self.integer(1), self.string(), self.string()
        if kind == 6:
            return kind, self.integer(1), self.integer(1), self.string(), self.string()
        assert kind == 7
        return kind, self.string()


@pytest.fixture
def whole(tmp_path: Path) -> Plan:
    """A plan with a step of every kind and odd names."""
    odd = os.fsdecode(b"/odd \xff\nname")
    project = str(tmp_path)
    return replace(
        plan(project=project),
        home=project,
        steps=(
            Directory("/etc", 0o755, ""),
            Symlink("/bin", "usr/bin", ""),
            File("/etc/passwd", b"\0binary\xff", 0o644, ""),
            Bind("/usr", "/usr", False, ""),
            Scratch("/tmp", 0o1777, ""),
            Root(project, project, "overlay", 0, ""),
            Mask(odd, ""),
        ),
        hide=(parse_pattern("!keep/"), parse_pattern("/a/**/b")),
        limits=Limits(memory=None, processes=None, open_files=77),
    )


def test_tail(whole: Plan) -> None:
    """Mask, filter, limits, patterns and steps stand where the supervisor looks for them."""
    launch, _ = compile_launch(whole)
    tail = launch["tail"]
    assert isinstance(tail, bytes)
    fields = Fields(tail)
    fields.string()
    assert len(fields.string()) % 8 == 0
    limits = {
        fields.integer(4): struct.unpack("<QQ", fields.take(16)) for _ in range(fields.integer(4))
    }
    assert fields.integer(4) == 0
    hide, protect = fields.patterns(), fields.patterns()
    assert fields.data == b""
    steps_of_the_plan = launch["steps"]
    assert isinstance(steps_of_the_plan, tuple)
    fields = Fields(steps_of_the_plan[1])
    steps = [fields.step() for _ in range(steps_of_the_plan[0])]

    assert fields.data == b""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = 77 if hard == resource.RLIM_INFINITY else min(77, hard)
    assert limits[resource.RLIMIT_NOFILE] == (wanted, wanted)
    assert limits[resource.RLIMIT_CORE] == (1, 1)
    assert hide == [(3, [b"**", b"keep"]), (0, [b"a", b"**", b"b"])]
    assert protect == [(0, [b".git", b"hooks"])]
    assert (7, b"/odd \xff\nname") in steps
    assert (2, b"/bin", b"usr/bin") in steps
    assert [step[0] for step in steps if step[0] in (4, 6)] == [4, 6]


def test_head(whole: Plan) -> None:
    """Caps, flags and identities follow from the plan and from who asks."""
    launch, _ = compile_launch(replace(whole, limits=replace(whole.limits, time=1.5)))
    caps = launch["caps"]
    assert isinstance(caps, tuple)

    assert caps[:2] == (whole.disk, whole.files)
    assert caps[4] == 1500
    assert launch["inside"] == ((1000, 1000) if os.geteuid() == 0 else (os.getuid(), os.getgid()))


def test_every_plan_gives_plain_values(whole: Plan) -> None:
    """A launch can be kept with `marshal`, which knows nothing but plain values."""
    import marshal

    launch, _ = compile_launch(whole)

    assert marshal.loads(marshal.dumps(launch)) == launch
