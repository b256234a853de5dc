"""Evaluation sets: how they are built, stored and read."""
