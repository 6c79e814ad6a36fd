"""Sizes and durations."""

import unittest

from casemate.errors import PolicyError
from casemate.policy.units import format_duration, format_size, parse_duration, parse_size


class Sizes(unittest.TestCase):
    """Sizes with units."""

    def test_binary_and_decimal_units_differ(self) -> None:
        """GiB counts by 1024, GB by 1000."""
        self.assertEqual(parse_size("2GiB"), 2 << 30)
        self.assertEqual(parse_size("2GB"), 2 * 10**9)

    def test_ambiguous_unit_is_refused(self) -> None:
        """A bare G means either, so it is refused with both spellings."""
        with self.assertRaises(PolicyError) as raised:
            parse_size("2G")
        self.assertIn("GiB", raised.exception.hint)

    def test_formatted_size_can_be_read_back(self) -> None:
        """What is printed is what can be written."""
        for size in (0, 1, 1000, 1024, 1500, 2 << 30, 10**12):
            self.assertEqual(parse_size(format_size(size)), size)


class Durations(unittest.TestCase):
    """Durations with units."""

    def test_units_add_up(self) -> None:
        """Parts with units are summed."""
        self.assertEqual(parse_duration("1h30m"), 5400)

    def test_nonsense_is_refused(self) -> None:
        """A number without unit, a unit without number and an unknown unit are errors."""
        for text in ("", "90", "h", "2y", "1h 30m", "-1s"):
            with self.assertRaises(PolicyError, msg=text):
                parse_duration(text)

    def test_formatted_duration_can_be_read_back(self) -> None:
        """What is printed is what can be written."""
        for seconds in (0.0, 0.5, 59.0, 3600.0, 90061.001):
            self.assertAlmostEqual(parse_duration(format_duration(seconds)), seconds)
