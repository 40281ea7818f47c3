"""Classify Parquet files, tar shards or a folder of images with Ray Data, and write Parquet files.

Needs cifarnet and ray[data] on every machine of the cluster, and a shared disk. Writes one output file per input file,
or up to 64 for a folder of images. Output files are written atomically and existing ones are skipped, so the same
command continues a job that was killed. Images that were added since then need another output folder.
"""

import argparse
import hashlib
import json
import tarfile
from collections import defaultdict
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from cifarnet import pretrained
from cifarnet.atomic import write_atomically
from cifarnet.errors import DataError
from cifarnet.preprocessing import EXTENSIONS
from cifarnet.runtime import Classifier, find_images
from cifarnet.runtime.files import shard_of

PARQUET, TARS = ".parquet", (".tar", ".tar.gz", ".tgz")
PARTS = 64
BATCH = 64


def from_parquet(path, image, key):
    """Yield ID and image of each row."""
    columns, row = [image, key] if key else [image], 0
    for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=columns):
        for values in batch.to_pylist():
            found = values[image]
            # Data sets of the Hugging Face Hub have a struct of bytes and path.
            yield values[key] if key else row, found["bytes"] if isinstance(found, dict) else found
            row += 1


def from_tar(path):
    """Yield name and bytes of each image, in the order of the shard."""
    with tarfile.open(path, "r|*") as tar:
        for member in tar:
            if member.isfile() and member.name.lower().endswith(EXTENSIONS):
                yield member.name, tar.extractfile(member).read()


def classify(classifier, images):
    """Return a prediction or an error for each image; a batch with an error is divided until it is found."""
    try:
        return classifier(images) if len(images) > 1 else [classifier(images[0])]
    except DataError as error:
        if len(images) == 1:
            return [error]
        half = len(images) // 2
        return classify(classifier, images[:half]) + classify(classifier, images[half:])


class Score:
    """An actor that holds the classifier and writes one output file per call."""

    def __init__(self, classifier, options, metadata):
        self.classifier, self.options, self.metadata = classifier, options, metadata

    def __call__(self, unit):
        """Write the output file of a unit. Return the number of images and errors, or the reason why it failed."""
        try:
            images, kind = self.images(unit["files"])
            table = pa.Table.from_pylist([*self.rows(images)], self.schema(kind))
            pq.write_table(table, sink := pa.BufferOutputStream())
            write_atomically(self.options.output / unit["output"], sink.getvalue().to_pybytes())
        except Exception as error:  # noqa: BLE001  # a file that cannot be read does not stop the others
            return {"output": unit["output"], "failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        return {"output": unit["output"], "images": len(table), "errors": len(table) - table["error"].null_count}

    def images(self, names):
        """Return an iterator of IDs and images, and the type of the IDs."""
        path, image, key = self.options.source / names[0], self.options.image, self.options.id
        if path.name.endswith(PARQUET):
            schema = pq.read_schema(path)
            if missing := {image, key or image} - {*schema.names}:
                raise KeyError(f"{path} has no column {', '.join(missing)}; expected one of {schema.names}")
            return from_parquet(path, image, key), schema.field(key).type if key else pa.int64()
        if path.name.endswith(TARS):
            return from_tar(path), pa.string()
        return ((name, self.options.source / name) for name in names), pa.string()

    def rows(self, images):
        """Yield an output row for each image."""
        while some := list(islice(images, BATCH)):
            for (key, _), found in zip(some, classify(self.classifier, [image for _, image in some]), strict=True):
                row = {"id": key}
                if isinstance(found, DataError):
                    yield row | {"error": str(found)}
                else:
                    row |= {"label": found.label, "confidence": found.confidence}
                    yield row | {"probabilities": [dict(found.scores)[label] for label in self.classifier.labels]}

    def schema(self, kind):
        """Return the schema of the output."""
        probabilities = pa.list_(pa.float32(), len(self.classifier.labels))
        columns = {"id": kind, "label": pa.string(), "confidence": pa.float32()}
        return pa.schema(columns | {"probabilities": probabilities, "error": pa.string()}, self.metadata)


def units_in(source):
    """Return the units of work, each with its input files and its output file."""
    shards = [path for path in source.rglob("*") if path.name.endswith((PARQUET, *TARS)) and path.is_file()]
    names = sorted(path.relative_to(source).as_posix() for path in shards)
    if names:
        return [{"files": [name], "output": name.removesuffix(PARQUET) + PARQUET} for name in names]
    parts = defaultdict(list)
    for found in find_images([source]):
        if found.error:
            raise SystemExit(f"error: {found.error}")
        name = found.path.relative_to(source).as_posix()
        parts[shard_of(name, PARTS)].append(name)
    return [{"files": files, "output": f"{part:02}-of-{PARTS}{PARQUET}"} for part, files in sorted(parts.items())]


def is_missing(output, model):
    """Return whether an output file has to be made."""
    if not output.exists():
        return True
    if (pq.read_schema(output).metadata or {}).get(b"model") != model.encode():
        raise SystemExit(f"error: {output} was not written with this model; expected a folder for it: name another")
    return False


def main():
    """Score the images named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder of Parquet files, tar shards or images")
    parser.add_argument("output", type=Path, help="folder to write to")
    parser.add_argument("--model", type=Path, default=pretrained.MODEL, help="a file from `cifarnet export --onnx`")
    parser.add_argument("--image", default="image", help="Parquet column with the bytes or the path of each image")
    parser.add_argument("--id", help="Parquet column to copy (default: the number of the row in its file)")
    parser.add_argument("--actors", type=int, help="number of processes (default: one per CPU of the cluster)")
    options = parser.parse_args()
    options.source, options.output = (
        options.source.absolute(),
        options.output.absolute(),
    )  # actors run in another folder
    if not options.source.is_dir():
        raise SystemExit(f"error: {options.source} is no folder; expected one with Parquet files, tar shards or images")
    classifier, digest = Classifier(options.model), hashlib.sha256(options.model.read_bytes()).hexdigest()
    if options.output.resolve().is_relative_to(options.source.resolve()):
        raise SystemExit(f"error: {options.output} lies in {options.source}; expected another folder: name one outside")
    units = [unit for unit in units_in(options.source) if is_missing(options.output / unit["output"], digest)]
    for unit in units:
        (options.output / unit["output"]).parent.mkdir(parents=True, exist_ok=True)
    if not units:
        print("nothing to do: every output file exists")
        return
    ray.init()
    actors = options.actors or int(ray.cluster_resources()["CPU"])
    scored = ray.data.from_items(units, override_num_blocks=len(units)).map(
        Score,
        fn_constructor_args=(classifier, options, {"labels": json.dumps(classifier.labels), "model": digest}),
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(units))),
        num_cpus=1,
    )
    failed = 0
    for row in scored.iter_rows():
        failed += bool(row.get("failed"))
        print(row["output"], row.get("failed") or f"{row['images']} images, {row['errors']} errors", sep=": ")
    if failed:
        raise SystemExit(f"error: {failed} of {len(units)} files could not be scored: fix them and run this again")


if __name__ == "__main__":
    main()
