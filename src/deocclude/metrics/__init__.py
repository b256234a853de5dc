"""Measures of masks, content, detections and distributions. Pure functions of arrays."""
