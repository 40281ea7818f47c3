"""The training implementations: each row is the function ``run`` of a module here, and its options."""

from benchmarks.harness.rounds import Implementation

HERE = "benchmarks.training.implementations"


def _cifarnet(backend: str) -> Implementation:
    return Implementation(
        name=f"cifarnet on {backend}",
        program=f"{HERE}.cifarnet_run:run",
        group="cifarnet",
        framework=backend,
        needs=("keras", backend),
        environment={"KERAS_BACKEND": backend},
    )


def _keras(backend: str, steps: int = 1) -> Implementation:
    return Implementation(
        name=f"Keras fit on {backend}" + (f", {steps} steps per execution" if steps > 1 else ""),
        program=f"{HERE}.keras_fit:run",
        group="Keras",
        framework=backend,
        needs=("keras", backend),
        options={"steps_per_execution": steps},
        environment={"KERAS_BACKEND": backend},
    )


def _loop(name: str, framework: str, **options: object) -> Implementation:
    program = f"{HERE}.{framework}_loop:run"
    return Implementation(
        name=name, program=program, group="loop", framework=framework, needs=(framework,), options=options
    )


IMPLEMENTATIONS = (
    *map(_cifarnet, ("jax", "torch", "tensorflow")),
    # Steps per execution where they pay: on torch they gain nothing.
    _keras("jax", steps=10),
    _keras("torch"),
    _keras("tensorflow", steps=10),
    _loop("PyTorch loop", "torch"),
    _loop("PyTorch loop, torch.compile", "torch", compiled=True),
    # The fastest of six loops that were measured: their rows are in the table of docs/performance.md.
    _loop("JAX loop, lax.scan unrolled", "jax"),
    _loop("tf.function loop", "tensorflow"),
)
"""In the order of their start; the tables sort by rate."""
FEWER = tuple(each.name for each in IMPLEMENTATIONS if each.framework == "tensorflow" or each.group != "Keras")
"""Implementations at the larger batch sizes, where the overhead of a step matters less."""
TOY_NAMES = ("cifarnet on torch", "PyTorch loop")
