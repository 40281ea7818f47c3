"""Write the model card: Markdown with the metadata header of the Hugging Face Hub."""

import hashlib
import re
from typing import Any

from cifarnet.dataset import NAMED_SOURCES
from cifarnet.errors import printable
from cifarnet.evaluation.metrics import Evaluation

from .commands import export_command
from .evidence import Evidence
from .page import environment, values
from .words import spaced

HUB_NAMES = {"cifar10": "uoft-cs/cifar10"}
FOLDER = "imagefolder"
"""Dataset type of a folder of images on the hub."""
SPECIAL = re.compile(r"([\\`*_\[\]<>|~&#$])")
"""Characters with a meaning in Markdown."""


SEAL = "<!-- cifarnet: SHA-256 of the text above: "
"""Start of the last line of a card, a comment that tells whether the card was edited."""


def draw_card(evidence: Evidence, evaluation: Evaluation, engine: str) -> str:
    """Return the model card as Markdown, with the metadata of the Hugging Face Hub at the top.

    It states no license, since the licenses of weights and images are unknown. The last line is its seal.
    """
    import yaml

    template = environment(_escaped, autoescape=False).get_template("modelcard.jinja")
    body = template.render(
        values(evidence, evaluation, engine),
        settings={spaced(name): _text(value) for name, value in evidence.record.training.items()},
        model={spaced(name): _text(value) for name, value in evidence.record.model.to_json().items()},
        export=export_command(evidence.words, views=evidence.export_views),
        is_named=evidence.record.data.source in NAMED_SOURCES,
    )
    facts = _header(evidence, evaluation)
    is_printable = all(line.isprintable() for line in yaml.safe_dump(facts, allow_unicode=True).splitlines())
    header = yaml.safe_dump(facts, allow_unicode=is_printable, sort_keys=False)  # otherwise with YAML escapes
    text = f"---\n{header}---\n\n{body}\n"
    return f"{text}{_seal(card_bytes(text))}\n"


def card_bytes(card: str) -> bytes:
    """Return the content of the file; a folder name in it may be invalid UTF-8."""
    return card.encode(errors="backslashreplace")


def is_edited(content: bytes) -> bool:
    """Return whether the file of a card was changed since cifarnet wrote it, or is of an earlier version."""
    text, _, _ = content.rpartition(SEAL.encode())
    return content.strip() != text + _seal(text).encode()


def _seal(text: bytes) -> str:
    return f"{SEAL}{hashlib.sha256(text).hexdigest()} -->"


def _escaped(value: Any) -> Any:
    """Return a template value on one line, with Markdown escaped, unless it is marked as safe."""
    if hasattr(value, "__html__"):
        return value
    return SPECIAL.sub(r"\\\1", printable(" ".join(str(value).split())))


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _header(evidence: Evidence, evaluation: Evaluation) -> dict[str, Any]:
    source = evidence.record.data.source
    known = HUB_NAMES.get(source or FOLDER)
    kind = known or (source if source in NAMED_SOURCES else FOLDER)
    exported = {"library_name": "onnx"} if evidence.model_file else {}
    tags = ["cifarnet", "keras", evidence.record.backend, *(["onnx"] if evidence.model_file else [])]
    return {
        "language": "en",
        **exported,
        "pipeline_tag": "image-classification",
        "tags": tags,
        **({"datasets": [known]} if known else {}),
        "metrics": ["accuracy"],
        "model-index": [{"name": evidence.name, "results": [_result(evidence, evaluation, kind)]}],
    }


def _result(evidence: Evidence, evaluation: Evaluation, dataset: str | None) -> dict[str, Any]:
    figures = (
        ("accuracy", "Accuracy", evaluation.accuracy),
        ("accuracy", "Top-2 accuracy", evaluation.top2_accuracy),
        ("loss", "Cross-entropy (nats)", evaluation.loss),
        ("ece", "Expected calibration error", evaluation.reliability.ece),
    )
    return {
        "task": {"type": "image-classification", "name": "Image classification"},
        "dataset": {"type": dataset, "name": evidence.record.data.name, "split": "test"},
        "metrics": [{"type": kind, "name": name, "value": round(value, 6)} for kind, name, value in figures],
    }
