"""``cifarnet conformance``: whether an app in any language answers as it should, or what it does wrong."""

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
    answers: Annotated[
        Path,
        typer.Argument(
            help="JSON of the app's numbers by golden image.",
            show_default=False,
            parser=filled("ANSWERS", "a JSON file", Path),
        ),
    ],
    as_json: JsonOption = False,
) -> None:
    """Judge an app by its numbers for the golden images; name what it does wrong by the trace that it leaves."""
    from cifarnet.apps.assets import shipped
    from cifarnet.apps.conformance import judge, read_answers

    verdict = judge(read_answers(answers), shipped() / "golden")
    if as_json:
        out(json.dumps({"conforms": verdict.conforms, **asdict(verdict)}, indent=2))
    else:
        _tell(verdict)
    if not verdict.conforms:
        raise typer.Exit(1)


def _tell(verdict: "Verdict") -> None:
    verdicts = (verdict, *verdict.others)
    if verdict.conforms:
        for each in verdicts:
            worst = max(each.differences.values())
            out(f"conforms: {each.kind} of {len(each.differences)} images, largest difference {worst:.1e}")
        return
    out("does not conform")
    said = [f"the app {mistake}" for each in verdicts for mistake in each.mistakes]
    said += [_guess(each) for each in verdicts if each.differing and not each.mistakes]
    for line in dict.fromkeys(said):  # what spoils one output mostly spoils the others too
        out(f"  {line}")
    for each in verdicts:
        _tell_differences(each)


def _tell_differences(verdict: "Verdict") -> None:
    for name, difference in verdict.differing.items():
        out(f"  {name}: {verdict.kind} differ by up to {difference:.2g}")
    if verdict.missing:
        out(f"  no {verdict.kind} for {', '.join(verdict.missing)}")


def _guess(verdict: "Verdict") -> str:
    if verdict.is_near:
        return "nearly right: pixels off by a step (other rounding, another decoder), or arithmetic in fewer bits"
    return "no single common mistake explains all of these; the images that differ say where to look"
