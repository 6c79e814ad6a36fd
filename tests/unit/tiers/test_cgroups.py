"""Which control groups a session gets, on machines of all kinds: trees of files stand for them."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import capabilities

from casemate.errors import SandboxError
from casemate.policy.model import Limits
from casemate.tiers.linux import cgroups, session
from casemate.tiers.linux.cgroups import find, memberships, mount_points, sweep

ALL = Limits(memory=1 << 30, processes=100, cpus=1.5)
V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


class Machine:
    """A machine as `find` sees it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.mounts = ""
        self.groups = ""
        (root / "proc/self").mkdir(parents=True)

    def group(self, path: str, **files: str) -> Path:
        """A control group with these files."""
        directory = self.root / path.lstrip("/")
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").touch()
        for name, text in files.items():
            (directory / name.replace("__", ".")).write_text(text)
        return directory

    def find(self, limits: Limits = ALL) -> cgroups.Control:
        """What would be used."""
        (self.root / "proc/self/mountinfo").write_text(self.mounts)
        (self.root / "proc/self/cgroup").write_text(self.groups)
        return find(limits, root=str(self.root))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine without control groups."""
    return Machine(tmp_path / "machine")


def delegated(machine: Machine, controllers: str) -> None:
    """A v2 machine whose user owns a slice that shares out these controllers."""
    machine.mounts = V2_MOUNT
    machine.groups = "0::/user.slice/session.scope\n"
    top = machine.group("/sys/fs/cgroup", cgroup__subtree_control="memory pids cpu\n")
    machine.group("/sys/fs/cgroup/user.slice", cgroup__subtree_control=controllers)
    machine.group("/sys/fs/cgroup/user.slice/session.scope", cgroup__subtree_control="")
    top.chmod(0o555)


def test_delegated_version_2(machine: Machine) -> None:
    """The group goes beside this process's own, where controllers are shared out."""
    delegated(machine, "cpu memory pids\n")
    control = machine.find()

    assert (control.kind, control.wrapper) == ("cgroup v2", ())
    assert control.enforced == {"memory", "processes", "cpu"}
    (group,) = control.groups
    assert group.directory == "/sys/fs/cgroup/user.slice/casemate-{id}"
    settings = dict(group.settings)
    assert settings["memory.max"] == str(1 << 30)
    assert settings["pids.max"] == str(100 + cgroups.SLACK_PROCESSES)
    assert settings["cpu.max"] == "150000 100000"


@pytest.mark.parametrize(
    ("controllers", "enforced"),
    [("memory", {"memory"}), ("pids", {"processes"}), ("cpu pids", {"cpu", "processes"})],
)
def test_some_controllers(machine: Machine, controllers: str, enforced: set[str]) -> None:
    """Only what is shared out is claimed to be enforced."""
    delegated(machine, controllers)

    assert machine.find().enforced == enforced


def test_limits_not_asked_for(machine: Machine) -> None:
    """A limit that the policy does not have is not set, and not claimed."""
    delegated(machine, "cpu memory pids")
    control = machine.find(Limits(memory=None, processes=7, cpus=None))

    assert control.enforced == {"processes"}
    assert [name for name, _ in control.groups[0].settings] == ["pids.max"]


@pytest.mark.parametrize("files", [{}, {"cgroup__subtree_control": "io hugetlb\n"}])
def test_nothing_shared_out(machine: Machine, files: dict[str, str]) -> None:
    """A v2 machine that shares out nothing useful gives no group."""
    machine.mounts = V2_MOUNT
    machine.groups = "0::/a/b\n"
    for path in ("/sys/fs/cgroup", "/sys/fs/cgroup/a", "/sys/fs/cgroup/a/b"):
        machine.group(path, **files)

    assert machine.find() == cgroups.Control("")


@pytest.mark.skipif(bool(capabilities.missing("ordinary user")), reason="root may write anywhere")
@pytest.mark.parametrize("what", ["directory", "cgroup.procs"])
def test_not_delegated(machine: Machine, what: str) -> None:
    """Where the directory or its list of processes cannot be written there is no group."""
    delegated(machine, "cpu memory pids")
    slice_ = machine.root / "sys/fs/cgroup/user.slice"
    (slice_ if what == "directory" else slice_ / "cgroup.procs").chmod(0o444 | 0o111)

    assert machine.find().kind == ""
    slice_.chmod(0o755)


def version_1(machine: Machine, own: str = "/docker/x") -> None:
    """A v1 machine with a mount for each controller."""
    lines = []
    for number, names in enumerate(("memory", "pids", "cpu,cpuacct", "freezer")):
        point = f"/sys/fs/cgroup/{names}"
        lines.append(f"{30 + number} 23 0:{number} / {point} rw - cgroup cgroup rw,{names}\n")
        machine.groups += f"{number + 2}:{names}:{own}\n"
        files = {
            "memory": {"memory__limit_in_bytes": "0"},
            "pids": {"pids__max": "max"},
            "cpu,cpuacct": {"cpu__cfs_period_us": "100000", "cpu__cfs_quota_us": "-1"},
        }
        machine.group(point + own, **files.get(names, {}))
    machine.mounts = "".join(lines)


