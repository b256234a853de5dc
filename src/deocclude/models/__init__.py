"""Torch definitions of the networks. No device, no files, no optimiser here."""
