"""docs/cli.md against the table of options."""

from __future__ import annotations

import re

from tests.support import tree

from casemate.cli.main import VERBS
from casemate.cli.options import arguments_of, run_options

TEXT = (tree.ROOT / "docs/cli.md").read_text()


def test_every_verb_is_documented() -> None:
    """The table at the top has every verb, and no other."""
    table = TEXT.partition("Every verb that reports")[0]
    listed = re.findall(r"^\| \[?`(\w+)`", table, re.MULTILINE)

    assert sorted(listed) == sorted(VERBS)


def test_every_option_is_documented() -> None:
    """Every long option of every verb is named in the text, and no other is."""
    known = {name for verb in VERBS for option in arguments_of(verb) for name in option.names}
    known |= {name for option in run_options() for name in option.names}
    known = {name for name in known if name.startswith("--")} | {"--help", "--version"}
    named = set(re.findall(r"--[a-z][a-z-]+", TEXT))

    assert named <= known
    assert known - named <= {"--help", "--version"}
