"""A folder of about 500 images of many formats, modes and sizes in three classes, with copies, broken and other files.

``python -m tests.mixed_folder DIR`` writes one to look at.
"""

import io
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, features

from tests.lfs import POINTER

CLASSES = {"café": 300, "rote Äpfel": 140, "sky": 60}
"""Number of valid images of each class, without copies: the largest is five times the smallest."""
KINDS = (
    *(("RGB", "jpg"), ("RGB", "JPG"), ("L", "jpeg"), ("CMYK", "jpg"), ("RGB", "jfif"), ("RGB", "png"), ("RGBA", "png")),
    *(("P", "png"), ("LA", "png"), ("1", "png"), ("L", "bmp"), ("RGB", "webp"), ("P", "gif"), ("RGB", "tif")),
    *((("RGB", "avif"),) if features.check("avif") else ()),
)
"""Pillow's modes, with endings of names."""
SIDES = (8, 31, 32, 33, 64, 100, 240, 640)
"""Widths and heights in pixels."""
LEFT_OUT = {".psd": 3, ".mov": 2, ".txt": 1, ".db": 1, "": 1}
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
            _photo(rng, color, mode).save(place / f"IMG_{number:04}.{ending}", **_options(rng, ending))
    copies = _copy(folder)
    broken = _break(folder)
    _litter(folder)
    return MixedFolder(folder, sum(CLASSES.values()) + copies, copies, broken)


def _photo(rng: np.random.Generator, color: int, mode: str) -> Image.Image:
    """Return a smooth image with noise, mostly of the color of its class, in any size."""
    width, height = rng.choice(SIDES, 2).tolist()
    coarse = rng.integers(0, 120, (4, 4, 3), np.uint8)
    coarse[..., color] += 130
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    noisy = np.asarray(image) // 8 * 7 + rng.integers(0, 24, (height, width, 3), np.uint8)
    return Image.fromarray(noisy.astype(np.uint8)).convert(mode)


def _options(rng: np.random.Generator, ending: str) -> dict[str, object]:
    if ending.lower() not in ("jpg", "jpeg"):
        return {}
    exif = Image.Exif()
    exif[0x0112] = int(rng.integers(1, 9))
    return {"exif": exif, "progressive": bool(rng.integers(2)), "quality": int(rng.integers(60, 96))}


def _copy(folder: Path) -> int:
    """Copy images under other names: ten in their class, two into another one, others saved again without a loss."""
    cafe = sorted((folder / "café").glob("*.png"))[:12]
    for path in cafe[:10]:
        shutil.copy(path, path.with_name(f"{path.stem} (1).png"))
    for path in cafe[10:]:
        shutil.copy(path, folder / "sky" / f"like {path.name}")
    again = sorted((folder / "sky").glob("IMG_*.bmp"))
    for path in again:
        with Image.open(path) as image:
            image.save(path.with_name(f"{path.stem}_edited.tiff"))
    return len(cafe) + len(again)


def _break(folder: Path) -> int:
    """Write files that cannot be read: cut, empty, of another kind, not fetched, and links to nowhere."""
    whole = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(whole, "JPEG")
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
    number = 0
    for ending, count in LEFT_OUT.items():
        for _ in range(count):
            (folder / "café" / f"other{number}{ending}").write_bytes(b"x")
            number += 1
    for hidden in (".DS_Store", "._IMG_0001.jpg"):
        (folder / "sky" / hidden).write_bytes(b"x")
    for system in ("__MACOSX", "@eaDir"):
        (folder / "sky" / system).mkdir()
        (folder / "sky" / system / "IMG_0001.jpg").write_bytes(b"x")
    (folder / "labels.csv").write_text("file,label\n")
    (folder / "sky" / "more").symlink_to("../café")


if __name__ == "__main__":
    print(make_folder(Path(sys.argv[1])))
