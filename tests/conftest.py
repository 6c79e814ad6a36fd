"""What every test has: a private home, and the marks that skip by capability."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import hypothesis
import pytest
from tests.support import capabilities

hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=20_000)
hypothesis.settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "default")
)

FILES = {
    "README.md": "# A project\n",
    "src/app.py": "def add(a, b):\n    return a + b\n",
    "tests/test_app.py": "from app import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n",
    ".env": "API_KEY=sk-secret-of-the-project\n",
    ".gitignore": "*.pyc\n",
}


def pytest_configure() -> None:
    """Undo what `nohup` and background shells do: a program started with a signal ignored keeps
    ignoring it, casemate on purpose, and tests of signals would wait for ever."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    """List what is missing before the first test, so that skips are no surprise."""
    reasons = {name: capabilities.missing(name) for name in capabilities.NAMES}
    there = ", ".join(name for name, reason in reasons.items() if not reason)
    lacking = [f"missing: {name}: {reason}" for name, reason in reasons.items() if reason]
    return [f"this machine has: {there}", *lacking]


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs` when the machine lacks something.

    CASEMATE_REQUIRE lists, by commas, capabilities whose absence is a failure instead ("all" for
    every one): so that continuous integration cannot pass by skipping.
    """
    required = os.environ.get("CASEMATE_REQUIRE", "").split(",")
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            if reason := capabilities.missing(name):
                if name in required or "all" in required:
                    pytest.fail(f"required, yet missing: {name}: {reason}", pytrace=False)
                pytest.skip(f"needs {name}: {reason}")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A private home directory for every test: the user's state is never read nor written."""
    path = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(path))
    for variable, name in (
        ("XDG_CONFIG_HOME", ".config"),
        ("XDG_STATE_HOME", ".local/state"),
        ("XDG_DATA_HOME", ".local/share"),
        ("XDG_CACHE_HOME", ".cache"),
        ("XDG_RUNTIME_DIR", ".run"),
    ):
        (path / name).mkdir(parents=True, mode=0o700)
        monkeypatch.setenv(variable, str(path / name))
    # A test may run below a git hook, or below casemate itself.
    for variable in [name for name in os.environ if name.startswith(("GIT_", "CASEMATE_"))]:
        if variable not in ("CASEMATE_REQUIRE", "CASEMATE_ZIG"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # A broker leaves soon after its test.
    monkeypatch.setenv("CASEMATE_BROKER_IDLE", "0.3")
    (path / ".gitconfig").write_text(
        "[user]\n\tname = Tester\n\temail = tester@example.invalid\n[init]\n\tdefaultBranch = main\n"
    )
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project: a module, its test, an executable, a symbolic link and a secret in `.env`."""
    root = tmp_path / "project"
    for name, text in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "run.sh").write_text("#!/bin/sh\nexec python3 src/app.py\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("README.md")
    return root


@pytest.fixture
def repository(project: Path) -> Path:
    """The same project as a git repository with one commit. Skips without git."""
    if reason := capabilities.missing("git"):
        pytest.skip(f"needs git: {reason}")
    for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=project, check=True)
    return project
