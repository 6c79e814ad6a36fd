"""What is to be known of git where the tests ask it."""

from __future__ import annotations

import re

UNSETTLED = re.compile(r"[^/!*]\*\*+(?:/|$)")
"""Patterns with two stars after another character. Whether these span directories, git 2.39 decides
by comparing the addresses of two unrelated strings (wildmatch.c): its answer is chance."""

EMPTY_END = re.compile(r"(?:^|/)\*+/?$")
"""Patterns that end in a star alone. Asked about a directory by a slash at the end of its name,
`git check-ignore` lets that star stand for the nothing behind the slash."""
