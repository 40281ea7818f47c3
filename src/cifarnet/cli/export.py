"""``cifarnet export``: write the best weights of a run as a verified ONNX file."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet import pretrained
from cifarnet.errors import UsageError, shown
from cifarnet.export.tolerances import MAX_DROP
from cifarnet.run.find import is_run

from .display import download_bar, out_json, out_lines, percent, say
from .options import BackendOption, JsonOption, MovedDataOption, RunArgument, RunsOption, TtaOption
from .runs import trained_run

if TYPE_CHECKING:
    from cifarnet.export.publish import Exported

POINTS = 100
"""Percentage points in an accuracy of 1."""


def command(
    run: RunArgument = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write a float32 model; the default.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Write a float16 model, half the size.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Write an int8 quantized model, a quarter of the size.")] = False,
    output: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="model.onnx in the run folder")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Maximum accuracy loss of --fp16 and --int8, in percentage points.",
            show_default=f"{POINTS * MAX_DROP:g}",
            min=0,
        ),
    ] = None,
    tta: TtaOption = 1,
    data: MovedDataOption = None,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Write the best weights of a run as an ONNX file, after a parity check.

    The parity check compares the file with the trained model on every test image; if it fails, no file is written.
    """
    wanted = {"float32": onnx or not (fp16 or int8), "float16": fp16, "int8": int8}
    precisions = [name for name, is_wanted in wanted.items() if is_wanted]
    _require_sense(precisions, output, max_drop)
    from cifarnet.backends import choose

    if run == pretrained.NAME and not is_run(runs, run):
        raise UsageError(f"pretrained is exported already; expected a run of yours: copy {pretrained.MODEL}")
    found = trained_run(runs, run)
    choose(backend)
    from cifarnet.export.export_run import (  # Keras, now that it is chosen
        export_precisions,
        open_run_images,
        writable_path,
    )

    for name in precisions:  # check every name before the first file is written
        writable_path(found, name, output)
    say(f"backend {choose()}, exporting {found}")
    with download_bar() as progress:
        dataset = open_run_images(found, precisions, views=tta, place=data, progress=progress)
    drop = MAX_DROP if max_drop is None else round(max_drop / POINTS, 12)  # 0.7 becomes 0.007
    written = []
    outputs = dict.fromkeys(precisions, output)
    for exported in export_precisions(found, dataset, outputs, max_drop=drop, views=tta, notice=say):
        written.append(asdict(exported) | {"path": shown(exported.path)})
        if not as_json:
            _print_result(exported)
    if as_json:
        out_json(written)


def _require_sense(precisions: list[str], output: Path | None, max_drop: float | None) -> None:
    if output is not None and len(precisions) > 1:
        raise UsageError(
            "--output names one file; expected one of --onnx, --fp16 and --int8 with it: run one export per file"
        )
    if max_drop is not None and precisions == ["float32"]:
        raise UsageError(
            "--max-drop does not apply to float32, which loses no accuracy; expected --fp16 or --int8 with it"
        )
    if max_drop is not None and not max_drop < POINTS:
        raise UsageError(f"--max-drop is {max_drop:g}; expected percentage points below {POINTS}: give fewer")


def _print_result(exported: "Exported") -> None:
    parity = exported.parity
    worst = max(check.probability_difference for check in parity.checks)
    lines = [
        f"{shown(exported.path)}: {exported.precision}, {exported.size_bytes:,} bytes, sha256 {exported.sha256}",
        f"  verified on {parity.images:,} test images: accuracy {percent(parity.accuracy, 2)}, trained model "
        f"{percent(parity.trained_accuracy, 2)}; largest probability difference {worst:.2g}, edge cases included",
    ]
    for each in exported.latencies:
        verdict = f"{each.speedup:.2f}x speedup" if each.speedup > 1 else "no speedup"
        times = f"{each.microseconds:,.0f} µs per image, float32 {each.float32_microseconds:,.0f} µs"
        lines.append(f"  batch size {each.batch_size:3}: {times}, {verdict}")
    out_lines(lines)
