"""Train, evaluate, export, inspect, predict and report on each backend with every declared minimum version exactly.

``python tests/minimums.py FOLDER`` replaces the environment in FOLDER. `make nightly` calls it.
"""

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1]
GOLDEN = PROJECT / "export" / "golden" / "images"
BACKENDS = ("jax", "torch", "tensorflow")
FOR_DEVELOPMENT = ("dev", "bench", "ray")
"""Extras whose minimums are the versions in constraints.txt: `make test`, `bench` and `nightly` run with these."""
STEPS = (
    ("train", "--help"),
    ("train", "--data", "synthetic", "--epochs", "1", "--recipe", "fast"),
    ("export",),
    ("train", "--data", "synthetic", "--epochs", "1", "--track", "tensorboard"),
    ("evaluate",),
    ("export",),
    ("inspect", "runs/latest/model.onnx"),
    ("evaluate", "runs/latest/model.onnx"),
    ("export", "--int8", "--output", "int8.onnx"),
    ("predict", "runs/latest/model.onnx", str(GOLDEN)),
    ("predict", "int8.onnx", str(GOLDEN)),
    ("robustness", "runs/latest/model.onnx"),
    ("report",),
    ("tune", "--data", "synthetic", "--trials", "2", "--recipe", "recipe.json"),
)


def requirements(*, development: bool) -> list[str]:
    """Return what pyproject.toml asks for, cifarnet's own extras left out: users' packages or those for development."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].items()
    listed = [each for name, several in extras for each in several if (name in FOR_DEVELOPMENT) == development]
    return [each for each in [*([] if development else project["dependencies"]), *listed] if "cifarnet[" not in each]


def pins() -> list[str]:
    """Return the minimum of each package for users as a line of a constraints file."""
    return [each.replace(">=", "==", 1) for each in requirements(development=False)]


def install(folder: Path) -> None:
    """Make the environment ``folder`` anew, with the minimums in it."""
    subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
    constraints = folder / "minimums.txt"
    constraints.write_text("\n".join(pins()) + "\n")
    extras = f"{PROJECT}[all,heic,tensorboard,tune]"
    subprocess.run([folder / "bin/python", "-m", "pip", "install", "-q", "-c", constraints, extras], check=True)


def use(folder: Path, backend: str) -> None:
    """Take each step on ``backend``; end at the first that fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["KERAS_BACKEND"] = backend
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "recipe.json").write_text('{"recipe": "seed", "settings": {"epochs": 1}}')
        for step in STEPS:
            done = subprocess.run(
                [folder / "bin/cifarnet", *step],
                cwd=place,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"{done.stdout}{done.stderr}\nerror: `cifarnet {' '.join(step)}` fails on {backend}")
    print(f"{backend}: every step works with the declared minimums", flush=True)


if __name__ == "__main__":
    install(Path(sys.argv[1]).absolute())
    for each in BACKENDS:
        use(Path(sys.argv[1]).absolute(), each)
