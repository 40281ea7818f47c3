"""PNG files: checksums, texts, and fast decoding of plain files."""

import os
import struct
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .contract import Shape

SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG file."""
_RGB = bytes((8, 2, 0, 0, 0))
"""End of the header of an RGB image with 8 bits per channel that is not interlaced."""
_TEXTS = frozenset((b"iCCP", b"iTXt", b"tEXt", b"zTXt"))
"""Chunks with texts and color profiles. Pillow refuses large ones, but they do not affect the pixels."""


def plain_pixels(content: bytes, shape: Shape) -> NDArray[np.uint8] | None:
    """Return the pixels of a PNG file, uint8 of ``shape``, RGB, or None if it is damaged, not plain or of another size.

    A plain file has RGB pixels of 8 bits per channel and no other chunk. Its pixels come from Pillow's decoder, as
    those of any PNG file; opening a small file takes Pillow as long as decoding it, and holds Python's global lock.
    """
    beginning = SIGNATURE + _chunk(b"IHDR" + struct.pack(">II", shape[1], shape[0]) + _RGB)
    if not content.startswith(beginning):
        return None
    data, place, kind = [], len(beginning), b"IDAT"
    while kind == b"IDAT":
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        chunk = content[place + 4 : end - 4]
        kind = chunk[:4]
        if kind not in (b"IDAT", b"IEND") or content[place:end] != _chunk(chunk):
            return None
        data.append(chunk[4:])
        place = end
    try:
        return np.asarray(Image.frombytes("RGB", (shape[1], shape[0]), b"".join(data), "zip", "RGB"))
    except ValueError:  # damaged: opening the file tells how
        return None


def _chunk(content: bytes) -> bytes:
    """Return kind and data of a chunk with the size before and the CRC behind them."""
    return struct.pack(f">I{len(content)}sI", len(content) - 4, content, zlib.crc32(content))


def without_texts(content: bytes) -> bytes | None:
    """Return a PNG file without its texts and color profile, or None for other files and those without."""
    kept, place = [content[: len(SIGNATURE)]], len(SIGNATURE)
    while content.startswith(SIGNATURE) and place < len(content):
        end = place + 12 + int.from_bytes(content[place : place + 4], "big")
        if content[place + 4 : place + 8] not in _TEXTS:
            kept.append(content[place:end])
        place = end
    bare = b"".join(kept)
    return bare if len(kept) > 1 and len(bare) < len(content) else None


def require_checksums(file: IO[bytes]) -> None:
    """Raise ValueError if the CRC of a PNG file's pixels does not match, which Pillow does not check.

    Damage elsewhere is ignored, as viewers do. The position in the file is kept.
    """
    position, kind = file.tell(), b""
    file.seek(len(SIGNATURE))
    while kind != b"IEND" and len(head := file.read(8)) == 8:
        size_bytes, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IDAT":
            found, stored = zlib.crc32(file.read(size_bytes), zlib.crc32(kind)), file.read(4)
            if len(stored) == 4 and int.from_bytes(stored, "big") != found:
                raise ValueError("broken PNG file: the CRC of its pixels does not match")
        else:
            file.seek(size_bytes + 4, os.SEEK_CUR)
    file.seek(position)
