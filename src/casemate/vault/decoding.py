"""Undoes the content codings gzip and deflate as a stream, with a limit against bombs. Pure."""

from __future__ import annotations

import zlib

from casemate.errors import RefusedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PIECE = 64 << 10
"""Bytes decoded at once."""
FREE, RATIO = 64 << 20, 100
"""A stream may decode to `FREE` bytes, and beyond that to `RATIO` times what was read."""
GZIP_MAGIC = b"\x1f\x8b"
_GZIP, _ZLIB, _RAW = 31, 15, -15


class Decoder:
    """One stream. `note` says why it is not decoded (any more); "" as long as it is."""

    def __init__(self, coding: str) -> None:
        self._coding = coding.strip().lower()
        self._stream: zlib._Decompress | None = None
        self._read = self._made = 0
        self._start = b""
        self.note = ""
        if self._coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            self.note = f"content coding {self._coding[:40]} is not decoded"

    @property
    def plain(self) -> bool:
        """Whether the stream says that it is not coded at all."""
        return self._coding in ("", "identity")

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What the bytes decode to; nothing where they are not coded or not decodable.

        Raises `RefusedError` for a bomb.
        """
        if self.note or not data:
            return
        if self._read == 0:
            # Two bytes tell what follows, and they may come one by one.
            self._start += data
            if len(self._start) < len(GZIP_MAGIC):
                return
            data, self._start = self._start, b""
            self._stream = self._begin(data)
        self._read += len(data)
        try:
            while data and self._stream:
                piece = self._stream.decompress(data, PIECE)
                self._made += len(piece)
                if self._made > FREE + RATIO * self._read:
                    raise RefusedError(
                        "a compressed body grows without end when it is unpacked", code="encoding"
                    )
                if piece:
                    yield piece
                data = self._stream.unconsumed_tail
                if self._stream.eof:
                    # Gzip streams may follow each other. RFC 1952 section 2.2.
                    data = self._stream.unused_data
                    self._stream = zlib.decompressobj(_GZIP) if data else self._stream
                elif not data and len(piece) < PIECE:
                    return
                elif not data:
                    yield from self._flush()
                    return
        except zlib.error:
            self._stream = None
            self.note = "the compressed body is damaged"

    def _flush(self) -> Iterator[bytes]:
        """What the decoder holds beyond a full piece although its input is used up."""
        while self._stream:
            piece = self._stream.decompress(b"", PIECE)
            self._made += len(piece)
            if not piece:
                return
            yield piece

    def _begin(self, data: bytes) -> zlib._Decompress | None:
        if self._coding == "deflate":
            # Named for the zlib format, and often sent without it. RFC 9110 section 8.4.1.2.
            wrapped = data[0] & 0x0F == 8 and (data[0] << 8 | data[1]) % 31 == 0
            return zlib.decompressobj(_ZLIB if wrapped else _RAW)
        if not self.plain or data.startswith(GZIP_MAGIC):
            return zlib.decompressobj(_GZIP)
        return None
