"""Damaged images and model files end in an error of ours or in a result: no other exception, no crash, no hang."""

import copy
import faulthandler
import io
import json
import warnings
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from cifarnet.errors import DataError, ModelError
from cifarnet.runtime import Classifier
from cifarnet.spec import Prediction
from tests.runtime import models

EXAMPLES = 300
"""Of each kind: a few seconds."""
HANGING_S = 120
"""What takes longer hangs: the process ends then, with every thread's place."""

bounded = settings(
    max_examples=EXAMPLES,
    derandomize=True,  # the same damage on every machine and in every run
    deadline=None,  # the machine may be busy; a hang has its own limit
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def no_hang():
    faulthandler.dump_traceback_later(HANGING_S, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def tried(request, capsys):
    """Return a counter of what became of the damaged things, which is printed at the end of the test."""
    outcomes: Counter[str] = Counter()
    yield outcomes
    with capsys.disabled():
        print(f"\n{request.node.name}: tried {outcomes.total():,}: {dict(outcomes)}")


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


def outcome(classify) -> str:
    """Return what came of a call. Anything but a prediction or an error of ours is left to fail the test."""
    try:
        prediction = classify()
    except (DataError, ModelError) as error:
        return type(error).__name__
    assert isinstance(prediction, Prediction)
    assert 0 <= prediction.probability <= 1
    return "Prediction"


def test_damaged_image_files(classifier, tried):
    @bounded
    @given(damaged(image_files()))
    def check(content):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in an app, where decoders go on after they warned
            tried[outcome(lambda: classifier(content))] += 1

    check()
    assert set(tried) == {"Prediction", "DataError"}
    assert tried.total() >= EXAMPLES


def test_bytes_of_any_kind_as_images(classifier, tried):
    @bounded
    @given(st.binary(max_size=200))
    def check(content):
        tried[outcome(lambda: classifier(content))] += 1

    check()
    assert set(tried) == {"DataError"}


def test_arrays_of_any_kind_as_images(classifier, tried):
    shapes = st.lists(st.one_of(st.integers(0, 5), st.just(32)), max_size=5)
    dtypes = st.sampled_from(
        ["uint8", "uint8", "uint8", "int8", "uint16", "float32", "float64", "bool", "complex64", "O"]
    )

    @bounded
    @given(shapes, dtypes, st.integers(0, 255))
    def check(shape, dtype, value):
        images = np.full(shape, value).astype(dtype)
        tried[outcome(lambda: (classifier([images]))[0])] += 1

    check()
    assert set(tried) == {"Prediction", "DataError"}


def test_damaged_model_files(painted, tried):
    @bounded
    @given(damaged([models.content(), models.model().SerializeToString()]))
    def check(content):
        tried[outcome(lambda: Classifier(content)(painted("red")))] += 1

    check()
    assert "ModelError" in tried
    assert tried.total() >= EXAMPLES


def test_damaged_graphs_whose_digest_agrees(painted, tried):
    """The digest keeps damage away from onnxruntime; here it is made anew, as somebody would who means harm."""

    @bounded
    @given(damaged([models.model().graph.SerializeToString(deterministic=True)]))
    def check(graph):
        tried[outcome(lambda: Classifier(models.resealed(graph))(painted("red")))] += 1

    check()
    assert set(tried) == {"Prediction", "ModelError"}
    assert tried.total() >= EXAMPLES


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


def test_contracts_with_other_values(painted, tried):
    @bounded
    @given(st.sampled_from(places(models.CONTRACT)), st.one_of(JSON, st.just(...)))
    def check(path, value):
        contract = replaced(copy.deepcopy(models.CONTRACT), path, value)
        tried[outcome(lambda: Classifier(models.content(contract=json.dumps(contract)))(painted("red", 40, 50)))] += 1

    check()
    assert set(tried) == {"Prediction", "ModelError"}


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


def test_an_error_of_somebody_else_is_noticed():
    with pytest.raises(ZeroDivisionError):
        outcome(lambda: 1 / 0)


def test_what_is_no_prediction_is_noticed():
    with pytest.raises(AssertionError):
        outcome(lambda: None)
