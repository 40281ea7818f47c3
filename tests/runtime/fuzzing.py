"""Shared code of the fuzz tests: kinds of damage, number of examples, and allowed results."""

import faulthandler
import io
import sys

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from PIL import Image

from cifarnet.errors import DataError, ModelError
from cifarnet.runtime.prediction import Prediction

EXAMPLES = settings.default.max_examples
"""Number of examples of each kind, as tests/conftest.py sets it for the suite and for `make nightly`."""
HANGING_S = 300
"""One example that takes longer hangs: the process ends then, with every thread's place. They take milliseconds; a
machine may be that much slower under load, and all of them together have no limit."""


def image_files() -> list[bytes]:
    """Return small files of every format and several modes, the seeds of the damage."""
    noise = np.random.Generator(np.random.PCG64(3)).integers(0, 256, (20, 24, 3), np.uint8)
    colour = Image.fromarray(noise)
    files = []
    for kind in ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"):
        buffer = io.BytesIO()
        colour.save(buffer, kind)
        files.append(buffer.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    for image, kind, options in (
        (colour.convert("RGBA"), "PNG", {}),
        (colour.convert("P"), "PNG", {"transparency": 0, "exif": exif}),
        (colour.convert("CMYK"), "JPEG", {"exif": exif, "progressive": True}),
        (Image.fromarray(noise[:, :, 0].astype(np.uint16) * 257), "TIFF", {"compression": "tiff_lzw"}),
        (colour, "GIF", {"save_all": True, "append_images": [colour.rotate(90)]}),
        (colour, "WEBP", {"save_all": True, "append_images": [colour.rotate(90)], "exif": exif}),
        (colour, "TIFF", {"compression": "jpeg"}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        files.append(buffer.getvalue())
    return files


def damaged(files: list[bytes]) -> st.SearchStrategy[bytes]:
    """Draw one of the files and change bytes, cut it, double a part, or put other bytes or another file's part in."""
    place = st.floats(0, 1, exclude_max=True)
    change = st.one_of(
        st.tuples(st.just("set"), place, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=20)),
        st.tuples(st.just("cut"), place, st.integers(1, 200)),
        st.tuples(st.just("end"), place, st.none()),
        st.tuples(st.just("splice"), place, st.sampled_from(files)),
    )
    return st.builds(_apply, st.sampled_from(files), st.lists(change, min_size=1, max_size=5))


def _apply(content: bytes, changes: list[tuple]) -> bytes:
    for kind, place, what in changes:
        at = int(place * len(content))
        head, tail = content[:at], content[at:]
        content = {
            "set": lambda head=head, tail=tail, what=what: head + what + tail[len(what) :],
            "insert": lambda head=head, tail=tail, what=what: head + what + tail,
            "cut": lambda head=head, tail=tail, what=what: head + tail[what:],
            "end": lambda head=head: head,
            "splice": lambda head=head, what=what, at=at: head + what[at:],
        }[kind]()
    return content


def outcome(call, kind: type = Prediction) -> str:
    """Return what came of a call. Anything but a ``kind`` or an error of ours is left to fail the test."""
    faulthandler.dump_traceback_later(HANGING_S, exit=True, file=sys.__stderr__)
    try:
        result = call()
    except (DataError, ModelError) as error:
        return type(error).__name__
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert isinstance(result, kind)
    return kind.__name__


def places(value, path=()) -> list[tuple]:
    """Return the path of every value in a JSON document."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, each in pairs for place in places(each, (*path, key)))]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["RGB", 32, "batch"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def replaced(document, path, value):
    """Return the document with another value at a path; ``...`` takes away what is there."""
    if not path:
        return None if value is ... else value
    *way, last = path
    inner = document
    for key in way:
        inner = inner[key]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return document
