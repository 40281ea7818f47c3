"""The recipe's network as others would write it: stock Keras layers, and a PyTorch module."""
