"""Train the same model on several backends, each in its own process, and measure how the results differ."""
