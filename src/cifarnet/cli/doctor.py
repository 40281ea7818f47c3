"""``cifarnet doctor``: installed versions, known conflicts and the speed of each backend."""

from dataclasses import asdict
from typing import Annotated

import typer

from .display import out_answer, say
from .options import JsonOption


def command(
    timing: Annotated[
        bool, typer.Option(help="Time a short training on each backend, in a subprocess, and list its devices.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Show installed versions, known conflicts and backend speed."""
    from cifarnet.apps import doctor
    from cifarnet.backends import RECOMMENDED, install_line, installed
    from cifarnet.data import cache_state
    from cifarnet.system import PACKAGES, versions

    found_versions, cache = versions((*PACKAGES, *doctor.ONNXRUNTIMES)), cache_state()
    bad_pairs, notes = doctor.known_bad_pairs(found_versions), list(doctor.notes(found_versions))
    timings = []
    for name in installed() if timing else ():
        say(f"timing {name} …")
        timings.append(doctor.time_backend(name))
    rows = [*found_versions.items()]
    rows.append(("backends", ", ".join(installed()) or f"none; install: {install_line(RECOMMENDED)}"))
    size = f"{cache.size_bytes / 1e6:,.0f} MB in {cache.path}"
    absent = f"not downloaded; `cifarnet data fetch` puts it in {cache.path}"
    rows.append(("CIFAR-10", size if cache.present else absent))
    rows += [("known conflicts", sentence) for sentence in bad_pairs or ["none"]]
    rows += [("note", sentence) for sentence in notes]
    for each in timings:
        speed = f"{each.images_per_s or 0:,} training images per second on {', '.join(each.devices)}"
        rows.append((each.backend, f"failed: {each.failure}" if each.failure else speed))
    if winner := doctor.fastest(timings):
        rows.append(("fastest", winner))
    lines = (f"{name:<16}{text}" for name, text in rows)
    document = {
        "versions": found_versions,
        "known_bad": bad_pairs,
        "notes": notes,
        "cache": asdict(cache) | {"path": str(cache.path)},
        "timings": [asdict(each) for each in timings],
    }
    out_answer(document, lines, as_json=as_json)
