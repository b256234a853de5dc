"""Weights files of training: .safetensors on disk, by sha256, in the git history, and on the Hugging Face hub."""
