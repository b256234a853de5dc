"""Files in and out: images, COCO, layers, results, request stamps, typical poses, Hugging Face models."""
