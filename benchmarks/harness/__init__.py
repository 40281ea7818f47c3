"""Run implementations side by side in rounds, store the samples, and print and draw them."""
