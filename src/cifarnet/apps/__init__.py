"""Applications around a model file: browser demo, conformance check, environment check."""
