"""``cifarnet conformance``: compare the outputs of an app in any language with the golden ones."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .display import out
from .options import JsonOption, filled

if TYPE_CHECKING:
    from cifarnet.apps.conformance import Verdict


def command(
    outputs: Annotated[
        Path,
        typer.Argument(
            metavar="OUTPUTS.json",
            help="JSON file with the app's outputs by golden image.",
            show_default=False,
            parser=filled("OUTPUTS", "a JSON file", Path),
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Check the outputs of another app on the golden images.

    If a common mistake explains the differences, names it. Exits with code 1 if the app does not conform.
    """
    from cifarnet.apps.assets import package_data
    from cifarnet.apps.conformance import check_outputs, read_outputs

    verdict = check_outputs(read_outputs(outputs), package_data() / "golden")
    if as_json:
        out(json.dumps({"conforms": verdict.conforms, **asdict(verdict)}, indent=2))
    else:
        _print_verdict(verdict)
    if not verdict.conforms:
        raise typer.Exit(1)


def _print_verdict(verdict: "Verdict") -> None:
    verdicts = (verdict, *verdict.others)
    if verdict.conforms:
        for each in verdicts:
            worst = max(each.differences.values())
            out(f"conforms: {each.kind} of {len(each.differences)} images, largest difference {worst:.1e}")
        return
    out("does not conform")
    lines = [f"the app {mistake}" for each in verdicts for mistake in each.mistakes]
    lines += [_unexplained(each) for each in verdicts if each.differing and not each.mistakes]
    for line in dict.fromkeys(lines):  # one mistake usually affects every output
        out(f"  {line}")
    for each in verdicts:
        _print_differences(each)


def _print_differences(verdict: "Verdict") -> None:
    for name, difference in verdict.differing.items():
        out(f"  {name}: {verdict.kind} differ by up to {difference:.2g}")
    if verdict.missing:
        out(f"  no {verdict.kind} for {', '.join(verdict.missing)}")


def _unexplained(verdict: "Verdict") -> str:
    if verdict.is_near:
        return "close: pixels off by one (other rounding, another decoder) or lower-precision arithmetic"
    return "no single known mistake explains these differences; see which images differ"
