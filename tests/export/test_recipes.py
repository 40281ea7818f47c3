"""What the recipe `strong` trains, with batch normalisation and all else, goes through the gates and has its report."""

import pytest

from cifarnet.errors import ParityError
from cifarnet.evaluation.target import open_target
from cifarnet.export import export as exporting
from cifarnet.export.export import export_run
from cifarnet.export.writer import write_graph
from cifarnet.recipes import recipe
from cifarnet.report import write_report
from cifarnet.run.job import Job
from cifarnet.runtime import Classifier
from cifarnet.training.observer import Silent
from cifarnet.training.train import carry_out, load_best, start

SMALLER = {"filters": (8, 12, 12), "ghost_batch": 25, "batch_size": 50, "epochs": 8}


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A finished run, in place of the one that the other tests export."""
    settings = recipe("strong").changed(SMALLER)
    job = Job(recipe="strong", model=settings.model, train=settings.train, source="synthetic")
    run = start(job, dataset, tmp_path_factory.mktemp("strong"))
    assert carry_out(run, dataset, Silent()).metrics.test.accuracy > 0.6
    return run


@pytest.mark.parametrize("flip", [False, True], ids=["as they are", "flipped too"])
def test_its_file_is_proven_and_a_moving_average_that_moved_is_refused(run, dataset, monkeypatch, flip):
    exported = export_run(run, dataset, flip=flip)
    assert Classifier(exported.path).contract["flip"] is flip
    assert exported.parity.accuracy > 0.6

    def with_another_mean(model, *rest, **named):
        other = load_best(run)
        mean = other.get_layer("norm_2_3").moving_mean
        mean.assign(mean + 0.05)
        return write_graph(other, *rest, **named)

    monkeypatch.setattr(exporting, "write_graph", with_another_mean)
    with pytest.raises(ParityError, match="no file was written"):
        export_run(run, dataset, flip=flip)


@pytest.mark.parametrize(("precision", "flip"), [("int8", True), ("float16", False)])
def test_it_can_be_made_smaller(run, dataset, precision, flip):
    exported = export_run(run, dataset, precision=precision, flip=flip, max_drop=0.05)
    assert exported.parity.accuracy > 0.6
    contract = Classifier(exported.path).contract
    assert (contract["precision"], contract["flip"]) == (precision, flip)


def test_its_report_has_its_parameters_and_how_it_was_trained(run, dataset):
    exported = export_run(run, dataset)
    evaluation = open_target(str(exported.path), run.path.parent).evaluate(dataset.test, dataset)
    write_report(run, evaluation, dataset, "onnxruntime")
    card = (run.path / "MODELCARD.md").read_text()
    count = recipe("strong").changed(SMALLER).model.parameters
    assert f"{count:,} parameters" in card
    assert "--recipe strong" in card
