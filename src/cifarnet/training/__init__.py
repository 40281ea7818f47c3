"""Training: the loop, early stopping, checkpoints, exact resume and fine-tuning."""
