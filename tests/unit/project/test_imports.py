"""Who may import whom, and what the start of `casemate run` may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support import tree
from tests.support.command_line import COMMAND, needs_script

# A package may import the ones listed, and itself. What is not listed as a key (the SDK, the
# command line) stands on top and may import everything.
FOUNDATION = {"errors"}
ALLOWED = {
    "errors": set(),
    "policy": FOUNDATION,
    "plan": FOUNDATION | {"policy"},
    "supervisor": FOUNDATION | {"policy", "plan"},
    "audit": FOUNDATION,
    "vault": FOUNDATION | {"policy", "audit"},
    "egress": FOUNDATION | {"policy", "audit", "vault"},
    "tiers": FOUNDATION | {"policy", "plan", "supervisor"},
    "workspace": FOUNDATION | {"policy", "plan", "tiers"},
}
TOP = {"bench", "cli", "demo", "sandbox", "sandbox_async", "sdk", "__main__"}
PURE = ("policy", "plan")
# What needs any of these belongs to a tier. (The store of trusted files locks itself: fcntl.)
EFFECTS = {"ctypes", "mmap", "multiprocessing", "resource", "socket", "subprocess"}
EFFECTS |= {"_posixsubprocess", "_socket", "asyncio", "threading", "signal"}

HEAVY = {"asyncio", "dataclasses", "json", "pathlib", "re", "ssl", "subprocess", "typing"}
HOT_PATH_BANNED = HEAVY | {
    "argparse",
    "contextlib",
    "ctypes",
    "difflib",
    "email",
    "enum",
    "functools",
    "hashlib",
    "importlib.metadata",
    "importlib.resources",
    "inspect",
    "ipaddress",
    "logging",
    "pathspec",
    "random",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "tempfile",
    "threading",
    "tomllib",
    "traceback",
    "urllib",
}


def imported(path: Path) -> list[tuple[int, str]]:
    """Line and full name of every import in a file, those within functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{tree.name(path)}:{node.lineno}: relative import"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def test_packages_import_downwards_only() -> None:
    """A package imports only what stands below it, so that each can be read on its own."""
    upward = []
    for name, path in tree.modules().items():
        own = (name.split(".") + [""])[1]
        for line, target in imported(path):
            parts = target.split(".")
            if parts[0] != "casemate" or len(parts) < 2 or own not in ALLOWED:
                continue
            if parts[1] not in ALLOWED[own] | {own, "__version__"}:
                upward.append(f"{tree.name(path)}:{line}: {own} imports {target}")

    assert not upward


def test_every_package_has_its_place() -> None:
    """A new package is given a place in the order before it is written."""
    packages = {name.split(".")[1] for name in tree.modules() if "." in name}

    assert packages <= {*ALLOWED, *TOP}


def test_tiers_do_not_know_policy_files() -> None:
    """A tier reads the policy as a value (`policy.model`), never as text."""
    wrong = [
        f"{tree.name(path)}:{line}: {target}"
        for name, path in tree.modules().items()
        if name.startswith(("casemate.tiers", "casemate.supervisor"))
        for line, target in imported(path)
        if target.startswith("casemate.policy") and not target.startswith("casemate.policy.model")
    ]

    assert not wrong


def test_policy_and_plan_are_free_of_effects() -> None:
    """`policy` and `plan` start no process, open no socket and call no system call directly."""
    wrong = [
        f"{tree.name(path)}:{line}: {target}"
        for name, path in tree.modules().items()
        if name.split(".")[1:2] and name.split(".")[1] in PURE
        for line, target in imported(path)
        if target.split(".")[0] in EFFECTS
    ]

    assert not wrong


def modules_after(code: str) -> set[str]:
    """Names of the modules that are loaded once a fresh interpreter has run `code`."""
    script = f"import sys\nsys.path.insert(0, {str(tree.PACKAGE.parent)!r})\n{code}\n"
    script += "print(chr(10).join(sys.modules))"
    command = [sys.executable, "-I", "-S", "-c", script]
    return set(subprocess.check_output(command, text=True).split())


def test_importing_casemate_costs_nothing() -> None:
    """`import casemate` loads none of the expensive modules of the standard library."""
    assert not HEAVY & modules_after("import casemate")


def test_importing_the_errors_costs_nothing() -> None:
    """`casemate.errors` loads no other module at all."""
    alone = modules_after("import casemate")

    assert modules_after("import casemate, casemate.errors") - alone == {"casemate.errors"}


def knows_run() -> bool:
    """Whether the command line in this checkout has the verb `run` yet."""
    return (tree.PACKAGE / "cli/run.py").exists()


@pytest.mark.needs("supervisor")
@pytest.mark.skipif(not knows_run(), reason="the verb `run` is not part of this checkout yet")
@needs_script
def test_hot_path_imports_only_what_it_uses(project: Path) -> None:
    """A second `casemate run -- true`, with its plan in the cache, loads no expensive module."""
    arguments = ["run", "--", "true"]
    subprocess.run([*COMMAND, *arguments], cwd=project, check=True, capture_output=True)

    # The script itself, by the interpreter of its first line, so that nothing else is measured.
    command = [sys.executable, "-S", "-I", "-X", "importtime", "-c", LAUNCH, *arguments]
    run = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True)

    # -X importtime writes "import time: self | cumulative | name" for every module.
    lines = [line for line in run.stderr.splitlines() if line.startswith("import time:")]
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "casemate.cli.run" in loaded
    assert not {name for name in loaded if {name, name.partition(".")[0]} & HOT_PATH_BANNED}


LAUNCH = f"""
import sys
sys.path.append({str(tree.PACKAGE.parent)!r})
from casemate.cli.main import main
main()
"""
