"""``cifarnet conformance``: compare the outputs of an app in any language with the golden ones."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .display import out_answer
from .options import JsonOption

if TYPE_CHECKING:
    from cifarnet.apps.conformance import Verdict
NEAR = "close: pixels off by one (other rounding, another decoder) or lower-precision arithmetic"
UNEXPLAINED = "no single known mistake explains these differences; see which images differ"


def command(
    outputs: Annotated[
        Path, typer.Argument(metavar="OUTPUTS.json", help="JSON file that maps golden images to the app's outputs.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Check the outputs of another app on the golden images.

    If a common mistake explains the differences, names it. Exits with code 1 if the app does not conform.
    """
    from cifarnet.apps import package_data
    from cifarnet.apps.conformance import check_outputs, read_outputs

    verdict = check_outputs(read_outputs(outputs), package_data() / "golden")
    out_answer({"conforms": verdict.conforms, **asdict(verdict)}, _lines(verdict), as_json=as_json)
    if not verdict.conforms:
        raise typer.Exit(1)


def _lines(verdict: "Verdict") -> Iterator[str]:
    verdicts = (verdict, *verdict.others)
    if verdict.conforms:
        for each in verdicts:
            worst = max(each.differences.values())
            yield f"conforms: {each.kind} of {len(each.differences)} images, largest difference {worst:.1e}"
        return
    yield "does not conform"
    lines = [f"the app {mistake}" for each in verdicts for mistake in each.mistakes]
    lines += [NEAR if each.is_near else UNEXPLAINED for each in verdicts if each.differing and not each.mistakes]
    yield from (f"  {line}" for line in dict.fromkeys(lines))  # one mistake usually affects every output
    for each in verdicts:
        for name, difference in each.differing.items():
            yield f"  {name}: {each.kind} differ by up to {difference:.2g}"
        if each.missing:
            yield f"  no {each.kind} for {', '.join(each.missing)}"
