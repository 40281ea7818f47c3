"""Ray against ``cifarnet predict`` on many small files: ``python -m benchmarks.ray [--toy]``.

Each program scores the images once, in a new process, and then a single image, which is its start-up. Needs the extra
``ray``. The seconds are stored in ``ray.jsonl`` in the folder of ``--results``.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import PROJECT, RESULTS
from benchmarks.harness.images import write_images
from benchmarks.harness.records import Results, ResultsFile, command_line, cores, markdown, shown
from cifarnet.data import load_dataset

DISTINCT, TIMES, FILES = 20_000, 5, 20
"""Number of distinct images, how often each is scored, and Parquet files that hold all of them."""
TOY_DISTINCT = 40
PREDICT = (sys.executable, "-m", "cifarnet", "predict", "--csv")
SCORE = (sys.executable, str(PROJECT / "export" / "ray" / "score.py"))
PROGRAMS = ("`cifarnet predict`", "`cifarnet predict --shard`, two processes", "`export/ray/score.py`, Parquet")


def commands(name: str, folder: Path, times: int) -> list[list[str]]:
    """Return the commands of a program, which run at the same time, over the images in ``folder``."""
    if name == PROGRAMS[2]:
        return [[*SCORE, str(folder / "parquet"), str(folder / "scored")]]
    shards = [["--shard", f"{index}/2"] for index in range(2)] if name == PROGRAMS[1] else [[]]
    return [[*PREDICT, *shard, *[str(folder / "png")] * times] for shard in shards]


def make_images(folder: Path, source: str, distinct: int, times: int, files: int) -> Path:
    """Write training images as PNG files, and all of them with their repetitions in Parquet files."""
    import pyarrow as pa  # the tables of the pages are made without
    import pyarrow.parquet as pq

    folder.mkdir()
    (folder / "parquet").mkdir()
    write_images(folder / "png", load_dataset(source).train.images, distinct)
    content = [path.read_bytes() for path in sorted((folder / "png").iterdir())] * times
    for index in range(files):
        table = pa.table({"image": content[index * len(content) // files : (index + 1) * len(content) // files]})
        pq.write_table(table, folder / "parquet" / f"{index:02}.parquet")
    return folder


def seconds_of(together: Sequence[Sequence[str]], images: int) -> float:
    """Run commands at the same time; return the seconds until all ended. Raises if they do not score every image."""
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0"}
    with tempfile.TemporaryFile("w+") as talk, tempfile.TemporaryFile("w+") as output:
        began = time.perf_counter()
        processes = [subprocess.Popen(each, stdout=output, stderr=talk, env=environment) for each in together]
        codes = [process.wait() for process in processes]
        seconds = time.perf_counter() - began
        output.seek(0)
        lines = output.read().splitlines()
        if together[0][1] == SCORE[1]:
            scored = sum(int(line.split(": ")[1].split()[0]) for line in lines if " images, 0 errors" in line)
        else:
            scored = len(lines) - len(together)
        if any(codes) or scored != images:
            talk.seek(0)
            raise RuntimeError(f"{scored} of {images} images, codes {codes}: {talk.read()[-500:]}")
    return seconds


def measure(results: ResultsFile, source: str, distinct: int, times: int, files: int) -> None:
    """Time each program over all images and over one."""
    with tempfile.TemporaryDirectory() as place:
        one = make_images(Path(place) / "one", source, 1, 1, 1)
        all_images = make_images(Path(place) / "all", source, distinct, times, files)
        for name in PROGRAMS:
            start_seconds = seconds_of(commands(name, one, 1), 1)
            results.add("start", contender=name, cell="", group="cifarnet", start_seconds=start_seconds)
            seconds = seconds_of(commands(name, all_images, times), distinct * times)
            results.add("turn", contender=name, cell="", seconds=seconds, images=distinct * times)


def table(path: Path = RESULTS / "ray.jsonl") -> str:
    """Return the stored times, and the rate without start-up."""
    results = Results.read(path)
    rows = []
    for name, line in results.implementations("").items():
        seconds, images = (results.median("", name, key) or 0 for key in ("seconds", "images"))
        start = line["start_seconds"]
        figures = (shown(seconds, ".1f"), shown(start, ".1f"), shown(images / (seconds - start)))
        rows.append([name, shown(images), *figures])
    titles = ("program", "images", "seconds", "of these, start-up", "images per second after it")
    versions = ", ".join(f"{name} {results.head['versions'][name]}" for name in ("cifarnet", "onnxruntime"))
    return f"{markdown(titles, rows)}\n\n{cores(results.head['machine'])}; {versions}."


def main() -> None:
    given = command_line("ray", __doc__).parse_args()
    source, distinct = ("synthetic", TOY_DISTINCT) if given.toy else ("cifar10", DISTINCT)
    results = ResultsFile(given.results / "ray.jsonl", "ray", {"distinct": distinct, "times": TIMES, "files": FILES})
    measure(results, source, distinct, TIMES, FILES)
    results.close()
    print(table(results.path))


if __name__ == "__main__":
    main()
