"""Readers of public datasets, one a format, into one record of a photo and its people. Pixels are not changed.

A new dataset is one file here with `matches` and `read`, and one row in `registry.py`.
"""
