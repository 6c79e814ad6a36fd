"""The documents: links that resolve, promises that a test holds, nothing of one machine."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.support import tree

from casemate.policy import model

DOCUMENTS = [path for path in tree.tracked() if path.suffix == ".md"]
GUARANTEES = tree.ROOT / "docs/guarantees.md"
SPECIFICATION = tree.ROOT / "docs/specification.md"
PROMISE = re.compile(r"^\*\*(?P<number>[A-Z]\d+)\*\* +(?P<text>.+)", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
PENDING = "_[test pending]_"

# Written in pieces: this file is searched too.
MACHINE_PATHS = ["/work/" + name for name in ("main", "wt", "shared")]
MACHINE_PATHS += ["/root/" + ".pyenv", "/tmp/" + "venv", "/tmp/" + "brief"]
REGISTRIES = ["pypi." + "org", "pythonhosted" + ".org", "npmjs" + ".org", "crates" + ".io"]
REGISTRIES += ["proxy.golang" + ".org", "registry." + "yarnpkg", "deb.debian" + ".org"]


def anchors(text: str) -> set[str]:
    """The anchors that a Markdown renderer makes of the headings."""
    headings = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", DOCUMENTS, ids=tree.name)
def test_links_resolve(path: Path) -> None:
    """Every relative link of a document names a file, and an anchor in it, that exist."""
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        if not linked.exists() or (
            anchor and linked.suffix == ".md" and anchor not in anchors(linked.read_text())
        ):
            broken.append(target)

    assert not broken


def promises() -> dict[str, str]:
    """Number -> the promise's whole paragraph."""
    text = SPECIFICATION.read_text()
    starts = [*PROMISE.finditer(text)]
    ends = [text.find("\n\n", match.start()) for match in starts]
    return {
        match["number"]: text[match.start() : end if end >= 0 else len(text)]
        for match, end in zip(starts, ends, strict=True)
    }


def test_promises_are_numbered_once() -> None:
    """No two promises share a number, and the numbers of each letter have no gap."""
    numbers = [match["number"] for match in PROMISE.finditer(SPECIFICATION.read_text())]

    assert numbers
    for letter in sorted({number[0] for number in numbers}):
        own = [int(number[1:]) for number in numbers if number[0] == letter]
        assert own == list(range(1, len(own) + 1)), letter


@pytest.mark.parametrize("number", promises())
def test_promise_is_held_by_a_test(number: str) -> None:
    """A promise names at least one test that exists, or says plainly that its test is pending."""
    paragraph = promises()[number]
    named = TEST.findall(paragraph)
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (tree.ROOT / file).exists() or test not in functions(tree.ROOT / file)
    ]

    assert named or PENDING in paragraph
    assert not missing


def test_guarantees_rest_on_promises() -> None:
    """Every guarantee has a row; its proof names promises, and "attack" only ones with a test."""
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| ([^|]+) \|$", GUARANTEES.read_text(), re.MULTILINE)
    known = promises()
    unfounded = []
    for name, proof in rows:
        level, _, numbers = proof.partition(":")
        named = [known.get(number, PENDING) for number in numbers.split()]
        proven = bool(named) and not any(PENDING in paragraph for paragraph in named)
        if level not in ("attack", "test", "design") or (level != "design") != proven:
            unfounded.append(f"{name}: {proof}")

    assert [name for name, _ in rows] == [*model.GUARANTEES]
    assert not unfounded


def functions(path: Path) -> set[str]:
    """Names of the functions in a Python file, methods too."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


def test_nothing_belongs_to_one_machine() -> None:
    """No tracked file holds a path of a developer's machine or the host name of a registry."""
    found = []
    for path in tree.tracked():
        text = path.read_bytes().decode(errors="replace")
        found += [
            f"{tree.name(path)}: {word}" for word in MACHINE_PATHS + REGISTRIES if word in text
        ]

    assert not found
