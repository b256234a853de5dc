"""Files in and out: images, series of photos, COCO, layers, results, stamps, typical poses, Hugging Face models."""
