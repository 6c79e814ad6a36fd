"""The project the stand-in agent works on: a copy, and the command that runs its tests."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

from casemate.errors import UsageError

FILES_MAX, BYTES_MAX = 20_000, 256 << 20
SKIPPED = {
    ".git", ".hg", ".venv", "venv", "node_modules", "target", "__pycache__", ".tox", ".nox",
    ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".zig-cache", ".next", "bin",
}  # fmt: skip
"""Directories left out of a copy: what tools fetched or built."""

OWN_README = """\
# casemate

The source of the casemate that is running, with a part of its tests.
"""


@dataclass(frozen=True, slots=True)
class Project:
    """What is worked on. `tests` is a command, empty where none is known."""

    name: str
    source: str
    tests: tuple[str, ...]
    tests_name: str
    environment: dict[str, str]
    """Variables that the tests need, with `{}` for the copy's path."""
    readable: tuple[str, ...]
    """Directories outside that the tests need."""
    own: bool = False


def base_python() -> str:
    """The interpreter behind this one: outside any virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)


def base_directories() -> tuple[str, ...]:
    """What the sandbox must see for `base_python` to run."""
    found = {os.path.realpath(sys.base_prefix), os.path.realpath(sys.base_exec_prefix)}
    return tuple(sorted(path for path in found if not _is_system(path)))


def _is_system(path: str) -> bool:
    return path == "/" or path == "/usr" or path.startswith("/usr/")


def own_source() -> Project:
    """Casemate's own source, as installed, and a test suite for the standard library alone."""
    import casemate

    source = os.path.dirname(os.path.abspath(casemate.__file__))
    tests = (base_python(), "-S", "-m", "unittest", "discover", "-s", "tests", "-t", ".")
    return Project(
        "casemate's own source", source, tests, "python3 -m unittest", {"PYTHONPATH": "{}/src"},
        (), own=True,
    )  # fmt: skip


def find_project(path: str) -> Project:
    """The project at `path` and the command that tests it, told by the files it has.

    Nothing of the project is run or imported to find out. Raises `UsageError`.
    """
    source = os.path.realpath(path)
    if not os.path.isdir(source):
        raise UsageError(f"not a directory: {path}", hint="casemate demo DIRECTORY")
    name = os.path.basename(source)
    there = set(os.listdir(source))
    if there & {"pyproject.toml", "setup.py", "setup.cfg", "pytest.ini", "tox.ini"} or (
        "tests" in there and any(entry.endswith(".py") for entry in os.listdir(f"{source}/tests"))
    ):
        return _python_project(name, source)
    if "package.json" in there:
        return Project(name, source, ("npm", "test", "--silent"), "npm test", {}, ())
    if "Cargo.toml" in there:
        return Project(name, source, ("cargo", "test", "--offline"), "cargo test", {}, ())
    if "go.mod" in there:
        return Project(name, source, ("go", "test", "./..."), "go test", {}, ())
    if "Makefile" in there and _has_target(f"{source}/Makefile"):
        return Project(name, source, ("make", "test"), "make test", {}, ())
    return Project(name, source, (), "", {}, ())


def _python_project(name: str, source: str) -> Project:
    environment = {"PYTHONPATH": "{}/src:{}"}
    for candidate in (f"{source}/.venv", f"{source}/venv", os.environ.get("VIRTUAL_ENV", ""),
                      sys.prefix):  # fmt: skip
        python = f"{candidate}/bin/python"
        if candidate and _has_pytest(candidate) and _shares_base(candidate):
            pytest = (python, "-m", "pytest", "-q", "-p", "no:cacheprovider")
            return Project(name, source, pytest, "pytest", environment, (candidate,))
    directory = "tests" if os.path.isdir(f"{source}/tests") else "."
    tests = (base_python(), "-m", "unittest", "discover", "-s", directory, "-t", ".")
    return Project(name, source, tests, "python3 -m unittest", environment, ())


def _has_pytest(environment: str) -> bool:
    try:
        versions = os.listdir(f"{environment}/lib")
    except OSError:
        return False
    return any(os.path.isdir(f"{environment}/lib/{v}/site-packages/pytest") for v in versions)


def _shares_base(environment: str) -> bool:
    """Whether its interpreter is one that the sandbox sees anyway.

    The interpreter it names is not made visible for its sake: a project could name any directory.
    """
    real = os.path.realpath(f"{environment}/bin/python")
    return real == base_python() or _is_system(real)


def _has_target(makefile: str) -> bool:
    with open(makefile, encoding="utf-8", errors="replace") as file:
        return any(line.startswith("test:") for line in file)


def copy(project: Project, target: str) -> int:
    """Copies the project, without links that lead elsewhere; gives the number of files.

    A `.git` of an empty repository is made, so that there are hooks to plant. Raises
    `UsageError` for a project that is too large to copy.
    """
    into = f"{target}/src/casemate" if project.own else target
    files = _copy_tree(project.source, into)
    if project.own:
        suite = os.path.join(os.path.dirname(os.path.abspath(__file__)), "suite")
        files += _copy_tree(suite, f"{target}/tests")
        with open(f"{target}/README.md", "w") as file:
            file.write(OWN_README)
        files += 1
    for directory in ("objects", "refs/heads", "hooks"):
        os.makedirs(f"{target}/.git/{directory}")
    for name, text in (
        ("HEAD", "ref: refs/heads/main\n"),
        ("config", "[core]\n\trepositoryformatversion = 0\n\tbare = false\n"),
    ):
        with open(f"{target}/.git/{name}", "w") as file:
            file.write(text)
    return files


def _copy_tree(source: str, target: str) -> int:
    files = size = 0
    for directory, directories, names in os.walk(source):
        directories[:] = [name for name in directories if name not in SKIPPED]
        into = os.path.join(target, os.path.relpath(directory, source))
        os.makedirs(into, exist_ok=True)
        for name in names:
            path = os.path.join(directory, name)
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            files, size = files + 1, size + os.path.getsize(path)
            if files > FILES_MAX or size > BYTES_MAX:
                raise UsageError(
                    f"{source} is too large to copy for a demonstration: more than "
                    f"{FILES_MAX} files or {BYTES_MAX >> 20} MiB",
                    hint="name a smaller project, or a part of it",
                )
            try:
                shutil.copy(path, os.path.join(into, name))
            except PermissionError:
                files -= 1
    return files
