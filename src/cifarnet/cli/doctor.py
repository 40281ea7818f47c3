"""``cifarnet doctor``: installed versions, known conflicts and the speed of each backend."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from .display import out_answer, say
from .options import JsonOption

if TYPE_CHECKING:
    from cifarnet.apps.doctor import Timing
    from cifarnet.data import CacheState


def command(
    timing: Annotated[
        bool, typer.Option(help="Time a short training on each backend, in a subprocess, and list its devices.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Show installed versions, known conflicts and backend speed."""
    from cifarnet.apps import doctor
    from cifarnet.backends import NAMES, install_line, installed
    from cifarnet.data import cache_state
    from cifarnet.system import PACKAGES, versions

    found_versions, cache = versions((*PACKAGES, *doctor.ONNXRUNTIMES)), cache_state()
    bad_pairs, notes = doctor.known_bad_pairs(found_versions), list(doctor.notes(found_versions))
    timings = []
    for name in installed() if timing else ():
        say(f"timing {name} …")
        timings.append(doctor.time_backend(name))
    rows = [*found_versions.items()]
    rows.append(("backends", ", ".join(installed()) or f"none; install: {install_line(NAMES[1])}"))
    rows.append(("CIFAR-10", _cache_sentence(cache)))
    rows += [("known conflicts", sentence) for sentence in bad_pairs or ["none"]]
    rows += [("note", sentence) for sentence in notes]
    rows += [(each.backend, _timing_sentence(each)) for each in timings]
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


def _cache_sentence(cache: "CacheState") -> str:
    if not cache.present:
        return f"not downloaded; `cifarnet data fetch` puts it in {cache.path}"
    return f"{cache.size_bytes / 1e6:,.0f} MB in {cache.path}"


def _timing_sentence(timing: "Timing") -> str:
    if timing.images_per_s is None:
        return f"failed: {timing.failure}"
    return f"{timing.images_per_s:,} training images per second on {', '.join(timing.devices)}"
