"""float16 and int8 files are smaller, and may lose only the allowed accuracy."""

from dataclasses import replace
from types import SimpleNamespace

import onnx
import pytest

from cifarnet.config import TrainConfig
from cifarnet.data import hold_out
from cifarnet.errors import ModelError, ParityError
from cifarnet.export import export_run as exporting
from cifarnet.export import quantize
from cifarnet.export.export_run import export_run
from cifarnet.export.inspect import inspect_model
from cifarnet.runtime import Classifier
from cifarnet.training.import_weights import import_weights
from tests.records import document


# Measured on this small network: 0.53 and 0.38 of the bytes, the graph itself being a part of them.
@pytest.mark.parametrize(("precision", "suffix", "share"), [("float16", ".fp16", 0.6), ("int8", ".int8", 0.45)])
def test_a_smaller_file_is_smaller_and_says_what_it_is(run, dataset, precision, suffix, share):
    whole, small = export_run(run, dataset), export_run(run, dataset, precision=precision, max_drop=0.05)
    assert small.path == run.path / f"model{suffix}.onnx"
    assert small.size_bytes < share * whole.size_bytes
    assert Classifier(small.path).contract["precision"] == precision
    assert [latency.batch_size for latency in small.latencies] == [1, 256]
    assert min(latency.microseconds for latency in small.latencies) > 0
    # As many multiplications, whatever they are done in.
    assert inspect_model(small.path).multiply_adds == inspect_model(whole.path).multiply_adds
    with pytest.raises(ModelError, match=f"holds {precision} weights; expected float32"):
        import_weights(small.path)


def test_the_latency_of_large_images_is_measured_on_no_more_pixels_than_that_of_small_ones(monkeypatch):
    batches = []
    shape = (128, 128, 3)
    model = SimpleNamespace(contract=SimpleNamespace(image_shape=shape), run=lambda images: batches.append(len(images)))
    monkeypatch.setattr(quantize, "open_model", lambda _: model)
    latencies = quantize.compare_latency(b"", b"")
    assert [latency.batch_size for latency in latencies] == [1, 16]  # as many pixels as 256 images of 32x32
    assert max(batches) == 16
    assert sum(batches) == 2 * 2 * (1 + quantize.ROUNDS) * 16  # two batch sizes, two files


def spoiled(variant):
    """Let the last layer see what the one before it put out before its rectifier and quantisation."""
    broken = onnx.GraphProto()
    broken.CopyFrom(variant.graph)
    change_first = next(each for each in broken.initializer if each.name == "conv_1/kernel_quantized")
    change_first.raw_data = bytes(len(change_first.raw_data))
    return replace(variant, name="spoiled", graph=broken)


def test_int8_that_loses_too_much_is_refused(run, dataset, monkeypatch):
    quantized = exporting.quantized
    monkeypatch.setattr(exporting, "quantized", lambda *arguments: map(spoiled, quantized(*arguments)))
    with pytest.raises(ParityError, match=r"the file has an accuracy of .* expected at most 0\.5 points less"):
        export_run(run, dataset, precision="int8")
    assert not list(run.path.glob("model*"))


@pytest.mark.parametrize("backwards", [False, True])
def test_the_best_variant_on_held_out_images_is_taken_and_ranges_come_from_training_images(
    run, dataset, monkeypatch, backwards
):
    quantized, seen = exporting.quantized, []

    def good_and_bad(content, images):
        seen.append(images)
        good = next(quantized(content, images))
        return sorted([good, spoiled(good)], key=lambda variant: variant.name, reverse=backwards)

    monkeypatch.setattr(exporting, "quantized", good_and_bad)
    assert export_run(run, dataset, precision="int8", max_drop=0.05).parity.accuracy > 0.6
    training = TrainConfig.from_json(document(run)["train"])
    parts = hold_out(dataset.train, training.validation_fraction, training.seed, len(dataset.labels))
    trained_on = {image.tobytes() for image in dataset.train.images[parts.train]}
    assert {image.tobytes() for image in seen[0]} <= trained_on
    assert len(seen[0]) == 512
