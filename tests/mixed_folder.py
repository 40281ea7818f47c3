"""A folder of some 230 images of many formats, modes and sizes in three classes: copies, broken and other files too."""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features

from tests.lfs import POINTER

CLASSES = {"café": 130, "rote Äpfel": 60, "sky": 26}
"""Number of valid images of each class, without copies: the largest is five times the smallest."""
KINDS = (
    *(("RGB", "jpg"), ("RGB", "JPG"), ("L", "jpeg"), ("CMYK", "jpg"), ("RGB", "jfif"), ("RGB", "png"), ("RGBA", "png")),
    *(("P", "png"), ("LA", "png"), ("1", "png"), ("L", "bmp"), ("RGB", "webp"), ("P", "gif"), ("RGB", "tif")),
    *((("RGB", "avif"),) if features.check("avif") else ()),
)
"""Pillow's modes, with endings of names."""
LEFT_OUT = {".heic": 3, ".mov": 2, ".txt": 1, ".db": 1, "": 1}
"""Number of files that are not read, by extension."""


@dataclass(frozen=True)
class MixedFolder:
    """The folder, and its number of valid images (copies included), copies and broken files."""

    folder: Path
    images: int
    copies: int
    broken: int


def make_folder(folder: Path) -> MixedFolder:
    """Write the folder, always with the same content."""
    rng = np.random.default_rng(0)
    for color, (label, count) in enumerate(CLASSES.items()):
        for number in range(count):
            mode, ending = KINDS[number % len(KINDS)]
            place = folder / label / ("2019 Urlaub" if number % 10 == 0 else "")
            place.mkdir(parents=True, exist_ok=True)
            exif = Image.Exif()
            exif[0x0112] = int(rng.integers(1, 9))
            options = {"exif": exif, "progressive": number % 2 == 0} if ending.lower() in ("jpg", "jpeg") else {}
            _photo(rng, color, mode).save(place / f"IMG_{number:04}.{ending}", **options)
    copies = _copy(folder)
    broken = _break(folder)
    _litter(folder)
    return MixedFolder(folder, sum(CLASSES.values()) + copies, copies, broken)


def _photo(rng: np.random.Generator, color: int, mode: str) -> Image.Image:
    """Return noise, mostly of the color of its class, in any size."""
    height, width = rng.choice((8, 31, 32, 33, 64, 100, 240), 2)
    pixels = rng.integers(0, 120, (height, width, 3), np.uint8)
    pixels[..., color] += 130
    return Image.fromarray(pixels).convert(mode)


def _copy(folder: Path) -> int:
    """Copy images under other names: ten in their class, two into another one, others saved again without a loss."""
    cafe = sorted((folder / "café").glob("*.png"))[:12]
    for path in cafe[:10]:
        shutil.copy(path, path.with_name(f"{path.stem} (1).png"))
    for path in cafe[10:]:
        shutil.copy(path, folder / "sky" / f"like {path.name}")
    again = sorted((folder / "sky").glob("IMG_*.bmp"))
    for path in again:
        Image.open(path).save(path.with_name(f"{path.stem}_edited.tiff"))
    return len(cafe) + len(again)


def _break(folder: Path) -> int:
    """Write files that cannot be read: cut, empty, of another kind, not fetched, and links to nowhere."""
    Image.effect_noise((200, 200), 90).save(whole := io.BytesIO(), "JPEG")
    contents = {
        "cut.jpg": whole.getvalue()[:2000],
        "empty.jpg": b"",
        "page.jpg": b"<!DOCTYPE html><title>404</title>",
        "lfs.png": POINTER,
        'two\nlines, "quoted".png': b"no image",
    }
    for name, content in contents.items():
        (folder / "rote Äpfel" / name).write_bytes(content)
    for number in range(3):
        (folder / "sky" / f"link{number}.jpg").symlink_to("/nonexistent/photo.jpg")
    return len(contents) + 3


def _litter(folder: Path) -> None:
    """Write files that are not read: those of other kinds, hidden ones, system folders and a linked folder."""
    for ending, count in LEFT_OUT.items():
        for number in range(count):
            (folder / "café" / f"other{number}{ending}").write_bytes(b"x")
    for hidden in (".DS_Store", "._IMG_0001.jpg"):
        (folder / "sky" / hidden).write_bytes(b"x")
    for system in ("__MACOSX", "@eaDir"):
        (folder / "sky" / system).mkdir()
        (folder / "sky" / system / "IMG_0001.jpg").write_bytes(b"x")
    (folder / "labels.csv").write_text("file,label\n")
    (folder / "sky" / "more").symlink_to("../café")
