"""Who takes part. Each module has one function, ``contend(task, turns)``; a row here is a module with its options."""

from benchmarks.harness.contest import Contender

HERE = "benchmarks.training.contenders"
LOOP_NEEDS = {"jax": ("jax",), "torch": ("torch",), "tensorflow": ("tensorflow",)}


def _cifarnet(backend: str) -> Contender:
    return Contender(
        name=f"cifarnet on {backend}",
        module=f"{HERE}.cifarnet_run",
        group="cifarnet",
        framework=backend,
        needs=("keras", backend),
        environment={"KERAS_BACKEND": backend},
    )


def _keras(backend: str, steps: int = 1) -> Contender:
    return Contender(
        name=f"Keras fit on {backend}" + (f", {steps} steps per execution" if steps > 1 else ""),
        module=f"{HERE}.keras_fit",
        group="Keras",
        framework=backend,
        needs=("keras", backend),
        options={"steps_per_execution": steps},
        environment={"KERAS_BACKEND": backend},
    )


def _loop(name: str, framework: str, **options: object) -> Contender:
    return Contender(
        name=name,
        module=f"{HERE}.{framework}_loop",
        group="loop",
        framework=framework,
        needs=LOOP_NEEDS[framework],
        options=options,
    )


CONTENDERS = (
    *map(_cifarnet, ("jax", "torch", "tensorflow")),
    *map(_keras, ("jax", "torch", "tensorflow")),
    _keras("jax", steps=10),
    _keras("tensorflow", steps=10),
    _loop("PyTorch loop", "torch"),
    _loop("PyTorch loop, torch.compile", "torch", compiled=True),
    _loop("JAX loop", "jax"),
    _loop("JAX loop, first layer by patches", "jax", convolution="first", pooling="reshape"),
    _loop("JAX loop, all by patches", "jax", convolution="patches", pooling="reshape"),
    # XLA's convolutions are left out of loops: inside one they took 14 times the processor time of the same steps
    # outside (1,024 ms against 71 at batch 30), so that a scan is tried with products of patches, or unrolled.
    _loop("JAX loop, all by patches, lax.scan", "jax", convolution="patches", pooling="reshape", chunk=50),
    _loop("JAX loop, lax.scan unrolled", "jax", convolution="first", pooling="reshape", chunk=5, unroll=True),
    _loop("tf.function loop", "tensorflow"),
)
"""In the order of the start; the tables sort by rate."""
TOY = ("cifarnet on torch", "PyTorch loop")
"""Enough to try the harness with: ours and by hand, on the framework that starts soonest."""
