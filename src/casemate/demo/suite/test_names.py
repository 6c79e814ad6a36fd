"""Names that came out of a sandbox."""

import unittest

from casemate.workspace.names import display, path_problem, to_bytes, to_text


class Names(unittest.TestCase):
    """Hostile names are refused or shown harmlessly."""

    def test_path_that_climbs_is_refused(self) -> None:
        """Only plain relative paths pass."""
        for path in (b"", b"/etc/passwd", b"a/../../b", b"a//b", b"./a", b"a\0b"):
            self.assertTrue(path_problem(path), path)
        self.assertEqual(path_problem(b"a/b c/d"), "")

    def test_control_characters_are_escaped(self) -> None:
        """A name cannot move the cursor of the terminal it is shown on."""
        shown = display(b"a\x1b[2Jb\n")
        self.assertTrue(shown.isprintable())
        self.assertIn("\\x1b", shown)

    def test_every_byte_survives(self) -> None:
        """Names need not be UTF-8."""
        name = bytes(range(1, 256))
        self.assertEqual(to_bytes(to_text(name)), name)
