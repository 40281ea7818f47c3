"""An app that is right conforms; each known mistake, committed here by other code, is named by its numbers."""

import base64
import json
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image, ImageOps

from cifarnet import cli
from cifarnet.conformance import judge, mistakes
from cifarnet.conformance.explaining import STEPS
from cifarnet.errors import DataError
from cifarnet.shipped import shipped

GOLDEN = shipped() / "golden"
ENTRIES = {Path(entry["file"]).name: entry for entry in json.loads((GOLDEN / "golden.json").read_text())["images"]}
BILINEAR = Image.Resampling.BILINEAR

# An app, written as people write it


def opened(name, *, orient=True, color=(255, 255, 255), clip=False, drop=False):
    """Return a picture as RGB, by the steps of a careful app unless told otherwise."""
    with Image.open(GOLDEN / "images" / name) as image:
        image.load()
    if orient:
        image = ImageOps.exif_transpose(image)
    if image.mode == "I;16":
        deep = np.asarray(image)
        image = Image.fromarray((np.minimum(deep, 255) if clip else deep // 256).astype(np.uint8))
    layers = np.asarray(image.convert("RGBA"), np.float64)
    if drop:
        return Image.fromarray(layers[..., :3].astype(np.uint8))
    alpha = layers[..., 3:] / 255
    return Image.fromarray(np.floor(layers[..., :3] * alpha + np.array(color) * (1 - alpha) + 0.5).astype(np.uint8))


def cropped(image, side):
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def prepared(name, *, resample=BILINEAR, **ways):
    return np.asarray(cropped(image := opened(name, **ways), min(image.size)).resize((32, 32), resample))


def squeezed(name):
    return np.asarray(opened(name).resize((32, 32), BILINEAR))


def resized_and_cropped(name):
    image = opened(name)
    factor = 32 / min(image.size)
    return np.asarray(cropped(image.resize((int(image.width * factor), int(image.height * factor)), BILINEAR), 32))


def sampled(name):
    """Bilinear without antialias, by Pillow's other way to it, which rounds otherwise than ours."""
    square = cropped(image := opened(name), min(image.size))
    factor = square.width / 32
    matrix = (factor, 0, 0, 0, factor, 0)
    return np.asarray(square.transform((32, 32), Image.Transform.AFFINE, matrix, BILINEAR))


def normalised(name, *, imagenet):
    mean, std = (
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        if imagenet
        else ([0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616])
    )
    return (prepared(name) / 255 - mean) / std


def wrapped(values):
    return values.astype(np.int64).astype(np.uint8)


def from_channels_first(name):
    return np.frombuffer(prepared(name).transpose(2, 0, 1).tobytes(), np.uint8).reshape(32, 32, 3)


# Models: the file itself, and two that somebody has cut or rebuilt


def in_bytes(values):
    return run(GOLDEN / "model.onnx", np.asarray(values, np.uint8))


def in_floats(values):
    return run(GOLDEN / "floats.onnx", np.asarray(values, np.float32))


def without_first_layer(values):
    """Run what is left of the network when its scaling is taken out: cut and joined here, node by node."""
    model = onnx.load(GOLDEN / "floats.onnx")
    transpose, first, second, *_ = model.graph.node
    assert [transpose.op_type, first.op_type, second.op_type] == ["Transpose", "Mul", "Add"]
    transpose.output[:] = second.output
    model.graph.node.remove(first)
    model.graph.node.remove(second)
    return run(model.SerializeToString(), np.asarray(values, np.float32))


@cache
def session_of(model):
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def run(model, values):
    return session_of(model).run(["logits"], {"images": values[None]})[0][0]


def probabilities_of(logits):
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum()


def app(read=prepared, model=in_bytes):
    return {name: model(read(name)).tolist() for name in ENTRIES}


def as_probabilities(answers):
    return {name: probabilities_of(row).tolist() for name, row in answers.items()}


MISTAKEN_APPS = {
    "ignores the EXIF orientation": lambda: app(lambda name: prepared(name, orient=False)),
    "clips 16-bit pixels": lambda: app(lambda name: prepared(name, clip=True)),
    "lays transparent parts over black": lambda: app(lambda name: prepared(name, color=(0, 0, 0))),
    "lays transparent parts over grey": lambda: app(lambda name: prepared(name, color=(128, 128, 128))),
    "drops the alpha channel": lambda: app(lambda name: prepared(name, drop=True)),
    "squeezes the whole picture": lambda: app(squeezed),
    "scales the whole picture first": lambda: app(resized_and_cropped),
    "resizes with a bilinear filter that is not antialiased": lambda: app(sampled),
    "resizes with the nearest pixel": lambda: app(lambda name: prepared(name, resample=Image.Resampling.NEAREST)),
    "resizes with a box filter": lambda: app(lambda name: prepared(name, resample=Image.Resampling.BOX)),
    "resizes with a bicubic filter": lambda: app(lambda name: prepared(name, resample=Image.Resampling.BICUBIC)),
    "resizes with a Lanczos filter": lambda: app(lambda name: prepared(name, resample=Image.Resampling.LANCZOS)),
    "hands over BGR": lambda: app(lambda name: prepared(name)[:, :, [2, 1, 0]]),
    "hands over channels first": lambda: app(from_channels_first),
    "hands over columns as rows": lambda: app(lambda name: prepared(name).swapaxes(0, 1)),
    "divides by 255, which the model does again": lambda: app(lambda name: prepared(name) / 255, in_floats),
    "divides by 255, which the model does again, and casts": lambda: app(lambda name: prepared(name) / 255),
    "scales to -1...1, which": lambda: app(lambda name: prepared(name) / 127.5 - 1, in_floats),
    "leaves out the division": lambda: app(prepared, without_first_layer),
    "scales to 0...1 in place": lambda: app(lambda name: prepared(name) / 255, without_first_layer),
    "applies softmax twice": lambda: as_probabilities(as_probabilities(app())),
} | {
    f"normalises with {source}'s mean and std, {how}": make
    for source in ("ImageNet", "CIFAR-10")
    for how, make in {
        "before the model's own scaling": lambda source=source: app(
            lambda name: normalised(name, imagenet=source == "ImageNet"), in_floats
        ),
        "before the model's own scaling, and casts": lambda source=source: app(
            lambda name: wrapped(normalised(name, imagenet=source == "ImageNet"))
        ),
        "in place of": lambda source=source: app(
            lambda name: normalised(name, imagenet=source == "ImageNet"), without_first_layer
        ),
    }.items()
}
"""Each mistake as an app that commits it alone, by the beginning of its name."""


@pytest.fixture(scope="module")
def right():
    """Return the answers of an app that makes no mistake."""
    return app()


@pytest.mark.parametrize("change", [lambda answers: answers, as_probabilities], ids=["logits", "probabilities"])
def test_an_app_without_mistakes_conforms(right, change):
    verdict = judge(change(right), GOLDEN)
    assert (verdict.conforms, verdict.mistakes) == (True, ())


@pytest.mark.parametrize("mistake", MISTAKEN_APPS)
def test_a_mistake_is_named_by_the_numbers_that_it_leaves(mistake):
    verdict = judge(MISTAKEN_APPS[mistake](), GOLDEN)
    (found,) = verdict.mistakes
    named = max((name for name in MISTAKEN_APPS if found.startswith(name)), key=len, default=found)
    assert (verdict.conforms, named) == (False, mistake)


def test_every_mistake_that_can_be_named_is_committed_here():
    names = {name for step in STEPS for name in step} - {mistakes.RIGHT}
    committed = {max((name for name in MISTAKEN_APPS if known.startswith(name)), key=len) for known in names}
    assert committed == set(MISTAKEN_APPS)
    assert len(names) == len(MISTAKEN_APPS)


def test_a_mistake_is_named_from_probabilities_too():
    verdict = judge(as_probabilities(MISTAKEN_APPS["hands over BGR"]()), GOLDEN)
    assert verdict.mistakes == ("hands over BGR: blue and red are swapped",)


def test_many_mistakes_at_once_are_told_apart():
    """The usual lines with OpenCV: BGR, no alpha, 16 bits clipped, squeezed without antialias; then softmax again."""

    def read(name):
        picture = opened(name, drop=True, clip=True)
        factors = picture.width / 32, picture.height / 32
        matrix = (factors[0], 0, 0, 0, factors[1], 0)
        return np.asarray(picture.transform((32, 32), Image.Transform.AFFINE, matrix, BILINEAR))[..., ::-1]

    found = judge(as_probabilities(as_probabilities(app(read))), GOLDEN).mistakes
    words = ("clips 16-bit", "drops the alpha", "squeezes", "not antialiased", "BGR", "softmax twice")
    assert len(found) == len(words)
    assert all(word in name for word, name in zip(words, found, strict=True))


def test_numbers_that_no_mistake_explains_are_not_explained(right):
    verdict = judge({name: row[::-1] for name, row in right.items()}, GOLDEN)
    assert (verdict.conforms, verdict.mistakes, verdict.is_near) == (False, (), False)
    assert set(verdict.differing) == set(ENTRIES)


def test_pixels_that_are_off_by_one_step_are_called_near():
    rng = np.random.Generator(np.random.PCG64(7))
    moved = app(lambda name: np.clip(prepared(name) + rng.integers(-1, 2, (32, 32, 3)), 0, 255))
    verdict = judge(moved, GOLDEN)
    assert (verdict.conforms, verdict.is_near, verdict.mistakes) == (False, True, ())


def test_an_image_without_an_answer_keeps_an_app_from_conforming(right):
    verdict = judge({name: row for name, row in right.items() if name != "tiny.png"}, GOLDEN)
    assert (verdict.conforms, verdict.missing, verdict.differing) == (False, ("tiny.png",), {})


def test_the_images_that_differ_are_listed_the_worst_first(right):
    changed = right | {"tiny.png": [value + 0.01 for value in right["tiny.png"]]}
    changed["wide.png"] = [value + 0.02 for value in right["wide.png"]]
    assert list(judge(changed, GOLDEN).differing) == ["wide.png", "tiny.png"]


def test_the_golden_pixels_are_what_a_careful_app_reads():
    for name, entry in ENTRIES.items():
        assert prepared(name).tobytes() == base64.b64decode(entry["pixels"]), name


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({}, "there are 0 answers; expected one per golden image"),
        ({"cat.png": [0.0] * 10}, "cat.png is no golden image; expected exact.png, "),
        ({"exact.png": [0.0] * 9}, "the answer for exact.png has shape (9,) and 9 finite numbers; expected (10,)"),
        ({"exact.png": [float("nan")] + [0.0] * 9}, "the answer for exact.png has shape (10,) and 9 finite numbers"),
        ({"exact.png": "frog"}, "the answer for exact.png is no list of numbers (could not convert"),
        ({"exact.png": {"frog": 1}}, "the answer for exact.png is no list of numbers (float() argument"),
    ],
)
def test_what_is_no_answer_is_refused(answers, message):
    with pytest.raises(DataError) as caught:
        judge(answers, GOLDEN)
    assert str(caught.value).startswith(message)


