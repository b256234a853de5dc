"""Several trainings, measured alike, in one table."""
