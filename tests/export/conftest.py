"""A trained run to export; its export does not depend on the backend."""
# ruff: noqa: E402  # the framework is chosen before Keras is imported

import shutil

import pytest

from cifarnet.backends import choose

choose()

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import synthetic
from cifarnet.dataset import Dataset
from cifarnet.export.describe import describe
from cifarnet.export.writer import serialize, write_graph
from cifarnet.recipes import Recipe
from cifarnet.run.folder import Run
from cifarnet.training.begin import begin
from cifarnet.training.best_weights import calibration_of
from cifarnet.training.train import resume

MODEL = ModelConfig(filters=(8, 8), dense_units=(32,), dropout=0.1, initializer="glorot_normal")
TRAINING = TrainConfig(epochs=4, schedule_epochs=4, learning_rate=5e-3, weight_decay=0.01, batch_size=10)


@pytest.fixture(scope="package")
def dataset() -> Dataset:
    return synthetic(train=1000, test=200)


@pytest.fixture(scope="package")
def whole(dataset, tmp_path_factory) -> Run:
    """A finished run that has learned most of its classes, so that there is something to lose."""
    job = Recipe(name="seed", model=MODEL, train=TRAINING)
    run = begin(job, dataset, tmp_path_factory.mktemp("whole"))
    assert resume(run, dataset).record.metrics.test.accuracy > 0.6
    return run


@pytest.fixture
def run(whole, tmp_path) -> Run:
    """A copy of the finished run, to write into."""
    return Run(shutil.copytree(whole.path, tmp_path / "run"))


@pytest.fixture(scope="package")
def contract(whole, network, dataset):
    return describe(whole.record, "float32", calibration_of(whole, network, dataset))


@pytest.fixture(scope="package")
def temperature(contract):
    """What was fitted: far enough from 1 to tell whether it is applied."""
    assert abs(contract.temperature - 1) > 0.05
    return contract.temperature


@pytest.fixture(scope="package")
def content(network, contract, temperature):
    """The float32 file of the network, still without its proof."""
    return serialize(write_graph(network, temperature=temperature), contract)


@pytest.fixture(scope="package")
def network(whole):
    """The network with the weights of its best epoch."""
    return whole.load_model()
