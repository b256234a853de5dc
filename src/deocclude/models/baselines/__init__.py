"""Baselines: one file per method, built from the same blocks as the package's own networks.

Each keeps the architecture and training target of its method and takes the inputs of the package's own networks: a
crop and an initial mask (stage 1), or the visible body and its masks (stage 2). `train/methods.py` lists all of them.
"""
