"""What a training says while it goes, for whoever started it and looks at the clock."""

SAID = "said: "
"""Opens a line on stdout that is a JSON object."""
