"""What `doctor` makes of a machine: every setting in the way is named, with its remedy."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from casemate.tiers.linux import machine, trial
from casemate.tiers.linux.trial import Refused


def write(root: Path, path: str, text: str) -> None:
    """A file of a made-up machine."""
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.mark.parametrize(
    ("path", "value", "setting"),
    [
        (
            "proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1\n",
            "kernel.apparmor_restrict_unprivileged_userns = 1",
        ),
        (
            "proc/sys/kernel/unprivileged_userns_clone",
            "0\n",
            "kernel.unprivileged_userns_clone = 0",
        ),
        ("proc/sys/user/max_user_namespaces", "0\n", "user.max_user_namespaces = 0"),
        ("proc/self/status", "Name:\tx\nSeccomp:\t2\n", "seccomp filter of the container"),
    ],
)
def test_what_refuses_namespaces_is_named(
    tmp_path: Path, path: str, value: str, setting: str
) -> None:
    """The host's setting that refuses user namespaces is found, with a way round it."""
    write(tmp_path, path, value)
    fact = machine.namespaces(Refused("create a user namespace", errno.EPERM), str(tmp_path))

    assert fact.state == "no"
    assert setting in fact.setting
    assert fact.remedy


def test_namespaces_that_work_need_no_remedy(tmp_path: Path) -> None:
    """Where namespaces work no setting is blamed, whatever it says."""
    write(tmp_path, "proc/sys/kernel/unprivileged_userns_clone", "0\n")
    fact = machine.namespaces(None, str(tmp_path))

    assert (fact.state, fact.setting, fact.remedy) == ("yes", "", "")


def test_a_masked_proc_is_blamed_on_the_container(tmp_path: Path) -> None:
    """Mounts over parts of /proc explain why a fresh one is refused."""
    line = "30 20 0:5 / /proc/kcore rw,nosuid - devtmpfs none rw\n"
    write(tmp_path, "proc/self/mountinfo", line)
    fact = machine.process_list(Refused("mount /proc", errno.EPERM), str(tmp_path))

    assert "/proc/kcore" in fact.setting
    assert "systempaths=unconfined" in fact.remedy


@pytest.mark.parametrize(
    ("release", "state"),
    [("6.18.44-fc", "yes"), ("6.12.0", "partly"), ("5.10.0-28-amd64", "no"), ("odd", "partly")],
)
def test_the_kernel_is_told_by_its_version(release: str, state: str) -> None:
    """A kernel too old for the second wall is told so."""
    assert machine.kernel(release).state == state


@pytest.mark.parametrize(("version", "state"), [(7, "yes"), (6, "yes"), (4, "partly"), (0, "no")])
def test_landlock_is_told_by_its_version(tmp_path: Path, version: int, state: str) -> None:
    """An older Landlock is told to lack something."""
    write(tmp_path, "sys/kernel/security/lsm", "lockdown,capability")
    fact = machine.landlock(version, str(tmp_path))

    assert fact.state == state
    assert ("lockdown" in fact.setting) is (state == "no")


def test_few_watches_are_a_limit(tmp_path: Path) -> None:
    """A small number of inotify watches comes with the command that raises it."""
    write(tmp_path, "proc/sys/fs/inotify/max_user_watches", "8192\n")
    fact = machine.watches(str(tmp_path))

    assert fact.state == "partly"
    assert "fs.inotify.max_user_watches = 8192" in fact.setting
    assert "sysctl" in fact.remedy


def test_what_is_missing_comes_with_a_step(tmp_path: Path) -> None:
    """Devices that are not there are told with what would bring them."""
    for fact in (machine.hypervisor, machine.enclave, machine.tpm):
        found = fact(str(tmp_path))

        assert found.state == "no"
        assert found.remedy


def test_a_trial_tells_what_was_refused() -> None:
    """What goes wrong in the child is told by step and errno; success is None."""

    def refused() -> None:
        raise Refused("do it", errno.EPERM)

    def killed() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    assert trial.attempt(lambda: None) is None
    found = trial.attempt(refused)
    assert found is not None
    assert (found.step, found.number) == ("do it", errno.EPERM)
    found = trial.attempt(lambda: open("/no/such/file").close())
    assert found is not None
    assert found.number == errno.ENOENT
    found = trial.attempt(killed)
    assert found is not None
    assert "killed" in found.step
