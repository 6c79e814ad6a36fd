"""The package: what a wheel contains, and that it comes out the same every time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from tests.support import tree
from tests.support.command_line import COMMAND, needs_script

PROJECT = tomllib.loads((tree.ROOT / "pyproject.toml").read_text())
PARTS = ["src", "native", "data", "hatch_build.py", "pyproject.toml", "README.md", "LICENSE"]


def build_wheel(source: Path, into: Path, target: str) -> Path:
    """Build a wheel from a copy of the checkout at `source`; without network or isolation."""
    source.mkdir(parents=True)
    for part in PARTS:
        origin = tree.ROOT / part
        if origin.is_dir():
            ignored = shutil.ignore_patterns("bin", "__pycache__")
            shutil.copytree(origin, source / part, ignore=ignored)
        else:
            shutil.copy(origin, source / part)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    environment = os.environ | {"CASEMATE_TARGET": target}
    run = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (wheel,) = into.glob("*.whl")
    return wheel


@pytest.mark.needs("zig")
def test_wheel_is_reproducible(tmp_path: Path) -> None:
    """Two builds, in directories of other names and under another umask, agree to the byte."""
    pytest.importorskip("hatchling", reason="run: pip install --group build")

    first = build_wheel(tmp_path / "one", tmp_path / "first", "x86_64-linux")
    mask = os.umask(0o077)
    try:
        second = build_wheel(tmp_path / "with a space", tmp_path / "second", "x86_64-linux")
    finally:
        os.umask(mask)

    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.needs("zig")
def test_wheel_for_another_machine(tmp_path: Path) -> None:
    """A wheel for aarch64 builds anywhere; it holds a static program and names it in its SBOM."""
    pytest.importorskip("hatchling", reason="run: pip install --group build")

    wheel = build_wheel(tmp_path / "source", tmp_path / "wheel", "aarch64-linux")

    assert wheel.name.endswith("-py3-none-manylinux_2_17_aarch64.musllinux_1_1_aarch64.whl")
    with zipfile.ZipFile(wheel) as archive:
        info = archive.getinfo("casemate/bin/casemate-supervisor")
        program = archive.read(info)
        (bill,) = [name for name in archive.namelist() if ".dist-info/sboms/" in name]
        components = json.loads(archive.read(bill))["components"]
    e_machine = int.from_bytes(program[18:20], "little")
    assert program[:4] == b"\x7fELF"
    assert e_machine == 183  # EM_AARCH64, elf(5)
    assert stat.S_IMODE(info.external_attr >> 16) == 0o755
    assert components[0]["name"] == info.filename
    assert components[0]["hashes"][0]["content"] == hashlib.sha256(program).hexdigest()


def test_build_group_is_the_build_requirement() -> None:
    """What `make` installs to build with is exactly what an isolated build installs."""
    assert PROJECT["dependency-groups"]["build"] == PROJECT["build-system"]["requires"]


def test_compiler_is_pinned_once() -> None:
    """The build hook asks for the version of the compiler that is pinned."""
    hook = (tree.ROOT / "hatch_build.py").read_text()
    (pinned,) = [name for name in PROJECT["build-system"]["requires"] if "ziglang" in name]

    assert f'ZIG_VERSION = "{pinned.partition("==")[2]}"' in hook


@needs_script
def test_script_runs_nothing_of_the_current_directory(project: Path) -> None:
    """A project cannot replace a module of casemate: neither as cwd nor through PYTHONPATH."""
    for trap in ("casemate", "sys", "os", "posix"):
        (project / f"{trap}.py").write_text("raise SystemExit('ran the code of the project')\n")
    bait = [sys.executable, "-c", "import casemate"]
    bare = subprocess.run(bait, cwd=project, capture_output=True, text=True, check=False)
    assert "ran the code of the project" in bare.stderr

    for path in (None, "", str(project), "."):
        environment = dict(os.environ)
        if path is not None:
            environment["PYTHONPATH"] = path
        command = [*COMMAND, "--version"]
        run = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, check=False
        )
        assert run.stdout.startswith("casemate "), run.stderr
