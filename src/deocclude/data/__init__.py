"""Training and validation data: readers, synthetic occlusion, mask degradation, frozen sets. Not needed by `run`."""