# The command


@pytest.fixture
def conformance(monkeypatch, capsys, tmp_path):
    """Return a function that hands in answers and returns exit code, stdout and stderr."""

    def conformance(answers, *options):
        path = tmp_path / "answers.json"
        path.write_text(answers if isinstance(answers, str) else json.dumps(answers))
        monkeypatch.setattr(sys, "argv", ["cifarnet", "conformance", str(path), *options])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code, *capsys.readouterr()

    return conformance


def test_the_command_says_that_an_app_conforms(conformance, right):
    code, said, talk = conformance({f"golden/images/{name}": row for name, row in right.items()})
    assert (code, talk) == (0, "")
    assert said.startswith("conforms: logits of 18 images, largest difference ")


def test_the_command_names_the_mistake_and_exits_with_one(conformance):
    code, said, talk = conformance(MISTAKEN_APPS["hands over BGR"]())
    assert (code, talk) == (1, "")
    assert said.splitlines()[:2] == ["does not conform", "  the app hands over BGR: blue and red are swapped"]


def test_the_command_says_what_it_cannot_explain(conformance, right):
    _, said, _ = conformance({name: row[::-1] for name, row in right.items()})
    assert said.splitlines()[1] == "  no known mistake explains all of these; the images that differ say where to look"
    _, said, _ = conformance({"tiny.png": [value + 0.01 for value in right["tiny.png"]]})
    assert said.splitlines()[1].startswith("  nearly right: pixels off by a step")
    assert said.splitlines()[-1].startswith("  no answer for exact.png, square.png")


def test_the_command_writes_json(conformance, right):
    code, said, _ = conformance(right, "--json")
    verdict = json.loads(said)
    assert (code, verdict["conforms"], verdict["kind"], len(verdict["differences"])) == (0, True, "logits", 18)


@pytest.mark.parametrize(
    ("content", "reason"), [("{", "answers.json cannot be read ("), ("[1]", "answers.json holds a list; expected")]
)
def test_a_file_that_holds_no_answers_ends_in_one_line(conformance, content, reason):
    code, said, talk = conformance(content)
    assert (code, said) == (1, "")
    assert talk.startswith("error: ")
    assert reason in talk
