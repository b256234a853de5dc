"""Public datasets in one form: a reader a format, one record of a photo and its people. No training, no pixels changed.

A new dataset is one file here with `matches` and `read`, and one row in `registry.py`.
"""
