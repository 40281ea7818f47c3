"""What a training says while it goes, for whoever started it and looks at the clock."""

import json

SAID = "said: "
"""Opens a line on stdout that is a JSON object."""


def say(**facts: float) -> None:
    """Say facts in a line."""
    print(SAID + json.dumps(facts), flush=True)
