"""Patterns for review: files that something outside the sandbox runs or believes later."""

from __future__ import annotations

import os
import tomllib
from functools import cache

from casemate.policy.model import Origin, Pattern
from casemate.policy.patterns import parse_pattern


@cache
def flags() -> tuple[Pattern, ...]:
    """The patterns of `flags.toml`; the origin's key says why a file is pointed out."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "flags.toml")
    with open(path, "rb") as file:
        groups = tomllib.load(file)["group"]
    return tuple(
        parse_pattern(text, Origin("review", key=group["reason"]))
        for group in groups
        for text in group["patterns"]
    )
