"""The bundled classifier is the one of its run record, and can be fine-tuned."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cifarnet import pretrained
from cifarnet.data import cache_state, load_dataset
from cifarnet.dataset import CIFAR10_FINGERPRINT, Dataset
from cifarnet.errors import ConfigError
from cifarnet.recipes import recipe
from cifarnet.run.exported import require_own_export
from cifarnet.run.folder import Run
from cifarnet.runtime import Classifier
from cifarnet.training.seen import seen_by
from cifarnet.training.train import train

SHA256 = "591c5c54b9396ab245324fe910a184222f706c084c1c0394068bcad175876946"
ONE_EPOCH = replace(recipe("strong").train, epochs=1, batch_size=64)


def test_it_is_the_export_of_the_run_beside_it():
    content, run = pretrained.MODEL.read_bytes(), Run(pretrained.FOLDER)
    assert hashlib.sha256(content).hexdigest() == SHA256
    assert len(content) <= 3_000_000
    require_own_export(run)
    assert run.record.data.fingerprint == CIFAR10_FINGERPRINT
    assert len(seen_by(run)) == 50_000
    assert Classifier().contract["precision"] == "float32"
    assert run.record.metrics.test.accuracy == Classifier().contract["proof"]["accuracy"]


@pytest.mark.skipif(not cache_state().present, reason="CIFAR-10 is not in the cache")
def test_it_knows_the_images_that_it_was_trained_on(tmp_path):
    cifar10 = load_dataset("cifar10")
    labels = np.arange(100) % 2
    known, others = (cifar10.train.images[:100], labels), (cifar10.test.images[:20], labels[:20])
    dataset = Dataset.from_arrays(known, others, ["a", "b"])
    with pytest.raises(ConfigError, match="10 of the 30 validation and test images were trained on by pretrained"):
        train(dataset, "strong", runs=tmp_path, train_config=ONE_EPOCH, warm_start="pretrained")
