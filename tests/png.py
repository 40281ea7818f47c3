"""A PNG file, chunk by chunk: Pillow writes neither 16-bit transparency nor a false size."""

import struct
import zlib


def png_bytes(
    width: int, height: int, pixels: bytes, *, bits: int = 8, is_gray: bool = False, transparency: bytes = b""
) -> bytes:
    """Return a PNG with rows of these pixels, which may be fewer than its header says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row_bytes = width * bits // 8 * (1 if is_gray else 3)
    rows = b"".join(b"\0" + pixels[start : start + row_bytes] for start in range(0, len(pixels), row_bytes))
    header = struct.pack(">IIBBBBB", width, height, bits, 0 if is_gray else 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"tRNS", transparency), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks if each[1] or each[0] == b"IEND")
