"""The checkout that the tests stand in, as files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src/casemate"


def tracked() -> list[Path]:
    """Every file that is part of the project: tracked by git, or new and not ignored.

    Where there is no git or no repository, every file outside the places that builds write to.
    """
    if shutil.which("git") and (ROOT / ".git").exists():
        # Root may look at a checkout of another user; git asks to be told that this is meant.
        command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
        options = ["--cached", "--others", "--exclude-standard"]
        output = subprocess.check_output([*command, *options], cwd=ROOT, text=True)
        paths = [ROOT / name for name in output.split("\0") if name]
    else:
        built = {".venv", ".zig-cache", "bin", "build", "dist", "__pycache__", ".hypothesis"}
        paths = [path for path in ROOT.rglob("*") if not built & {*path.relative_to(ROOT).parts}]
    return sorted(path for path in paths if path.is_file())


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, as `casemate.policy.model`."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ("casemate", *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def zig_sources() -> list[Path]:
    """Every source file of the native programs."""
    return sorted((ROOT / "native").rglob("*.zig"))


def name(path: Path) -> str:
    """The path as the project's documents write it."""
    return path.relative_to(ROOT).as_posix()
