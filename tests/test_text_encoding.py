"""Text files and the output of other processes are UTF-8, whatever the encoding of the locale is."""

import ast
import json
import os
from pathlib import Path

from tests.processes import python

SOURCE = Path(__file__).parents[1] / "src" / "cifarnet"
OPENERS = {"open": 0, "TemporaryFile": 0, "NamedTemporaryFile": 0, "fdopen": 1}
"""Calls that may open text, and the place of the mode among their arguments."""
OTHERS = ("Image", "tarfile", "opener", "os")
"""Their ``open`` is another one."""


def lacks_encoding(call: ast.Call) -> bool:
    """Tell whether a call reads or writes text in the encoding of the locale."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    is_text = name in ("read_text", "write_text") or "text" in given
    if name in OPENERS and not (name == "open" and owner in OTHERS):
        mode = given.get("mode") or (*call.args[OPENERS[name] :], None)[0]
        is_text = "b" not in ast.unparse(mode) if mode else name in ("open", "fdopen")
    return is_text and "encoding" not in given


def test_a_line_without_an_encoding_is_recognized():
    for line in (
        "path.read_text()",
        "path.open()",
        "path.open('w')",
        "tempfile.TemporaryFile('w+')",
        "subprocess.run(command, text=True)",
    ):
        assert lacks_encoding(ast.parse(line, mode="eval").body), line
    for line in ("path.open('w', encoding='utf-8')", "path.open('rb')", "tempfile.TemporaryFile()", "Image.open(path)"):
        assert not lacks_encoding(ast.parse(line, mode="eval").body), line


def test_every_text_file_and_every_process_is_read_and_written_with_an_encoding():
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and lacks_encoding(node)
    ]
    assert found == []


def test_a_record_in_utf8_is_read_where_the_locale_is_ascii(tmp_path):
    (tmp_path / "runs" / "stored").mkdir(parents=True)
    record = json.dumps({"format": 2, "recipe": "Größe"}, ensure_ascii=False)
    (tmp_path / "runs" / "stored" / "run.json").write_text(record, encoding="utf-8")
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    done = python("-m", "cifarnet", "train", "--resume", "stored", cwd=tmp_path, env=os.environ | ascii_locale)
    assert done.stderr == "error: the run's format is 2; expected 1: use the cifarnet that wrote it\n"
