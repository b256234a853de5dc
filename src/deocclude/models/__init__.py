"""Torch definitions of the networks, without devices, optimisers or training data."""
