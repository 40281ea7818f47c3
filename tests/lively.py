"""Networks whose normalization layers have nontrivial averages, without training."""

import numpy as np

NORMALISED = {
    "whitening": 2,
    "convolutions_per_block": 2,
    "pooling": "first",
    "ghost_batch": 8,
    "global_pooling": "average",
    "dense_units": (),
}


def with_lively_moments(model):
    """Give every normalisation averages and an offset of its own, as training does."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if "norm_" in variable.path:
            low = 0.5 if variable.path.endswith("variance") else -0.3
            variable.assign(rng.uniform(low, low + 0.6, tuple(variable.shape)))
    return model
