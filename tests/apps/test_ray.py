"""The Ray app scores every image once, continues after a kill, and does not stop at files that cannot be read."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.runtime import Classifier

APP = Path(__file__).parents[2] / "export" / "ray" / "score.py"
pytestmark = [
    pytest.mark.nightly,  # starts Ray, about ten seconds each
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is missing: run `pip install .[ray]`"),
]


def command(*arguments):
    return [sys.executable, APP, *map(str, arguments)]


def score(*arguments):
    """Return exit code, stdout and the last line of stderr."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        command(*arguments), env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    return done.returncode, done.stdout, (done.stderr.splitlines() or [""])[-1]


def images(count):
    rng = np.random.default_rng(0)
    files = []
    for _ in range(count):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(file := io.BytesIO(), "PNG")
        files.append(file.getvalue())
    return files


def rows(folder):
    import pyarrow.parquet as pq

    tables = {path.relative_to(folder).as_posix(): pq.read_table(path) for path in sorted(folder.rglob("*.parquet"))}
    return {name: table.to_pylist() for name, table in tables.items()}


def test_parquet_files_of_bytes_and_of_structs_are_scored_as_the_classifier_does_and_a_bad_image_is_a_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = images(150)
    files[70], files[71] = b"no image", None
    (tmp_path / "in" / "sub").mkdir(parents=True)
    keys = [f"key {number}" for number in range(150)]
    pq.write_table(pa.table({"key": keys, "image": files}), tmp_path / "in" / "sub" / "a.parquet")
    structs = [{"bytes": file, "path": "x"} for file in files[:3]]
    pq.write_table(pa.table({"key": keys[:3], "image": structs}), tmp_path / "in" / "b.parquet")
    pq.write_table(pa.table({"other": [1]}), tmp_path / "in" / "c.parquet")
    code, stdout, error = score(tmp_path / "in", tmp_path / "out", "--id", "key")
    assert (code, error) == (1, "error: 1 of 3 files could not be scored: fix them and run this again")
    assert "sub/a.parquet: 150 images, 2 errors" in stdout
    assert "has no column" in stdout
    found = rows(tmp_path / "out")
    assert sorted(found) == ["b.parquet", "sub/a.parquet"]
    assert found["b.parquet"] == found["sub/a.parquet"][:3]
    assert [row["id"] for row in found["sub/a.parquet"]] == keys
    assert [row["id"] for row in found["sub/a.parquet"] if row["error"]] == keys[70:72]
    classifier = Classifier()
    for row, file in zip(found["sub/a.parquet"], files, strict=True):
        if row["error"] is None:
            prediction = classifier(file)
            assert row["label"] == prediction.label
            np.testing.assert_allclose(row["confidence"], prediction.confidence, rtol=1e-5)
            np.testing.assert_allclose(row["probabilities"], classifier.probabilities(file)[0], atol=1e-6)
    metadata = pq.read_schema(tmp_path / "out" / "b.parquet").metadata
    assert json.loads(metadata[b"labels"]) == list(classifier.labels)


def test_a_killed_job_continues_and_scores_every_image_once(tmp_path):
    folder, output = tmp_path / "photos", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    for number, file in enumerate(images(300)):
        (folder / ("deep" if number % 2 else ".") / f"{number}.png").write_bytes(file)
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command(folder, output, "--actors", 1), env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as job:
        next(line for line in job.stdout if b" images, " in line)
        os.kill(job.pid, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*.parquet")}
    assert 0 < len(before) < 64
    code, stdout, _ = score(folder, output)
    assert code == 0
    # The actors of the killed job may have written a few more before they ended.
    assert stdout.count(" images, ") <= 64 - len(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    names = sorted(row["id"] for part in rows(output).values() for row in part)
    assert names == sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    assert score(folder, output) == (0, "nothing to do: every output file exists\n", "")


def test_a_broken_tar_shard_does_not_end_the_others_and_is_scored_once_mended(tmp_path):
    (tmp_path / "in").mkdir()
    for shard in "ab":
        with tarfile.open(tmp_path / "in" / f"{shard}.tar", "w") as tar:
            for number, file in enumerate(images(20)):
                for name, content in ((f"{number}.png", file), (f"{number}.cls", b"3")):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    whole = (tmp_path / "in" / "b.tar").read_bytes()
    (tmp_path / "in" / "b.tar").write_bytes(whole[: len(whole) // 2])
    code, _, error = score(tmp_path / "in", tmp_path / "out")
    assert (code, error) == (1, "error: 1 of 2 files could not be scored: fix them and run this again")
    assert [*rows(tmp_path / "out")] == ["a.tar.parquet"]
    (tmp_path / "in" / "b.tar").write_bytes(whole)
    assert score(tmp_path / "in", tmp_path / "out")[0] == 0
    found = rows(tmp_path / "out")
    assert [row["id"] for row in found["b.tar.parquet"]] == [f"{number}.png" for number in range(20)]
    assert found["a.tar.parquet"] == found["b.tar.parquet"]
    assert not [*(tmp_path / "out").glob(".*")]


def test_what_would_mix_results_is_refused_before_ray_starts(tmp_path, golden):
    import pyarrow as pa
    import pyarrow.parquet as pq

    source, output = tmp_path / "in", tmp_path / "out"
    for folder in (source, output):
        folder.mkdir()
    pq.write_table(pa.table({"image": images(1)}), source / "a.parquet")
    digest = hashlib.sha256((golden / "model.onnx").read_bytes()).hexdigest()
    pq.write_table(pa.table({"id": [0]}).replace_schema_metadata({"model": digest}), output / "a.parquet")
    assert score(source, output, "--model", golden / "model.onnx")[:2] == (
        0,
        "nothing to do: every output file exists\n",
    )
    expected = {
        (source, output): f"{output}/a.parquet was not written with this model; expected a folder for it: name another",
        (source, source / "out"): f"{source}/out lies in {source}; expected another folder: name one outside",
        (tmp_path / "no", output): f"{tmp_path}/no is no folder; expected one with Parquet files, tar shards or images",
    }
    for (given, folder), message in expected.items():
        assert score(given, folder) == (1, "", f"error: {message}")
