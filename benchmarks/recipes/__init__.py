"""Accuracy of a recipe against time, from the start of the process."""

import json

PREFIX = "said: "
"""Opens a line on stdout that is a JSON object."""


def report(**facts: float) -> None:
    """Print facts in a line for the benchmark, which adds the time."""
    print(PREFIX + json.dumps(facts), flush=True)
