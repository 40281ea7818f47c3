"""Applications around a model file: demo page, conformance check, environment check."""
