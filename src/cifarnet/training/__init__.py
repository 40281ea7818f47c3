"""Fit the network, stop early, survive interruption, resume exactly and write the record."""
