"""Patterns over paths."""

import unittest

from casemate.errors import PolicyError
from casemate.policy.patterns import Matcher, parse_pattern


def matches(patterns: str, path: str) -> bool:
    """Whether the last matching of several patterns is not negated."""
    matcher = Matcher(tuple(map(parse_pattern, patterns.split())))
    return matcher.find([part.encode() for part in path.split("/")], False) is not None


class Patterns(unittest.TestCase):
    """The semantics of gitignore(5)."""

    def test_name_matches_at_any_depth(self) -> None:
        """A pattern without slash is not tied to the top."""
        self.assertTrue(matches(".env", "a/b/.env"))
        self.assertFalse(matches("/.env", "a/b/.env"))

    def test_later_pattern_takes_back(self) -> None:
        """A negated pattern undoes an earlier one."""
        self.assertFalse(matches("*.pem !public.pem", "public.pem"))
        self.assertTrue(matches("*.pem !public.pem", "private.pem"))

    def test_directory_covers_what_is_in_it(self) -> None:
        """Nothing below a matched directory can be taken back."""
        self.assertTrue(matches(".ssh/ !id.pub", ".ssh/id.pub"))

    def test_star_stays_within_a_component(self) -> None:
        """One star spans no slash, two do."""
        self.assertFalse(matches("/a/*.txt", "a/b/c.txt"))
        self.assertTrue(matches("/a/**/*.txt", "a/b/c.txt"))

    def test_pattern_that_never_matches_is_refused(self) -> None:
        """A rule that silently does nothing is an error."""
        with self.assertRaises(PolicyError):
            parse_pattern("[")
