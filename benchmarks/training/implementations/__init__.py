"""The training implementations: each row is the function ``run`` of a module here, and its options."""

from benchmarks.harness.rounds import Implementation

BACKENDS = ("jax", "torch", "tensorflow")


def _row(name: str, module: str, group: str, framework: str, **options: object) -> Implementation:
    """Return a row; all but hand-written loops need Keras."""
    needs_keras = group != "loop"
    return Implementation(
        name=name,
        program=f"{__name__}.{module}:run",
        group=group,
        framework=framework,
        needs=("keras", framework) if needs_keras else (framework,),
        options=options,
        environment={"KERAS_BACKEND": framework} if needs_keras else {},
    )


IMPLEMENTATIONS = (
    *(_row(f"cifarnet on {backend}", "cifarnet_run", "cifarnet", backend) for backend in BACKENDS),
    # Several steps per execution where they pay: on torch they gain nothing.
    _row("Keras fit on torch", "keras_fit", "Keras", "torch"),
    *(
        _row(f"Keras fit on {backend}, 10 steps per execution", "keras_fit", "Keras", backend, steps_per_execution=10)
        for backend in ("jax", "tensorflow")
    ),
    _row("PyTorch loop", "torch_loop", "loop", "torch"),
    _row("PyTorch loop, torch.compile", "torch_loop", "loop", "torch", compiled=True),
    _row("JAX loop, lax.scan unrolled", "jax_loop", "loop", "jax"),  # the fastest of six at batch 30
    _row("tf.function loop", "tensorflow_loop", "loop", "tensorflow"),
)
"""In the order of their start; the tables sort by rate."""
FEWER = tuple(each.name for each in IMPLEMENTATIONS if each.framework == "tensorflow" or each.group != "Keras")
"""Implementations at the larger batch sizes, where the overhead of a step matters less."""
TOY_NAMES = ("cifarnet on torch", "PyTorch loop")
