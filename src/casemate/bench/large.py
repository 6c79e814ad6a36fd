"""A large tree: opening, reviewing and applying should follow the changes, not the tree."""

from __future__ import annotations

import os
import time

from casemate.bench.figures import Row, figure
from casemate.bench.fixture import Sandbox, Size, launch_for, open_sandbox
from casemate.demo.project import base_directories, base_python
from casemate.errors import SandboxError
from casemate.workspace.review import open_review
from casemate.workspace.store import Store

SECTION = "large tree"
PER_DIRECTORY = 100

EDIT = """
import os, sys
count, every = int(sys.argv[1]), int(sys.argv[2])
for number in range(count):
    path = f"{number * every // 100:04}/{number * every % 100:02}.txt"
    if number % 10 < 5:
        open(path, "a").write("changed\\n")
    elif number % 10 < 8:
        open(path + ".new", "w").write("added\\n" * 20)
    else:
        os.unlink(path)
"""
"""Of ten changes, five are edits, three new files and two deletions, spread over the tree."""


def measure(directory: str, size: Size, tier: str = "") -> list[Row]:
    """The rows of the section, on a tree made in `directory`."""
    make_tree(directory, size.large_files)
    readable = ", ".join(f'"{path}"' for path in base_directories())
    launch = launch_for(directory, [f"files.read=[{readable}]"], tier)
    opening = []
    for number in range(max(3, size.file_rounds) + 1):
        sandbox = open_sandbox(launch)
        # The first one reads directories that no cache holds yet.
        opening += [sandbox.opened] if number else []
        sandbox.close()
    name = f"{size.large_files} files"
    rows: list[Row] = [figure(SECTION, f"{name}, open", opening)]
    return rows + _changes(open_sandbox(launch), directory, size)


def make_tree(directory: str, files: int) -> None:
    """As many small files, a hundred a directory."""
    for number in range(files):
        folder = f"{directory}/{number // PER_DIRECTORY:04}"
        if number % PER_DIRECTORY == 0:
            os.makedirs(folder)
        with open(f"{folder}/{number % PER_DIRECTORY:02}.txt", "w") as file:
            file.write(f"file {number}\n")


def _changes(sandbox: Sandbox, directory: str, size: Size) -> list[Row]:
    count = size.large_changes
    every = size.large_files // count
    try:
        editing = sandbox.run([base_python(), "-I", "-S", "-c", EDIT, str(count), str(every)])
    finally:
        closing = sandbox.close(discard=False)
    state, identifier = sandbox.launch["state"], sandbox.record.id
    began = time.perf_counter()
    with open_review(Store(state), identifier) as review:
        comparing = time.perf_counter() - began
        found = len(review.changes)
        began = time.perf_counter()
        applied = review.apply()
        applying = time.perf_counter() - began
    if found != count or len(applied.changes) != count:
        raise SandboxError(
            f"{count} changes were made, {found} found, {len(applied.changes)} applied"
        )
    name = f"{size.large_files} files, {count} changes"
    return [
        figure(SECTION, f"{name}: make them inside", [editing]),
        figure(SECTION, f"{name}: close and save", [closing]),
        figure(SECTION, f"{name}: diff", [comparing]),
        figure(SECTION, f"{name}: apply", [applying]),
    ]
