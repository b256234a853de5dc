"""Weights files of training: .safetensors on disk and on the Hugging Face hub."""
