"""Training and evaluation data: datasets, sources, synthetic occlusion, samples, sets. Not needed by `run`."""
