"""The examples of docs/sdk.md, run as they stand."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
from tests.support import tree

pytestmark = pytest.mark.needs("supervisor", "user namespaces", "overlay")


def test_examples_of_the_sdk_run(project: Path) -> None:
    """Every example in docs/sdk.md gives exactly the output it shows."""
    failed, attempted = doctest.testfile(
        str(tree.ROOT / "docs/sdk.md"),
        module_relative=False,
        globs={"project": str(project)},
        optionflags=doctest.ELLIPSIS,
    )

    assert attempted > 20
    assert failed == 0
