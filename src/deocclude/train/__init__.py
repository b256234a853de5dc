"""Training: configs, the engine that both stages share, one file a stage, checkpoints."""
