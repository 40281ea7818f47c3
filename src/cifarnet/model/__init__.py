"""The network: one Keras 3 definition for three backends."""
