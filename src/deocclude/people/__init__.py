"""Who is in the image: detector, segmenters, COCO files, prompts, choice, duplicates."""
