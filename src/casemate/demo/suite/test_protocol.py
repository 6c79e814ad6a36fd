"""The supervisor protocol."""

import unittest

from casemate.errors import ProtocolError
from casemate.supervisor import protocol


class Frames(unittest.TestCase):
    """Frames are built and taken apart, whatever the pieces they arrive in."""

    def test_frames_arrive_in_any_pieces(self) -> None:
        """A decoder fed single bytes gives the same frames as one fed all at once."""
        data = protocol.frame(protocol.PONG, b"12345678") + protocol.frame(protocol.NOTICE, b"")
        at_once = list(protocol.Decoder().feed(data))
        decoder = protocol.Decoder()
        piecewise = [frame for byte in data for frame in decoder.feed(bytes([byte]))]
        self.assertEqual(len(at_once), 2)
        self.assertEqual(piecewise, at_once)

    def test_length_out_of_range_is_refused(self) -> None:
        """A frame that claims gigabytes ends the session before anything is allocated."""
        with self.assertRaises(ProtocolError):
            list(protocol.Decoder().feed(b"\xff\xff\xff\x7f" + bytes((protocol.PONG, 0, 0, 0))))

    def test_payload_that_ends_early_is_refused(self) -> None:
        """Reading past the end is an error, not a zero."""
        with self.assertRaises(ProtocolError):
            protocol.Reader(b"\1\2").integer(4)
