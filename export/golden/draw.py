"""The golden images: small synthetic pictures of the kinds that apps get wrong, each drawn from a seed."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.PngImagePlugin import PngInfo

ORIENTATION = 0x0112
"""EXIF's tag for how the camera was held; 6 asks for a quarter turn clockwise, 3 for a half turn."""
JPEG_BLOCK = 8
"""A JPEG whose 8x8 blocks are flat holds nothing but rounded means: every decoder gives the same pixels."""


@dataclass(frozen=True)
class Drawing:
    """A picture, what is awkward about it, and how it is saved."""

    file: str
    what: str
    image: Image.Image
    options: dict[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the file into ``folder``."""
        self.image.save(folder / self.file, **self.options)


def drawings() -> Iterator[Drawing]:
    """Yield every golden image, always the same ones, the plainest first."""
    yield Drawing("exact.png", "32x32 RGB: goes in untouched", Image.fromarray(_cells(1, 32, 32)))
    yield from _sizes()
    yield from _alphas()
    yield from _modes()
    yield from _turned()
    yield from _containers()


def _sizes() -> Iterator[Drawing]:
    yield Drawing("square.png", "96x96: scaled down by exactly 3", Image.fromarray(_cells(2, 96, 96, cell=4)))
    yield Drawing("wide.png", "75x40: cropped, the spare column stays right", Image.fromarray(_cells(3, 40, 75)))
    yield Drawing("tall.png", "33x98: cropped, the spare row stays below", Image.fromarray(_cells(4, 98, 33)))
    yield Drawing("large.png", "331x257: scaled down by 8.03", Image.fromarray(_cells(5, 257, 331, cell=11)))
    yield Drawing("tiny.png", "7x5: scaled up", Image.fromarray(_cells(6, 5, 7, cell=1)))


def _alphas() -> Iterator[Drawing]:
    transparency = np.linspace(0, 255, 48 * 48).reshape(48, 48).astype(np.uint8)
    rgba = np.dstack([_cells(7, 48, 48), transparency])
    yield Drawing("alpha.png", "48x48 RGBA, every transparency: laid over white", Image.fromarray(rgba))
    grey = np.dstack([_cells(8, 44, 52)[:, :, 0], _cells(9, 44, 52)[:, :, 0]])
    yield Drawing("grey-alpha.png", "52x44 grey with alpha", Image.fromarray(grey))
    palette = Image.fromarray(_cells(10, 50, 37)).quantize(16)
    options = {"transparency": bytes([0, 128, *[255] * 14])}
    yield Drawing("palette-alpha.png", "37x50 palette, one colour clear and one half clear", palette, options)


def _modes() -> Iterator[Drawing]:
    yield Drawing("grey.png", "45x45 grey", Image.fromarray(_cells(11, 45, 45)[:, :, 0]))
    yield Drawing("palette.png", "50x37 palette", Image.fromarray(_cells(12, 37, 50)).quantize(16))
    yield Drawing("bilevel.png", "64x64, one bit per pixel", Image.fromarray(_cells(13, 64, 64)[:, :, 0] > 127))
    deep = _cells(14, 40, 40)[:, :, 0].astype(np.uint16) * 256 + _cells(15, 40, 40)[:, :, 1]
    yield Drawing("grey-16-bit.png", "40x40, 16 bits: the high byte counts", Image.fromarray(deep))


def _turned() -> Iterator[Drawing]:
    flat = Image.fromarray(_cells(16, 40, 56, cell=JPEG_BLOCK))
    options = {"quality": 100, "subsampling": 0, "exif": _turn(6)}
    yield Drawing("turned.jpg", "56x40 JPEG of flat blocks, EXIF orientation 6: stands upright first", flat, options)
    mirrored = Image.fromarray(_cells(17, 32, 32, cell=JPEG_BLOCK))
    options = {"quality": 100, "subsampling": 0, "exif": _turn(7)}
    yield Drawing(
        "mirrored.jpg", "32x32 JPEG of flat blocks, EXIF orientation 7: mirrored and turned", mirrored, options
    )


def _turn(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def _containers() -> Iterator[Drawing]:
    chunk = PngInfo()
    chunk.add(b"gAMA", (100_000).to_bytes(4, "big"))  # pixels proportional to light
    linear = Image.fromarray(_cells(18, 36, 36))
    yield Drawing("gamma.png", "36x36 PNG that asks for gamma 1: ignored", linear, {"pnginfo": chunk})
    first, second = (Image.fromarray(_cells(seed, 40, 48, cell=6)).quantize(16) for seed in (19, 20))
    options = {"save_all": True, "append_images": [second], "duration": 100, "loop": 0}
    yield Drawing("animated.gif", "48x40 GIF: the first frame counts", first, options)
    lossless = Image.fromarray(_cells(21, 39, 51))
    yield Drawing("lossless.webp", "51x39 WebP without loss", lossless, {"lossless": True, "exact": True})


def _cells(seed: int, height: int, width: int, cell: int = 3) -> NDArray[np.uint8]:
    """Return uint8 (height, width, 3): square cells of random colours, whose edges tell one filter from another."""
    rng = np.random.Generator(np.random.PCG64(seed))
    coarse = rng.integers(0, 256, (height // cell + 1, width // cell + 1, 3), np.uint8)
    return coarse.repeat(cell, axis=0).repeat(cell, axis=1)[:height, :width]
