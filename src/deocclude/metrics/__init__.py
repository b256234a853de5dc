"""Measures of masks, content, detections and distributions: pure functions on arrays, no files, no networks."""
