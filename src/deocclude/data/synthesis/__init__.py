"""Synthetic occlusion: scenes composed of people, occluders and backgrounds, and corrupted masks."""
