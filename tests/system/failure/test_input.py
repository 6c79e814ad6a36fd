"""Wrong input: what casemate says, and that it does nothing else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import casemate
from tests.support.perimeter import Perimeter

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


def refused(perimeter: Perimeter, *options: str, parts: tuple[str, ...], **settings: Any) -> None:
    """Run with these options and fail unless it is refused with a text that has all the parts."""
    result = perimeter.run("touch", "ran", options=options, **settings)
    text = result.stderr.decode()

    assert (result.returncode, result.stdout) == (125, b""), text
    assert text.startswith("error: ")
    assert all(part in text for part in parts), text
    assert "Traceback" not in text
    assert perimeter.sessions() == ()
    assert not (perimeter.project / "ran").exists()


def test_missing_project(perimeter: Perimeter) -> None:
    """A project that does not exist is named."""
    refused(perimeter, "-C", "/no/such/place", parts=("not a directory: /no/such/place", "-C DIR"))


def test_file_as_project(perimeter: Perimeter) -> None:
    """A file is no project."""
    refused(perimeter, "-C", str(perimeter.project / "README.md"), parts=("not a directory",))


@pytest.mark.needs("ordinary user")
def test_unreadable_project(perimeter: Perimeter) -> None:
    """A project that the user cannot read is refused with its name."""
    perimeter.project.chmod(0)
    try:
        result = perimeter.run("true")
    finally:
        perimeter.project.chmod(0o755)

    assert result.returncode == 125
    assert b"error: " in result.stderr and b"Traceback" not in result.stderr
    assert b"Permission denied" in result.stderr or os.fsencode(perimeter.project) in result.stderr


def test_missing_root(perimeter: Perimeter) -> None:
    """A further root that does not exist is named."""
    refused(perimeter, "--root", "/no/such/root", parts=("/no/such/root",))


def test_missing_policy(perimeter: Perimeter) -> None:
    """A policy file that does not exist is named."""
    refused(perimeter, "--policy", "/no/policy.toml", parts=("/no/policy.toml",))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("version = 1\n[workspce]\nmode = 'direct'\n", (":2", "workspce", "workspace")),
        ("version = 1\n[limits]\nmemory = 'much'\n", (":3", "limits.memory", "much")),
        ("version = 1\n[limits]\nmemory = -5\n", (":3", "limits.memory")),
        ("version = 1\ntier = 'proces'\n", (":2", "tier", "process")),
        ("version = 9\n", (":1", "version")),
        ("version = 1\nx = [\n", (":",)),
        ("version = 1\nextends = ['no-such-preset']\n", (":2", "no-such-preset")),
    ],
)
def test_bad_policy(
    perimeter: Perimeter, tmp_path: Path, text: str, parts: tuple[str, ...]
) -> None:
    """A bad policy file is refused with its name, the line, and the key or value."""
    policy = tmp_path / "policy.toml"
    policy.write_text(text)
    refused(perimeter, "--policy", str(policy), parts=(f"{policy}", *parts))


def test_policy_that_is_not_text(perimeter: Perimeter, tmp_path: Path) -> None:
    """A policy of arbitrary bytes is refused, not decoded somehow."""
    policy = tmp_path / "policy.toml"
    policy.write_bytes(b"\xff\xfe\x00")
    refused(perimeter, "--policy", str(policy), parts=(str(policy),))


def test_policy_of_the_workspace_cannot_widen(perimeter: Perimeter) -> None:
    """An untrusted policy in the project gives nothing; it is said how to trust it."""
    secret = perimeter.home / "secret"
    secret.write_text("hunter2")
    text = f"version = 1\n[files]\nread = ['{secret}']\n"
    (perimeter.project / "casemate.toml").write_text(text)
    result = perimeter.run("cat", str(secret))

    assert b"hunter2" not in result.stdout
    assert result.returncode != 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--no-such-option",), "unknown option: --no-such-option"),
        (("--set", "nonsense"), "KEY=VALUE"),
        (("--set", "limits.memroy=1GiB"), "memroy"),
        (("--set", "limits.output=1kB"), "limits.output: must be at least 1_048_576"),
        (("--workspace", "overly"), "overlay"),
        (("--tier", "vm"), "vm tier"),
        (("--waive", "nonsense"), "nonsense"),
        (("--apply", "--discard"), "exclude each other"),
    ],
)
def test_bad_options(perimeter: Perimeter, options: tuple[str, ...], part: str) -> None:
    """A wrong option or value is refused by name."""
    refused(perimeter, *options, parts=(part,))


def test_no_command() -> None:
    """Without a command there is nothing to run; without a verb the usage is shown."""
    assert b"no command given" in casemate("run").stderr
    assert casemate("run").returncode == 125
    result = casemate("rnu", "--", "true")
    assert (result.returncode, b"casemate run" in result.stderr) == (125, True)


def test_network_that_contradicts_itself(perimeter: Perimeter) -> None:
    """Rules that exclude each other, more ports than can be listened on, and secrets that could go
    nowhere stop the launch: nothing is silently left out."""
    rule = ("--set", 'network.allow=["example.com GET"]')
    refused(
        perimeter,
        *rule,
        "--set",
        'network.opaque=["**.example.com"]',
        parts=("opaque", "example.com"),
    )
    refused(perimeter, "--set", 'network.allow=["example.com:1-65535"]', parts=("ports",))
    secret = ("--set", 'secrets.TOKEN.to=["example.com"]')
    refused(perimeter, *secret, parts=("TOKEN", "network.allow"))


def test_strict(perimeter: Perimeter) -> None:
    """With `strict`, a guarantee that is only soft stops the launch; waived by name it does not."""
    options = ("--set", "strict=true", "--workspace", "direct")
    refused(perimeter, *options, parts=("cannot hold", "protect", "disk", "waive"))
    waived = ("protect", "disk", "file-count", "memory", "edits", "cleanup")
    result = perimeter.run(
        "true", options=(*options, *(word for name in waived for word in ("--waive", name)))
    )

    assert result.returncode == 0, result.stderr
