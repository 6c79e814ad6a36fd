"""The shape of the source: sizes, names, docstrings."""

from __future__ import annotations

import ast

import pytest
from tests.support import tree

MODULE_LINES = 400
PACKAGE_LINES = 60
TEST_LINES = 600
BANNED = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def test_modules_are_short() -> None:
    """No module is over 400 lines, no `__init__` over 60, no file of tests over 600."""
    limits = dict.fromkeys(tree.modules().values(), MODULE_LINES)
    limits |= dict.fromkeys((tree.ROOT / "tests").rglob("*.py"), TEST_LINES)
    limits |= {path: PACKAGE_LINES for path in limits if path.name == "__init__.py"}
    lines = {path: len(path.read_text().splitlines()) for path in limits}

    assert not {tree.name(path): lines[path] for path in limits if lines[path] > limits[path]}


def test_names_say_what_is_inside() -> None:
    """No file, class or function is named by a word that could mean anything."""
    vague = []
    for path in tree.tracked():
        words = set(path.stem.lower().split("_")) | {part.lower() for part in path.parts[:-1]}
        if BANNED & (words - {part.lower() for part in tree.ROOT.parts}):
            vague.append(tree.name(path))
    for module, path in tree.modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                lower = node.name.lower()
                if BANNED & set(lower.split("_")) or lower.endswith(("manager", "helper")):
                    vague.append(f"{module}.{node.name}")

    assert not vague


def test_every_module_has_a_docstring() -> None:
    """Every module of the package and of the tests says in a docstring what it is."""
    paths = [*tree.modules().values(), *(tree.ROOT / "tests").rglob("*.py")]
    bare = [
        tree.name(path)
        for path in paths
        if path.read_text() and not ast.get_docstring(ast.parse(path.read_text()))
    ]

    assert not bare


def public_definitions(
    module: ast.Module,
) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The classes and functions at the top of a module whose names are public."""
    return [
        node
        for node in module.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
    ]


def test_every_public_name_has_a_docstring() -> None:
    """Every public class and function of the package has a docstring."""
    bare = [
        f"{name}.{node.name}"
        for name, path in tree.modules().items()
        for node in public_definitions(ast.parse(path.read_text()))
        if not ast.get_docstring(node)
    ]

    assert not bare


def test_every_test_states_the_behaviour() -> None:
    """Every test has a docstring whose first paragraph ends like a sentence."""
    bare = []
    for path in (tree.ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            first = (ast.get_docstring(node) or "").partition("\n\n")[0]
            if node.name.startswith("test_") and not first.endswith((".", "?", ":")):
                bare.append(f"{tree.name(path)}::{node.name}")

    assert not bare


@pytest.mark.parametrize("word", ["print", "breakpoint"])
def test_only_the_command_line_prints(word: str) -> None:
    """Nothing below the command line writes to the user's terminal."""
    calls = []
    for name, path in tree.modules().items():
        if name.startswith(("casemate.cli", "casemate.demo", "casemate.bench")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            function = node.func if isinstance(node, ast.Call) else None
            if isinstance(function, ast.Name) and function.id == word:
                calls.append(f"{name}:{function.lineno}")

    assert not calls