def test_version_1_as_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """As root each v1 controller gets a group below this process's own."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    version_1(machine)
    control = machine.find()

    assert (control.kind, control.enforced) == (
        "cgroup v1",
        frozenset({"memory", "processes", "cpu"}),
    )
    directories = [group.directory for group in control.groups]
    assert directories == [
        f"/sys/fs/cgroup/{name}/docker/x/casemate-{{id}}"
        for name in ("memory", "pids", "cpu,cpuacct")
    ]
    assert dict(control.groups[2].settings) == {
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "150000",
    }


def test_version_1_as_a_user(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user gets no v1 group, whatever the modes say."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    version_1(machine)

    assert machine.find().kind == ""


def test_version_1_without_some(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A controller that is not mounted is left to other means."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    version_1(machine)
    machine.mounts = "".join(
        line for line in machine.mounts.splitlines(True) if "memory" not in line
    )

    assert machine.find().enforced == {"processes", "cpu"}


def test_hybrid(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where v2 is mounted beside v1 and has no controllers, v1 is used."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    version_1(machine)
    machine.mounts += V2_MOUNT.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ")
    machine.groups += "0::/docker/x\n"
    machine.group("/sys/fs/cgroup/unified/docker/x", cgroup__subtree_control="")

    assert machine.find().kind == "cgroup v1"


def stand_in(machine: Machine, uid: int) -> Path:
    """A user's service manager: a socket, and a systemd-run that starts what it is given."""
    (machine.root / f"run/user/{uid}/systemd").mkdir(parents=True)
    (machine.root / f"run/user/{uid}/systemd/private").touch()
    program = machine.root / "usr/bin/systemd-run"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable} -IS\n"
        "import os, sys\n"
        "with open(sys.argv[0] + '.log', 'w') as log: log.write('\\n'.join(sys.argv[1:]))\n"
        "rest = sys.argv[sys.argv.index('--') + 1:]\n"
        "os.execv(rest[0], rest)\n"
    )
    program.chmod(0o755)
    return program


def test_systemd_scope(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a group of its own a user's session is started in a transient scope."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    stand_in(machine, 1234)
    control = machine.find()

    assert (control.kind, control.groups) == ("systemd scope", ())
    assert control.enforced == {"memory", "processes", "cpu"}
    assert {f"MemoryMax={1 << 30}", "CPUQuota=150%"} <= set(control.wrapper)
    assert control.wrapper[-3:] == ("--", "/usr/bin/env", "-i")


def test_no_systemd_scope_for_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root, and a user without a service manager, are not sent there."""
    stand_in(machine, 0)
    for uid in (0, 77):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert machine.find().kind == ""


def test_what_the_scope_starts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the wrapper the supervisor gets its socket and an empty environment."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    program = stand_in(machine, 1234)
    control = machine.find()
    monkeypatch.undo()
    seen = machine.root / "seen"
    supervisor = machine.root / "supervisor"
    supervisor.write_text(
        f"#!/bin/sh\nexec > {seen}\ntr '\\0' '\\n' < /proc/$$/environ; readlink /proc/$$/fd/3\n"
    )
    supervisor.chmod(supervisor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("SECRET", "hunter2")
    with pytest.raises(SandboxError):
        session.Session(str(supervisor), b"", None, control.wrapper)

    (line,) = seen.read_text().splitlines()
    assert line.startswith("socket:")
    assert "hunter2" not in Path(f"{program}.log").read_text()
    assert program.exists()


def test_sweep(machine: Machine) -> None:
    """Empty groups that a killed keeper left long ago are removed; young and other ones stay."""
    base = machine.root / "groups"
    for name in ("casemate-old", "casemate-young", "other-old"):
        (base / name).mkdir(parents=True)
    (base / "casemate-used/child").mkdir(parents=True)
    for name in ("casemate-old", "other-old", "casemate-used"):
        os.utime(base / name, (0, 0))
    sweep(cgroups.Control("cgroup v2", (cgroups.Group(f"{base}/casemate-{{id}}", ()),)))

    assert sorted(os.listdir(base)) == ["casemate-used", "casemate-young", "other-old"]


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    """Whatever the kernel may print there, reading it raises nothing."""
    assert all(isinstance(value, str) for value in mount_points(text).values())
    assert all(isinstance(value, str) for value in memberships(text).values())


def test_this_machine() -> None:
    """What is found here can be written by this process."""
    control = find(ALL)

    for group in control.groups:
        parent = os.path.dirname(group.directory)
        assert os.access(parent, os.W_OK), parent
    if control.wrapper:
        assert subprocess.run([control.wrapper[0], "--version"], check=False).returncode == 0
