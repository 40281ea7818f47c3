"""What accuracy a recipe reaches after which time, from the start of the process."""
