"""Training samples and batches, drawn from sources by synthesis."""
