"""Inspection of datasets and sets: checks, and a page of images."""
