"""``cifarnet export``: the best weights of a run as one proven ONNX file."""

import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cifarnet.contract import printable
from cifarnet.errors import UsageError

from .display import download_bar, out, say
from .options import BackendOption, JsonOption, MovedDataOption, RunArgument, RunsOption, filled

if TYPE_CHECKING:
    from cifarnet.export.export import Exported

POINTS = 100
"""Points of accuracy in a whole."""
DEFAULT_DROP = 0.5
"""Points of accuracy that a smaller file may lose."""


def command(
    run: RunArgument = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write float32, equal to the trained model: the default.")
    ] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Write half the size, computed in float16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Write a quarter of the size, computed in 8 bits.")] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            help="File to write.",
            show_default="model.onnx in the run folder",
            parser=filled("--output", "a file name", Path),
        ),
    ] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Points of accuracy that --fp16 and --int8 may lose.", show_default="0.5")
    ] = None,
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Let the file take the mean over each image and its mirror image: twice the time."),
    ] = False,
    data: MovedDataOption = None,
    backend: BackendOption = None,
    runs: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Write the best weights of a run as an ONNX file, once it is proven on every test image."""
    wanted = {"float32": onnx or not (fp16 or int8), "float16": fp16, "int8": int8}
    precisions = [name for name, is_wanted in wanted.items() if is_wanted]
    _require_sense(precisions, output, max_drop)
    from cifarnet.backends import choose
    from cifarnet.run_folder import require_writable_model

    from .runs import trained_run

    found = trained_run(runs, run)
    require_writable_model(output or found.model)
    say(f"backend {choose(backend)}, exporting {found}")
    from cifarnet.export.export import export_run, writable_path  # Keras, now that its framework is chosen

    for name in precisions:  # all of them before the first is written
        writable_path(found, name, output)
    with download_bar() as progress:
        dataset = found.read_record().origin.open_dataset(data, progress)
    drop = float(Decimal(str(DEFAULT_DROP if max_drop is None else max_drop)) / POINTS)  # 0.7 points are 0.007 sharp
    written = []
    for name in precisions:
        exported = export_run(found, dataset, precision=name, output=output, max_drop=drop, flip=flip, notice=say)
        written.append(asdict(exported) | {"path": str(exported.path)})
        if not as_json:
            _tell(exported)
    if as_json:
        out(json.dumps(written, indent=2))


def _require_sense(precisions: list[str], output: Path | None, max_drop: float | None) -> None:
    if output is not None and len(precisions) > 1:
        raise UsageError(
            "--output names one file; expected one of --onnx, --fp16 and --int8 with it: export them apart"
        )
    if max_drop is not None and precisions == ["float32"]:
        raise UsageError(
            "--max-drop has no meaning for float32, which loses nothing; expected --fp16 or --int8 with it"
        )
    if max_drop is not None and not 0 <= max_drop < POINTS:
        raise UsageError(f"--max-drop is {max_drop:g}; expected points of accuracy, 0 up to but not including {POINTS}")


def _tell(exported: "Exported") -> None:
    parity = exported.parity
    worst = max(check.probability_difference for check in parity.checks)
    path = printable(str(exported.path))
    out(f"{path}: {exported.precision}, {exported.size_bytes:,} bytes, sha256 {exported.sha256}")
    out(
        f"  proven on {parity.images:,} test images: accuracy {POINTS * parity.accuracy:.2f} %, as trained "
        f"{POINTS * parity.trained_accuracy:.2f} %, largest difference of a probability {worst:.2g}"
    )
    for latency in exported.latencies:
        verdict = f"{latency.speedup:.2f} times as fast" if latency.speedup > 1 else "not faster here"
        out(
            f"  {latency.batch_size:3} at a time: {latency.microseconds:,.0f} µs per image, float32 "
            f"{latency.float32_microseconds:,.0f} µs, {verdict}"
        )
