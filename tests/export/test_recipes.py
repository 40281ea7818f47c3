"""A network of the recipe `strong` passes the parity check and gets a report."""

import pytest

from cifarnet.data import synthetic
from cifarnet.errors import ParityError
from cifarnet.evaluation.target import file_target
from cifarnet.export import export_run as exporting
from cifarnet.export.export_run import export_run
from cifarnet.export.writer import write_graph
from cifarnet.recipes import Recipe, recipe
from cifarnet.report import write_report
from cifarnet.runtime import Classifier
from cifarnet.training.begin import begin
from cifarnet.training.train import resume

SMALLER = {"filters": (6, 8, 8), "ghost_batch": 25, "batch_size": 50, "epochs": 2}


@pytest.fixture(scope="module")
def dataset():
    return synthetic(train=150, test=40)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A finished run, in place of the one that the other tests export."""
    settings = recipe("strong").changed(SMALLER)
    job = Recipe(name="strong", model=settings.model, train=settings.train)
    return resume(begin(job, dataset, tmp_path_factory.mktemp("strong")), dataset)


def test_its_file_is_verified_and_reported_and_a_moving_average_that_moved_is_refused(run, dataset, monkeypatch):
    exported = export_run(run, dataset, views=6)
    assert Classifier(exported.path).contract["views"] == 6
    write_report(run, file_target(exported.path).evaluate(dataset.test, dataset), dataset, "onnxruntime")
    card = (run.path / "MODELCARD.md").read_text()
    assert f"{recipe('strong').changed(SMALLER).model.parameters:,} parameters" in card
    assert "--recipe strong" in card

    def with_another_mean(model, *rest, **named):
        other = run.load_model()
        mean = other.get_layer("norm_2_3").moving_mean
        mean.assign(mean + 0.05)
        return write_graph(other, *rest, **named)

    monkeypatch.setattr(exporting, "write_graph", with_another_mean)
    with pytest.raises(ParityError, match="no file was written"):
        export_run(run, dataset)


def test_it_can_be_made_smaller(run, dataset):
    exported = export_run(run, dataset, precision="int8", views=2, max_drop=0.2)
    contract = Classifier(exported.path).contract
    assert (contract["precision"], contract["flip"]) == ("int8", True)
