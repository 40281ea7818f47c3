"""Small programs around a model file: the browser demo, the conformance check, the doctor."""
